package stunt_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/gostunt/stunt"
	"github.com/gostunt/stunt/natlab"
)

// TestServerKilled kills a real stuntd process with SIGKILL while connections
// carry bytes and dials are under way: open connections go on, listeners come
// back by themselves with the server, and Accept returns no error for it.
func TestServerKilled(t *testing.T) {
	t.Parallel() // most of it is waiting
	natlab.Need(t)
	w := &world{t: t, lab: natlab.Start(t, natlab.Config{Seed: 1}), rtt: 4 * time.Millisecond}
	w.host = w.lab.Host("server", nil, w.link())
	state := t.TempDir()
	stuntd := buildStuntd(t)
	server := startStuntd(t, w.host, stuntd, state)
	first := server.address
	node := func(name string, c stunt.Config) *stunt.Node {
		c.Server, c.OpenSocket, c.Relay = first, w.behind(name, "eim-apdf").Do, stunt.RelayNever // which ends with its server
		n := &stunt.Node{Config: c}
		t.Cleanup(func() { n.Close() })
		return n
	}
	ln := listen(t, node("a", stunt.Config{ID: "a"}), 0)
	accepting := make(chan error, 1)
	go func() { accepting <- echoAll(ln) }() // until ln is closed
	l := newLoad(t, node("b", stunt.Config{}))
	l.untilMore(&l.dialled)
	l.untilMore(&l.echoed)

	require.NoError(t, server.cmd.Process.Signal(syscall.SIGKILL))
	server.cmd.Wait()
	l.untilMore(&l.failed) // without a server nobody can be introduced
	for range 10 {
		l.untilMore(&l.echoed) // on connections that stood
	}
	server = startStuntd(t, w.host, stuntd, state)
	require.Equal(t, first, server.address, "the same port and the same pin")
	back := time.Now()
	l.untilMore(&l.dialled)
	t.Logf("dials succeed %v after the server is back", time.Since(back).Round(time.Millisecond))
	l.untilMore(&l.echoed)
	l.stop()
	require.Empty(t, accepting, "a server's end is no error of Accept")
	require.NoError(t, ln.Close())
	require.ErrorIs(t, <-accepting, net.ErrClosed)
}

// load is what goes on between two nodes while other things happen to them.
type load struct {
	t                       *testing.T
	node                    *stunt.Node
	dialled, failed, echoed atomic.Int64
	end                     context.CancelFunc
	all                     errgroup.Group
}

// newLoad dials a without a pause, and keeps four connections to it busy. No
// error of these is forgiven.
func newLoad(t *testing.T, n *stunt.Node) *load {
	l := &load{t: t, node: n}
	ctx, end := context.WithCancel(t.Context())
	l.end = end
	pace := rate.NewLimiter(40, 4) // the server's limit is 100 a second
	for range 4 {
		c, err := n.Dial(t.Context(), "tcp", "a")
		require.NoError(t, err)
		l.all.Go(func() error {
			defer c.Close()
			for ctx.Err() == nil {
				if err := l.echo(c); err != nil {
					return fmt.Errorf("a connection that stood: %w", err)
				}
			}
			return nil
		})
		l.all.Go(func() error {
			for pace.Wait(ctx) == nil {
				l.dial(ctx)
			}
			return nil
		})
	}
	return l
}

func (l *load) echo(c net.Conn) error {
	var four [4]byte
	if _, err := c.Write(four[:]); err != nil {
		return err
	}
	c.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.ReadFull(c, four[:]); err != nil {
		return err
	}
	l.echoed.Add(1)
	return nil
}

// dial counts how a dial ends. One that fails says that it was for want of a
// server, or of a peer who has not come back to it yet.
func (l *load) dial(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	c, err := l.node.Dial(ctx, "tcp", "a")
	if err == nil {
		defer c.Close()
		c.SetDeadline(time.Now().Add(20 * time.Second))
		var one [1]byte
		if _, err = c.Write(one[:]); err == nil {
			_, err = io.ReadFull(c, one[:])
		}
	}
	if err != nil {
		clear := errors.Is(err, stunt.ErrNoServer) || errors.Is(err, stunt.ErrUnknownPeer) || ctx.Err() != nil
		assert.True(l.t, clear, "%v", err)
		l.failed.Add(1)
		return
	}
	l.dialled.Add(1)
}

// untilMore waits until a count has grown. What began before is not counted:
// each of the four that dial has at most one dial under way.
func (l *load) untilMore(count *atomic.Int64) {
	l.t.Helper()
	enough := count.Load() + 5
	require.Eventually(l.t, func() bool { return count.Load() >= enough }, 60*time.Second, 5*time.Millisecond)
}

func (l *load) stop() {
	l.end()
	require.NoError(l.t, l.all.Wait())
}

// daemon is a stuntd that runs as a process of its own.
type daemon struct {
	cmd     *natlab.Cmd
	address string
}

func buildStuntd(t testing.TB) string {
	path := t.TempDir() + "/stuntd"
	out, err := exec.Command("go", "build", "-o", path, "./cmd/stuntd").CombinedOutput()
	require.NoError(t, err, "%s", out)
	return path
}

// startStuntd waits for the ready line.
func startStuntd(t testing.TB, h *natlab.Host, path, state string, more ...string) *daemon {
	cmd := h.Command(path, append([]string{"-listen", h.AddrPort(3478).String(), "-state", state, "-log-level", "error"}, more...)...)
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
