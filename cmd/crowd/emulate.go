package main

import (
	"context"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"github.com/cavaliergopher/cpio"

	"github.com/gostunt/stunt/stuntd/crowd"
)

// A machine has a million files for a process, whatever this one has: it is
// emulated, so that it asks for no right but to run a program. Its first process
// is this program again, which finds orders (guest.go).
const (
	orders = "/orders.json"
	// memoryOf a node is what it takes of the machine, at both ends, and to spare.
	memoryOf   = 64 << 10
	memoryBase = 1 << 30
)

// A report is what the first process says at the end.
type report struct {
	Result *crowd.Result
	Err    string `json:",omitempty"`
}

// emulate has it all measured in a machine of its own.
func emulate(ctx context.Context, kernel string, c crowd.Config) (*crowd.Result, error) {
	dir, err := os.MkdirTemp("", "crowd")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	image, said := filepath.Join(dir, "image"), filepath.Join(dir, "report")
	if err := writeImage(image, c); err != nil {
		return nil, err
	}
	memory := memoryBase
	if n := len(c.Sizes); n > 0 {
		memory += c.Sizes[n-1] * memoryOf
	}
	qemu := exec.CommandContext(ctx, "qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max",
		"-smp", strconv.Itoa(runtime.NumCPU()), "-m", strconv.Itoa(memory>>20)+"M", "-display", "none", "-nic", "none", "-no-reboot",
		"-kernel", kernel, "-initrd", image, "-append", "console=ttyS0 quiet panic=-1 mitigations=off",
		"-serial", "stdio", "-serial", "file:"+said)
	qemu.Stdout, qemu.Stderr = c.Progress, c.Progress
	qemu.WaitDelay = 10 * time.Second
	if err := qemu.Run(); err != nil {
		return nil, errors.Join(ctx.Err(), fmt.Errorf("the emulated machine: %w", err))
	}
	return readReport(said)
}

func readReport(file string) (*crowd.Result, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var r report
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("the emulated machine ended without a report: %w", err)
	}
	if r.Err != "" {
		err = fmt.Errorf("in the emulated machine: %s", r.Err)
	}
	if r.Result != nil {
		r.Result.Conditions, r.Result.Mark = "In an emulated machine: "+r.Result.Conditions, "crowd emulated"
	}
	return r.Result, err
}

// writeImage writes all that is on the machine's disk.
func writeImage(file string, c crowd.Config) error {
	init, err := thisProgram()
	if err != nil {
		return err
	}
	c.Progress = nil
	config, err := json.Marshal(c)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	w := cpio.NewWriter(f)
	for _, x := range []struct {
		name    string
		mode    cpio.FileMode
		content []byte
	}{
		{"proc", cpio.TypeDir | 0o755, nil}, {"dev", cpio.TypeDir | 0o755, nil}, {"tmp", cpio.TypeDir | 0o755, nil},
		{"init", cpio.TypeReg | 0o755, init}, {orders[1:], cpio.TypeReg | 0o644, config},
	} {
		if err == nil {
			err = w.WriteHeader(&cpio.Header{Name: x.name, Mode: x.mode, Size: int64(len(x.content))})
		}
		if err == nil {
			_, err = w.Write(x.content)
		}
	}
	return errors.Join(err, w.Close(), f.Close())
}

// thisProgram returns it, if it needs nothing else to run.
func thisProgram() ([]byte, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	f, err := elf.Open(exe)
	if err != nil {
		return nil, fmt.Errorf("no program of Linux: %w", err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return nil, errors.New("this program needs libraries, which the emulated machine has not: build it with CGO_ENABLED=0")
		}
	}
	return os.ReadFile(exe)
}
