//go:build unix

package main

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/gostunt/stunt/rendezvous"
)

// The test binary is stuntd itself when this is set.
const asProgram = "STUNTD_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	goleak.VerifyTestMain(m)
}

// A process is a running stuntd.
type process struct {
	cmd     *exec.Cmd
	address string        // as it printed it
	done    chan struct{} // closed when it has ended
}

// command returns stuntd with args, not started. It does not outlive the test.
func command(t *testing.T, args ...string) *exec.Cmd {
	exe, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), exe, args...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	return cmd
}

// run starts stuntd and waits until it is ready.
func run(t *testing.T, args ...string) *process {
	p := &process{cmd: command(t, args...), done: make(chan struct{})}
	stdout, err := p.cmd.StdoutPipe()
	require.NoError(t, err)
	stderr, err := os.CreateTemp(t.TempDir(), "log")
	require.NoError(t, err)
	t.Cleanup(func() { stderr.Close() })
	p.cmd.Stderr = stderr
	require.NoError(t, p.cmd.Start())
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		text, _ := os.ReadFile(stderr.Name())
		require.NoError(t, err, "%s", text)
	}
	word, address, _ := strings.Cut(strings.TrimSpace(line), " ")
	require.Equal(t, "ready", word)
	p.address = address
	go func() { // ends with the process, which the test's context ends
		p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		<-p.done
	})
	return p
}

// logged returns what the process has logged so far.
func (p *process) logged(t *testing.T) string {
	text, err := os.ReadFile(p.cmd.Stderr.(*os.File).Name())
	require.NoError(t, err)
	return string(text)
}

// waitLog waits until the process has logged text.
func (p *process) waitLog(t *testing.T, text string) {
	require.Eventually(t, func() bool { return strings.Contains(p.logged(t), text) }, 20*time.Second, 5*time.Millisecond, text)
}

// client is a node that registers as alice and stays until the test ends.
func client(t *testing.T, address string, onDown func(error)) *rendezvous.Client {
	servers, err := rendezvous.ParseServers(address)
	require.NoError(t, err)
	_, key, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	c := rendezvous.NewClient(rendezvous.ClientConfig{Servers: servers, Key: key, OnDown: onDown})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { c.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	require.NoError(t, c.Register(t.Context(), "alice"))
	return c
}

// hostPort returns the part of an address that -listen takes.
func hostPort(address string) string {
	hp, _, _ := strings.Cut(address, "#")
	return hp
}

func TestTermDrains(t *testing.T) {
	p := run(t, "-listen", "127.0.0.1:0", "-state", t.TempDir(), "-drain", "1s")
	down := make(chan error, 64)
	client(t, p.address, func(err error) { down <- err })
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	<-p.done
	require.True(t, p.cmd.ProcessState.Success(), "%v: %s", p.cmd.ProcessState, p.logged(t))
	<-down
	require.Contains(t, p.logged(t), "msg=stopped")
}

func TestSecondSignalEndsAtOnce(t *testing.T) {
	p := run(t, "-listen", "127.0.0.1:0", "-state", t.TempDir(), "-drain", "1h")
	client(t, p.address, nil) // will leave some time within that hour
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGINT))
	p.waitLog(t, "msg=stopping")
	require.Eventually(t, func() bool {
		p.cmd.Process.Signal(syscall.SIGINT)
		select {
		case <-p.done:
			return true
		default:
			return false
		}
	}, 20*time.Second, 10*time.Millisecond)
	status := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	require.True(t, status.Signaled() && status.Signal() == syscall.SIGINT, "%v", p.cmd.ProcessState)
}

func TestHangUpReadsTheRulesAgain(t *testing.T) {
	rules := filepath.Join(t.TempDir(), "rules")
	require.NoError(t, os.WriteFile(rules, []byte("deny name bob\n"), 0o600))
	p := run(t, "-listen", "127.0.0.1:0", "-state", t.TempDir(), "-access", rules)
	c := client(t, p.address, nil)
	require.ErrorIs(t, c.Register(t.Context(), "bob"), rendezvous.CodeNotAllowed)
	require.NoError(t, os.WriteFile(rules, nil, 0o600))
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGHUP))
	p.waitLog(t, "access rules read")
	require.NoError(t, c.Register(t.Context(), "bob"))
}

func TestKilledServerComesBackAsItWas(t *testing.T) {
	state := t.TempDir()
	p := run(t, "-listen", "127.0.0.1:0", "-state", state)
	down := make(chan error, 1024)
	c := client(t, p.address, func(err error) { down <- err })
	require.NoError(t, p.cmd.Process.Kill())
	<-p.done
	<-down

	again := run(t, "-listen", hostPort(p.address), "-state", state)
	require.Equal(t, p.address, again.address, "the same port at once, the same pin")
	_, err := c.Ready(t.Context())
	require.NoError(t, err, "the client finds it again")
	require.Eventually(t, func() bool {
		_, err := c.Lookup(t.Context(), "alice")
		return err == nil
	}, 20*time.Second, 10*time.Millisecond, "and registers again")
}

func TestDoubleStart(t *testing.T) {
	p := run(t, "-listen", "127.0.0.1:0", "-state", t.TempDir())
	second := command(t, "-listen", hostPort(p.address), "-state", t.TempDir())
	var stdout, stderr strings.Builder
	second.Stdout, second.Stderr = io.Writer(&stdout), &stderr
	err := second.Run()
	require.Error(t, err)
	require.Equal(t, 1, second.ProcessState.ExitCode())
	require.Empty(t, stdout.String())
	require.Equal(t, 1, strings.Count(stderr.String(), "\n"), stderr.String())
	require.Contains(t, stderr.String(), "address already in use (is another stuntd")
}
