package stunt_test

import (
	"bufio"
	"encoding/json"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt/stuntd"
)

var goBlock = regexp.MustCompile("(?s)\n```go\n(.*?)```\n")

// TestReadmePrograms builds the two programs of the README and lets one fetch
// the other's page.
func TestReadmePrograms(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	blocks := goBlock.FindAllStringSubmatch(string(readme), -1)
	require.Len(t, blocks, 2, "a server and a client")
	server, client := build(t, blocks[0][1]), build(t, blocks[1][1])

	s, err := stuntd.Start(stuntd.Config{Listen: []string{"127.0.0.1:0"}, StateDir: t.TempDir()})
	require.NoError(t, err)
	defer s.Close()
	t.Setenv("STUNT_SERVER", s.Address())

	alice := exec.Command(server)
	alice.Dir = t.TempDir() // for its key
	alice.Stderr = os.Stderr
	require.NoError(t, alice.Start())
	defer func() {
		alice.Process.Kill()
		alice.Wait()
	}()
	for end := time.Now().Add(30 * time.Second); ; {
		bob := exec.CommandContext(t.Context(), client)
		errs, err := bob.StderrPipe()
		require.NoError(t, err)
		var page strings.Builder
		bob.Stdout = &page
		require.NoError(t, bob.Start())
		said, err := io.ReadAll(bufio.NewReader(errs))
		require.NoError(t, err)
		if err := bob.Wait(); err != nil && strings.Contains(string(said), "unknown peer") && time.Now().Before(end) {
			continue // alice is not there yet
		}
		require.Equal(t, "hello from behind a NAT\n", page.String(), "%s", said)
		return
	}
}

// build makes a program of this source, as if it lay in a folder of this
// module, and returns its file.
func build(t *testing.T, source string) string {
	t.Helper()
	dir := t.TempDir()
	file, exe := filepath.Join(dir, "main.go"), filepath.Join(dir, "program")
	if runtime.GOOS == "windows" {
		exe += ".exe"
	}
	require.NoError(t, os.WriteFile(file, []byte(source), 0o600))
	here, err := os.Getwd()
	require.NoError(t, err)
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(here, "readme", "main.go"): file}})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o600))
	out, err := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-overlay", filepath.Join(dir, "overlay.json"), "-o", exe, "./readme").CombinedOutput()
	require.NoError(t, err, "go build: %s", out)
	return exe
}

var (
	mdLink  = regexp.MustCompile(`\[([^][]*)\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.+)$`)
	fence   = regexp.MustCompile("(?ms)^```.*?^```$")
)

// TestLinks follows every link between the documents, to its heading, and from
// a name to the Go file that has it.
func TestLinks(t *testing.T) {
	anchors := make(map[string]map[string]bool) // by file
	texts := make(map[string]string)
	require.NoError(t, filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".md" {
			return err
		}
		b, err := os.ReadFile(path)
		texts[path], anchors[path] = fence.ReplaceAllString(string(b), ""), map[string]bool{"": true}
		for _, m := range heading.FindAllStringSubmatch(texts[path], -1) {
			anchors[path][anchor(m[1])] = true
		}
		return err
	}))
	for path, text := range texts {
		for _, m := range mdLink.FindAllStringSubmatch(text, -1) {
			if strings.Contains(m[2], "://") {
				continue
			}
			to, at, _ := strings.Cut(m[2], "#")
			file := path
			if to != "" {
				file = filepath.Join(filepath.Dir(path), filepath.FromSlash(to))
			}
			there, err := os.ReadFile(file)
			require.NoError(t, err, "%s: the link to %s", path, m[2])
			if anchors[file] != nil {
				require.True(t, anchors[file][at], "%s: no heading for %s", path, m[2])
			}
			if name := strings.Trim(m[1], "`"); name != m[1] && filepath.Ext(file) == ".go" {
				word := regexp.MustCompile(`\b` + regexp.QuoteMeta(name) + `\b`)
				require.True(t, word.Match(there), "%s: no %s in %s", path, name, m[2])
			}
		}
	}
}

// anchor is what GitHub makes of a heading.
func anchor(heading string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '-' || r == '_' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z':
			return r
		}
		return -1
	}, strings.ToLower(heading))
}
