package main

import (
	"bytes"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt/stuntd"
)

// closed is an address that refuses connections: port 1 is not for services.
const closed = "127.0.0.1:1"

// listening starts "stunt listen" and waits until peers can come.
func listening(t *testing.T, id, address string, args ...string) (stderr *text, stop func() int) {
	t.Helper()
	key, _ := newKey(t)
	stderr, stop = background(t, append([]string{"listen", id, "--server", address, "--key", key}, args...)...)
	stderr.await(t, "listening as ")
	return stderr, stop
}

func TestListenAndDial(t *testing.T) {
	address := server(t)
	key, fingerprint := newKey(t)
	big := strings.Repeat("a line that is long enough\n", 1<<15)
	for _, mode := range [][]string{nil, {"--raw"}} {
		alice, stop := listening(t, "alice", address, append([]string{"--to", service(t)}, mode...)...)
		for _, in := range []string{"", "hello", big} {
			args := append([]string{"dial", "alice:22", "--server", address, "--key", key}, mode...)
			code, out, errs := call(t, in, args...)
			require.Zero(t, code, errs)
			require.True(t, out == strings.ToUpper(in), "%d bytes there, %d back", len(in), len(out))
			require.Empty(t, errs, "nothing but the peer's bytes: ssh shows stderr to its user")
		}
		require.Contains(t, alice.String(), "connect with:  stunt dial alice --server '"+address+"'\n", "a line to paste")
		alice.await(t, fingerprint+": connected, ")
		alice.await(t, fingerprint+": closed after ")
		id := alice.await(t, "or, trusting no server, with the ID:")
		code, out, errs := call(t, "by key", "dial", id, "--server", address, "--key", key, "-v")
		require.Zero(t, code, errs)
		require.Equal(t, "BY KEY", out)
		require.Contains(t, errs, "connected, ", "-v tells the path")
		require.Zero(t, stop(), "a signal is how listen ends")
	}
}

func TestDialLocal(t *testing.T) {
	address := server(t)
	t.Setenv("STUNT_SERVER", address) // in place of --server
	listening(t, "alice", address, "--to", service(t))
	key, _ := newKey(t)
	stderr, stop := background(t, "dial", "alice", "--local", "127.0.0.1:0", "--key", key)
	local, _, _ := strings.Cut(stderr.await(t, "listening on "), ",")

	var wg sync.WaitGroup
	results := make([]string, 8)
	for i := range results {
		wg.Go(func() {
			c, err := net.Dial("tcp", local)
			if err != nil {
				results[i] = err.Error()
				return
			}
			defer c.Close()
			io.WriteString(c, strings.Repeat("x", i))
			c.(*net.TCPConn).CloseWrite()
			b, err := io.ReadAll(c)
			if results[i] = string(b); err != nil {
				results[i] = err.Error()
			}
		})
	}
	wg.Wait()
	for i, r := range results {
		require.Equal(t, strings.Repeat("X", i), r, "each connection is one of its own, ended from both sides")
	}
	require.Zero(t, stop(), "a signal is how it ends")
	_, err := net.Dial("tcp", local)
	require.ErrorIs(t, err, syscall.ECONNREFUSED, "the port ends with the command")
}

func TestAllow(t *testing.T) {
	address := server(t)
	friend, fingerprint := newKey(t)
	stranger, _ := newKey(t)
	bob, _ := newKey(t)
	to := service(t)
	there, _ := background(t, "listen", "bob", "--server", address, "--key", bob, "--to", to)
	there.await(t, "listening as ")
	listening(t, "alice", address, "--to", to, "--allow", strings.ToUpper(fingerprint)+",Bob")
	for name, x := range map[string]struct {
		key  string
		code int
		out  string
	}{
		"by fingerprint": {friend, 0, "HI"},
		"by name":        {bob, 0, "HI"},
		"not at all":     {stranger, 1, ""},
	} {
		code, out, errs := call(t, "hi", "dial", "alice", "--server", address, "--key", x.key)
		require.Equal(t, x.code, code, "%s: %s", name, errs)
		require.Equal(t, x.out, out, name)
		if code != 0 {
			require.Contains(t, errs, "does not allow it", name)
		}
	}
}

