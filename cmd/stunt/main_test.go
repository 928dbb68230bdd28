package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/gostunt/stunt"
	"github.com/gostunt/stunt/stuntd"
)

// The test binary is stunt itself when this is set.
const asProgram = "STUNT_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	os.Unsetenv("STUNT_SERVER") // what it would be for is no business of tests
	goleak.VerifyTestMain(m)
}

// call runs a command to its end, with in as its stdin.
func call(t *testing.T, in string, args ...string) (code int, out, err string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	var o, e text
	code = run(ctx, env{in: strings.NewReader(in), out: &o, err: &e}, args)
	require.NoError(t, ctx.Err(), "stunt %q must end by itself; it said: %s", args, e.String())
	return code, o.String(), e.String()
}

// text is what a command has written so far.
type text struct {
	mu sync.Mutex // guards following
	b  bytes.Buffer
}

func (x *text) Write(b []byte) (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.b.Write(b)
}

func (x *text) String() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.b.String()
}

// await waits until a line begins with start and returns the rest of it.
func (x *text) await(t *testing.T, start string) (rest string) {
	t.Helper()
	found := func() bool {
		for line := range strings.Lines(x.String()) {
			if r, ok := strings.CutPrefix(line, start); ok && strings.HasSuffix(r, "\n") {
				rest = strings.TrimSpace(r)
				return true
			}
		}
		return false
	}
	for end := time.Now().Add(30 * time.Second); !found(); time.Sleep(2 * time.Millisecond) {
		require.True(t, time.Now().Before(end), "no line begins with %q in:\n%s", start, x.String())
	}
	return rest
}

// background runs a command until the test ends or stop is called, which
// returns its exit code.
func background(t *testing.T, args ...string) (stderr *text, stop func() int) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	stderr = new(text)
	code := make(chan int, 1)
	go func() { // ends with ctx
		code <- run(ctx, env{in: strings.NewReader(""), out: stderr, err: stderr}, args)
	}()
	stop = sync.OnceValue(func() int {
		cancel()
		return <-code
	})
	t.Cleanup(func() { stop() })
	return stderr, stop
}

// server starts a rendezvous server on loopback.
func server(t *testing.T) (address string) {
	t.Helper()
	s, err := stuntd.Start(stuntd.Config{Listen: []string{"127.0.0.1:0"}, StateDir: t.TempDir()})
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	return s.Address()
}

// newKey makes an identity for --key and returns its fingerprint, too.
func newKey(t *testing.T) (file, fingerprint string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "key.pem")
	code, out, _ := call(t, "", "key", "make", "--key", file)
	require.Zero(t, code)
	line, _, _ := strings.Cut(out, "\n")
	return file, strings.TrimPrefix(line, "fingerprint: ")
}

// service is a local TCP service that reads to the end and then answers with
// what it has read in upper case: it needs each direction ended by itself.
func service(t *testing.T) (address string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var wg sync.WaitGroup
	wg.Go(func() { // ends with ln
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				b, err := io.ReadAll(c)
				if err == nil {
					c.Write(bytes.ToUpper(b))
				}
			})
		}
	})
	t.Cleanup(func() { ln.Close(); wg.Wait() })
	return ln.Addr().String()
}

// binary returns stunt as a process of its own, which does not outlive the test.
func binary(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	c := exec.Command(exe, args...)
	c.Env = append(os.Environ(), asProgram+"=1", "XDG_CONFIG_HOME="+t.TempDir())
	t.Cleanup(func() {
		if c.Process != nil && c.ProcessState == nil {
			c.Process.Kill()
			c.Wait()
		}
	})
	return c
}

