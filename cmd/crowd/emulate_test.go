package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestEmulate measures a few nodes in a machine of their own.
func TestEmulate(t *testing.T) {
	kernel := os.Getenv("STUNT_KERNEL")
	if kernel == "" {
		t.Skip("needs a Linux kernel: STUNT_KERNEL=/boot/vmlinuz-…")
	}
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil || runtime.GOARCH != "amd64" {
		t.Skip("needs qemu-system-x86_64, and to be a program for it")
	}
	t.Parallel()
	dir := t.TempDir()
	crowd := filepath.Join(dir, "crowd")
	build := exec.Command("go", "build", "-o", crowd, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	require.NoError(t, err, string(out))

	scale := filepath.Join(dir, "scale.md")
	require.NoError(t, os.WriteFile(scale, []byte("<!-- crowd emulated -->\n<!-- /crowd emulated -->\n"), 0o600))
	out, err = exec.Command(crowd, "-emulate", kernel, "-sizes", "4,20", "-idle", "0s", "-for", "1s", "-rate", "20", "-kill=false", "-into", scale).CombinedOutput()
	require.NoError(t, err, string(out))
	doc, err := os.ReadFile(scale)
	require.NoError(t, err)
	require.Contains(t, string(doc), "In an emulated machine: ")
	require.Contains(t, string(doc), "\n| 20 | ")

	// What goes wrong in there is told here.
	out, err = exec.Command(crowd, "-emulate", kernel, "-sizes", "20,4").CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "in the emulated machine: crowd: sizes have to rise")
	out, err = exec.Command(crowd, "-emulate", filepath.Join(dir, "none"), "-sizes", "4").CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "could not open kernel file")
}

func TestReadReport(t *testing.T) {
	file := filepath.Join(t.TempDir(), "report")
	for _, cut := range []string{"", `{"Result":`, "Kernel panic"} {
		require.NoError(t, os.WriteFile(file, []byte(cut), 0o600))
		_, err := readReport(file)
		require.ErrorContains(t, err, "ended without a report")
	}
	require.NoError(t, os.WriteFile(file, []byte(`{"Result":{"Rows":[{"Nodes":3}]},"Err":"no more"}`+"\r\n"), 0o600))
	res, err := readReport(file)
	require.EqualError(t, err, "in the emulated machine: no more")
	require.Equal(t, 3, res.Rows[0].Nodes, "what there is counts")
	require.Equal(t, "crowd emulated", res.Mark)
}