// TestDialFails: each failure is one line that says what is wrong, and code 1.
func TestDialFails(t *testing.T) {
	address := server(t)
	key, _ := newKey(t)
	listening(t, "alice", address, "--to", service(t))
	listening(t, "web:80", address, "--to", service(t))
	listening(t, "broken", address, "--to", closed)
	listening(t, "rawbroken", address, "--to", closed, "--raw")
	hostport, _, _ := strings.Cut(address, "#")
	for _, x := range []struct{ args, says string }{
		{"nobody", "unknown peer"},
		{"web:81", "connection refused"},
		{"alice --raw", "wants encrypted connections"},
		{"broken", "the connection broke off"},
		{"rawbroken --raw", "the connection broke off"},
		{"alice --server " + closed + " --timeout 300ms", "connection refused"},
		{"alice --server " + hostport + " --timeout 5s", "certificate"},
		{"alice --server " + hostport + "#sha256:" + strings.Repeat("00", 31) + "01", "not the pinned one"},
		{"alice --local 127.0.0.1:0 --server " + hostport, "certificate"},
		{"alice --key " + t.TempDir(), "is a directory"},
	} {
		args := strings.Fields("dial --server " + address + " --key " + key + " " + x.args)
		code, out, errs := call(t, "hi", args...)
		require.Equal(t, 1, code, "%q: %s", args, errs)
		require.Empty(t, out, "%q", args)
		require.Equal(t, 1, strings.Count(errs, "\n"), "%q: one line, not\n%s", args, errs)
		require.Contains(t, errs, x.says, "%q", args)
	}
}

// TestListenFails: a name that another key holds is told at once.
func TestListenFails(t *testing.T) {
	address := server(t)
	listening(t, "alice", address, "--to", service(t))
	other, fingerprint := newKey(t)
	_, nobodys := newKey(t)
	for id, says := range map[string]string{
		"alice": "belongs to another key",
		nobodys: "is the fingerprint of another key",
	} {
		code, _, errs := call(t, "", "listen", id, "--server", address, "--key", other, "--to", closed)
		require.Equal(t, 1, code, errs)
		require.Contains(t, errs, says)
	}
	own, _ := background(t, "listen", fingerprint, "--server", address, "--key", other, "--to", closed)
	own.await(t, "listening as "+fingerprint)
}

// TestListenIsShutOut: a key that the server takes no more ends "stunt listen",
// which says why.
func TestListenIsShutOut(t *testing.T) {
	rules := filepath.Join(t.TempDir(), "rules")
	require.NoError(t, os.WriteFile(rules, nil, 0o600))
	s, err := stuntd.Start(stuntd.Config{Listen: []string{"127.0.0.1:0"}, StateDir: t.TempDir(), Access: stuntd.Access{File: rules}})
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	key, fingerprint := newKey(t)
	alice := binary(t, "listen", "alice", "--server", s.Address(), "--key", key, "--to", closed)
	said := new(text)
	alice.Stderr = said
	require.NoError(t, alice.Start())
	said.await(t, "listening as ")
	require.NoError(t, os.WriteFile(rules, []byte("deny key "+fingerprint), 0o600))
	s.Reload()
	require.Error(t, alice.Wait(), "by itself, and not with 0")
	require.Equal(t, 1, alice.ProcessState.ExitCode(), said.String())
	require.Contains(t, said.String(), "no more connections: ")
	require.Contains(t, said.String(), "this key is denied")
}

// TestNameIsLost: of two "stunt listen" with one key and name the newer one
// has it, and the older says so.
func TestNameIsLost(t *testing.T) {
	address := server(t)
	key, _ := newKey(t)
	args := []string{"listen", "alice", "--server", address, "--key", key, "--to", closed}
	first, _ := background(t, args...)
	first.await(t, "listening as ")
	second, _ := background(t, args...)
	second.await(t, "listening as ")
	require.Eventually(t, func() bool { return strings.Contains(first.String(), "name lost") },
		30*time.Second, 5*time.Millisecond)
}

// TestNoServer: a service may start before there is a network or a server. It
// waits, and says what for.
func TestNoServer(t *testing.T) {
	key, _ := newKey(t)
	stderr, stop := background(t, "dial", "alice", "--local", "127.0.0.1:0", "--server", closed, "--key", key)
	require.Contains(t, stderr.await(t, "still trying: "), "connection refused", "what is wrong")
	require.Equal(t, 1, stop(), "it never got as far as to listen")
}