func TestWrongCommandLines(t *testing.T) {
	for _, x := range []struct{ args, says string }{
		{"frobnicate", `no command "frobnicate"`},
		{"help frobnicate", `no command "frobnicate"`},
		{"--server x dial alice", `no command "--server"`},
		{"demo now", "wants no arguments, not 1"},
		{"demo --nat-a cone", `no NAT "cone"; --list shows them`},
		{"demo --mib many", `invalid value "many" for flag -mib`},
		{"probe", "set --server or $STUNT_SERVER"},
		{"probe --json yes --server a", "wants no arguments, not 1"},
		{"probe --server a#b", "what follows # is neither sha256:"},
		{"probe --server a:b", `port "b"`},
		{"listen --to :80", "wants 1 argument, not 0: stunt listen ID --to host:port"},
		{"listen alice bob --to :80", "wants 1 argument, not 2"},
		{"listen alice", "set --to host:port"},
		{"listen alice --to", "flag needs an argument: -to"},
		{"listen alice --to 80", "--to: address 80: missing port"},
		{"listen alice --to localhost:", "--to: address localhost:: missing port"},
		{"listen alice --to localhost:99999", "--to: address 99999: invalid port"},
		{"listen a_b --to :80", `"a_b" has something other than a-z`},
		{"listen alice:0 --to :80", `port "0" is not a number from 1`},
		{"listen alice --to :80 --allow bob:22", `"bob:22" is neither a name nor a fingerprint`},
		{"listen alice --to :80", "set --server or $STUNT_SERVER"},
		{"dial", "wants 1 argument, not 0: stunt dial ID[:port]"},
		{"dial alice --sever x", "flag provided but not defined: -sever"},
		{"dial alice --local 22 --server x", "--local: address 22: missing port"},
		{"dial alice --timeout 3 --server x", `invalid value "3" for flag -timeout`},
		{"dial alice:ssh --server x", `port "ssh" is not a number`},
		{"dial -", "begins or ends with a hyphen"},
		{"key lose", `"lose" is neither show nor make`},
		{"key make show", "wants 0 to 1 arguments, not 2"},
		{"lab", `wants "grid"`},
		{"lab grid all", "wants no arguments"},
		{"lab grid --format pdf", `no format "pdf"`},
		{"lab grid --nats cone", `no NAT "cone"`},
		{"serve now", `unexpected argument "now"`},
		{"serve -drain soon", `invalid value "soon"`},
	} {
		code, out, err := call(t, "", strings.Fields(x.args)...)
		require.Equal(t, 2, code, "stunt %s: %s", x.args, err)
		require.Empty(t, out, "stunt %s: what is wrong goes to stderr", x.args)
		require.Equal(t, 1, strings.Count(err, "\n"), "stunt %s: one line, not\n%s", x.args, err)
		require.Contains(t, err, x.says, "stunt %s", x.args)
	}
	code, out, err := call(t, "")
	require.Equal(t, 2, code, "no command is none")
	require.Empty(t, out)
	require.Contains(t, err, "stunt dial")
}

func TestHelp(t *testing.T) {
	t.Setenv("STUNT_SERVER", "secret.example.com") // must not be shown for a default
	_, all, _ := call(t, "", "help")
	for _, c := range commands {
		if c.hidden {
			require.NotContains(t, all, c.name)
			continue
		}
		require.Contains(t, all, "stunt "+c.name, "help lists every command")
		for _, args := range [][]string{{c.name, "-h"}, {c.name, "--help"}, {"help", c.name}} {
			if c.name == "lab" {
				args = append(args, "grid")
				if args[0] == "lab" {
					args = []string{"lab", "grid", args[1]}
				}
			}
			code, out, err := call(t, "", args...)
			require.Zero(t, code, "stunt %q", args)
			require.Empty(t, err, "stunt %q: help that was asked for goes to stdout", args)
			require.Contains(t, out, "\n  -", "stunt %q lists flags", args)
			require.NotContains(t, out, "secret.example.com")
		}
	}
}

func TestKey(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", dir) // Linux
	t.Setenv("HOME", dir)            // macOS
	t.Setenv("AppData", dir)         // Windows

	code, out, errs := call(t, "", "key")
	require.Equal(t, 1, code, "to show is not to make")
	require.Empty(t, out)
	require.Contains(t, errs, `"stunt key make" makes one`)

	code, made, _ := call(t, "", "key", "make")
	require.Zero(t, code)
	path, err := keyPath("")
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(path, dir), "the identity is kept in the user's configuration directory")
	require.Regexp(t, `^fingerprint: [a-z2-7]{52}\nfile: `, made)
	require.Contains(t, made, path)
	info, err := os.Stat(path)
	require.NoError(t, err)
	if os.PathSeparator == '/' {
		require.Equal(t, os.FileMode(0o600), info.Mode(), "nobody else may read it")
	}
	for _, args := range [][]string{{"key"}, {"key", "show"}, {"key", "make"}, {"key", "--key", path, "show"}} {
		code, out, _ := call(t, "", args...)
		require.Zero(t, code)
		require.Equal(t, made, out, "stunt %q: the same key for ever", args)
	}
	key, err := stunt.LoadKey(path)
	require.NoError(t, err)
	require.Contains(t, made, stunt.Fingerprint(key.Public().(ed25519.PublicKey)))

	require.NoError(t, os.WriteFile(path, []byte("not a key"), 0o600))
	code, _, errs = call(t, "", "key", "make")
	require.Equal(t, 1, code, "a damaged key is never replaced")
	require.Contains(t, errs, "not a PEM private key")
}
