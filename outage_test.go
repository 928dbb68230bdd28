package stunt_test

import (
	"bufio"
	"context"
	"io"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt"
	"github.com/gostunt/stunt/natlab"
)

// TestServerKilled kills a real stuntd process with SIGKILL while connections
// are open and dials under way: open connections go on, listeners come back by
// themselves with the server, and Accept returns no error for it.
func TestServerKilled(t *testing.T) {
	natlab.Need(t)
	w := &world{t: t, lab: natlab.Start(t, natlab.Config{Seed: 1}), rtt: 4 * time.Millisecond}
	w.host = w.lab.Host("server", nil, w.link())
	state := t.TempDir()
	stuntd := buildStuntd(t)
	server := startStuntd(t, w.host, stuntd, state)

	config := stunt.Config{Server: server.address}
	node := func(name string, c stunt.Config) *stunt.Node {
		c.Server, c.OpenSocket = server.address, w.behind(name, "eim-apdf").Do
		n := &stunt.Node{Config: c}
		t.Cleanup(func() { n.Close() })
		return n
	}
	a := node("a", stunt.Config{ID: "a"})
	b := node("b", config)
	ln := listen(t, a, 0)
	l := connect(t, b, ln)
	defer l.close()

	require.NoError(t, server.cmd.Process.Signal(syscall.SIGKILL))
	server.cmd.Wait()
	for range 10 {
		requirePingPong(t, l)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	_, err := b.DialContext(ctx, "tcp", "a")
	cancel()
	require.Error(t, err, "without a server nobody can be introduced")

	server = startStuntd(t, w.host, stuntd, state)
	require.Equal(t, config.Server, server.address, "the same port and the same pin")
	// No dial may need the caller's help; how soon the first succeeds is for
	// the benchmark to say.
	require.Eventually(t, func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		c, err := b.Dial(ctx, "tcp", "a")
		if err != nil {
			return false
		}
		defer c.Close()
		accept(t, ln).Close()
		return true
	}, 60*time.Second, 50*time.Millisecond, "listeners come back by themselves")
	requirePingPong(t, l)
}

// requirePingPong shows that a connection works both ways.
func requirePingPong(t *testing.T, l link) {
	t.Helper()
	for _, d := range [][2]*stunt.Conn{{l.dialer, l.listener}, {l.listener, l.dialer}} {
		_, err := d[0].Write([]byte("ping"))
		require.NoError(t, err)
		d[1].SetReadDeadline(time.Now().Add(20 * time.Second))
		_, err = io.ReadFull(d[1], make([]byte, 4))
		require.NoError(t, err)
	}
}

// daemon is a stuntd that runs as a process of its own.
type daemon struct {
	cmd     *natlab.Cmd
	address string
}

func buildStuntd(t *testing.T) string {
	path := t.TempDir() + "/stuntd"
	out, err := exec.Command("go", "build", "-o", path, "./cmd/stuntd").CombinedOutput()
	require.NoError(t, err, "%s", out)
	return path
}

// startStuntd waits for the ready line.
func startStuntd(t *testing.T, h *natlab.Host, path, state string) *daemon {
	cmd := h.Command(path, "-listen", h.AddrPort(3478).String(), "-state", state, "-log-level", "error")
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	return &daemon{cmd, strings.TrimPrefix(strings.TrimSpace(line), "ready ")}
}