// TestRelayIsKilled: a connection over a relay whose machine goes away ends
// with an error at once, at both ends, and with no end of the stream.
func TestRelayIsKilled(t *testing.T) {
	serve := binary(t, "serve", "-listen", "127.0.0.1:0", "-state", t.TempDir())
	ready := new(text)
	serve.Stdout = ready
	require.NoError(t, serve.Start())
	address := ready.await(t, "ready ")
	alice, _ := listening(t, "alice", address, "--to", service(t), "--relay", "only")
	dial := binary(t, "dial", "alice", "--server", address, "-v")
	in, err := dial.StdinPipe()
	require.NoError(t, err)
	defer in.Close()
	stderr := new(text)
	dial.Stderr = stderr
	require.NoError(t, dial.Start())
	require.Contains(t, stderr.await(t, "alice ("), "connected, relay, ")
	// The dialer's word that it has chosen may still be on its way through the relay.
	require.Eventually(t, func() bool { return strings.Contains(alice.String(), ": connected, relay, ") }, 30*time.Second, time.Millisecond)
	require.NoError(t, serve.Process.Kill())
	require.Error(t, dial.Wait(), "it was cut off, and says so")
	require.Eventually(t, func() bool { return strings.Contains(alice.String(), ": closed after ") }, 30*time.Second, time.Millisecond)
}

// TestResumed is TestRelayIsKilled with --resume: the server comes back, and
// the connection goes on where it was.
func TestResumed(t *testing.T) {
	state := t.TempDir()
	serve := func(at string) (server *exec.Cmd, address string) {
		server = binary(t, "serve", "-listen", at, "-state", state)
		ready := new(text)
		server.Stdout = ready
		require.NoError(t, server.Start())
		return server, ready.await(t, "ready ")
	}
	server, address := serve("127.0.0.1:0")
	alice, _ := listening(t, "alice", address, "--to", service(t), "--relay", "only", "--resume")
	dial := binary(t, "dial", "alice", "--server", address, "-v", "--resume")
	in, err := dial.StdinPipe()
	require.NoError(t, err)
	var out bytes.Buffer
	stderr := new(text)
	dial.Stdout, dial.Stderr = &out, stderr
	require.NoError(t, dial.Start())
	stderr.await(t, "alice (")
	require.Eventually(t, func() bool { return strings.Contains(alice.String(), ": connected, relay, ") }, 30*time.Second, time.Millisecond)
	require.NoError(t, server.Process.Kill())
	server.Wait()
	stderr.await(t, "alice: path lost: ")
	_, err = io.WriteString(in, "without a path")
	require.NoError(t, err)
	at, _, _ := strings.Cut(address, "#")
	serve(at)
	require.NoError(t, in.Close())
	require.NoError(t, dial.Wait())
	require.Equal(t, "WITHOUT A PATH", out.String())
	require.Contains(t, stderr.String(), "alice: goes on, relay to ")
}

// TestProcesses runs the programs as a user does: three processes, pipes and
// signals.
func TestProcesses(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no SIGTERM to send")
	}
	begin := func(ready string, args ...string) (stdout, stderr *text, end func()) {
		c := binary(t, args...)
		stdout, stderr = new(text), new(text)
		c.Stdout, c.Stderr = stdout, stderr
		require.NoError(t, c.Start())
		end = sync.OnceFunc(func() {
			c.Process.Signal(syscall.SIGTERM)
			c.Wait()
		})
		t.Cleanup(func() {
			end()
			require.True(t, c.ProcessState.Success(), "%q: %v: %s", args, c.ProcessState, stderr)
		})
		if ready != "" {
			stderr.await(t, ready)
		}
		return stdout, stderr, end
	}
	stdout, _, _ := begin("", "serve", "-listen", "127.0.0.1:0", "-state", t.TempDir(), "-drain", "1ms")
	address := stdout.await(t, "ready ")
	_, heard, end := begin("listening as alice", "listen", "alice", "--server", address, "--to", service(t))

	dial := binary(t, "dial", "alice:22", "--server", address) // as ssh does
	in, err := dial.StdinPipe()
	require.NoError(t, err)
	var out bytes.Buffer
	dial.Stdout, dial.Stderr = &out, os.Stderr
	require.NoError(t, dial.Start())
	_, err = io.WriteString(in, "over a pipe")
	require.NoError(t, err)
	require.NoError(t, in.Close())
	require.NoError(t, dial.Wait())
	require.Equal(t, "OVER A PIPE", out.String())

	// The peer may close first: then dial ends, though stdin is still open.
	dial = binary(t, "dial", "alice", "--server", address)
	in, err = dial.StdinPipe()
	require.NoError(t, err)
	defer in.Close()
	stderr := new(text)
	dial.Stderr = stderr
	dial.Args = append(dial.Args, "-v")
	require.NoError(t, dial.Start())
	stderr.await(t, "alice (")
	// What was not yet accepted is ended, and not cut off.
	require.Eventually(t, func() bool { return strings.Count(heard.String(), ": connected, ") == 2 }, 30*time.Second, time.Millisecond)
	end()
	require.Error(t, dial.Wait(), "it was cut off, and says so")
}
