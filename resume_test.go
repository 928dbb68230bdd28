package stunt_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/nettest"
	"golang.org/x/sync/errgroup"

	"github.com/gostunt/stunt"
	"github.com/gostunt/stunt/natlab"
	"github.com/gostunt/stunt/rendezvous"
)

// lasting is a connection that can be resumed, between two nodes in a world.
type lasting struct {
	*world
	a, b         *stunt.Node // b dials
	ln           *stunt.Listener
	link         link
	sawA, sawB   *witness
	hostA, hostB *natlab.Host
	natA, natB   *natlab.NAT
	steps        chan stunt.Step // that tell of the connection's paths
}

func newLasting(t *testing.T, change func(*stunt.Config)) *lasting {
	return lastingIn(unstable(t, 200*time.Millisecond), change)
}

func lastingIn(w *world, change func(*stunt.Config)) *lasting {
	t := w.t
	l := &lasting{world: w, sawA: newWitness(), sawB: newWitness(), steps: make(chan stunt.Step, 1000)}
	l.natA, l.natB = l.nat("nat-a"), l.nat("nat-b")
	l.hostA, l.hostB = l.lab.Host("a", l.natA, natlab.Link{}), l.lab.Host("b", l.natB, natlab.Link{})
	config := func(id string, saw *witness) stunt.Config {
		c := stunt.Config{ID: id, Resume: true, Trace: saw.trace()}
		c.Trace.Step = func(s stunt.Step) {
			if s.Phase == stunt.PhaseLost || s.Phase == stunt.PhaseResumed {
				select {
				case l.steps <- s:
				default: // a test that makes so many does not look at all
				}
			}
		}
		if change != nil {
			change(&c)
		}
		return c
	}
	l.a, l.b = l.node(l.hostA, config("a", l.sawA)), l.node(l.hostB, config("", l.sawB))
	l.ln = listen(t, l.a, 0)
	l.link = connect(t, l.b, l.ln)
	t.Cleanup(l.link.close)
	return l
}

// requireResumed waits until both ends go on over another path.
func (l *lasting) requireResumed() {
	l.t.Helper()
	var dialer, listener bool
	for !dialer || !listener {
		select {
		case s := <-l.steps:
			l.t.Logf("dialer %v: %+v", s.Dialer, s)
			if s.Phase == stunt.PhaseResumed && s.Dialer {
				dialer = true
			} else if s.Phase == stunt.PhaseResumed {
				listener = true
			}
		case <-time.After(60 * time.Second):
			require.FailNow(l.t, "the connection is not resumed")
		}
	}
}

// flow sends bytes both ways while something happens to the path, and some more when that is over; what arrives must be what was sent,
// and then both streams end.
func (l *lasting) flow(happens func()) {
	l.t.Helper()
	const size = 4 << 20
	var all errgroup.Group
	half, on := make(chan struct{}, 2), make(chan struct{})
	sums := make([][]byte, 4)
	for i, ends := range [][2]*stunt.Conn{{l.link.dialer, l.link.listener}, {l.link.listener, l.link.dialer}} {
		all.Go(func() error {
			h := sha256.New()
			from := io.TeeReader(io.LimitReader(rand.NewChaCha8([32]byte{byte(i)}), size), h)
			defer ends[0].CloseWrite()
			if _, err := io.CopyN(ends[0], from, size/2); err != nil {
				return err
			}
			half <- struct{}{}
			<-on
			_, err := io.Copy(ends[0], from)
			sums[2*i] = h.Sum(nil)
			return err
		})
		all.Go(func() error {
			h := sha256.New()
			_, err := io.Copy(h, ends[1])
			sums[2*i+1] = h.Sum(nil)
			return err
		})
	}
	<-half
	<-half // what was written last is still under way
	happens()
	close(on)
	require.NoError(l.t, all.Wait())
	require.True(l.t, bytes.Equal(sums[0], sums[1]) && bytes.Equal(sums[2], sums[3]), "what arrives is what was sent")
}

// kill has the kernel of one end break the path off.
func kill(c *stunt.Conn) {
	path := c.NetConn()
	path.SetLinger(0)
	path.Close()
}

// TestResume kills the path, with bytes under way.
func TestResume(t *testing.T) {
	l := newLasting(t, nil)
	before := l.link.dialer.Path()
	l.flow(func() { kill(l.link.listener) })
	l.requireResumed()
	after := l.link.dialer.Path()
	require.NotEqual(t, before.Local, after.Local)
	require.Equal(t, after.Local.String(), l.link.dialer.LocalAddr().String())
	requireMeeting(t, l.b, l.ln) // what Accept returns is a new connection
}

// TestResumeWithoutListener: the listener is closed, the connection lives on.
func TestResumeWithoutListener(t *testing.T) {
	l := newLasting(t, nil)
	require.NoError(t, l.ln.Close())
	l.flow(func() { kill(l.link.dialer) })
	l.requireResumed()
	require.NoError(t, l.link.listener.Close())
	require.NoError(t, l.link.dialer.Close())
	require.Eventually(t, func() bool { _, err := l.b.Lookup(t.Context(), "a"); return errors.Is(err, stunt.ErrUnknownPeer) },
		30*time.Second, 10*time.Millisecond, "then the node has no reason to be found")
}

// TestResumeOneSided: where one end does not want it, the connection breaks off
// as it always did.
func TestResumeOneSided(t *testing.T) {
	t.Parallel()
	for _, who := range []string{"", "a"} {
		t.Run(who, func(t *testing.T) {
			l := newLasting(t, func(c *stunt.Config) { c.Resume = c.ID == who })
			requirePingPong(t, l.link)
			kill(l.link.listener)
			_, err := l.link.dialer.Read(make([]byte, 1))
			require.ErrorIs(t, err, syscall.ECONNRESET)
			require.Empty(t, l.steps)
		})
	}
}

// TestResumeNATReboot: the NAT forgets the path, which then leads nowhere.
func TestResumeNATReboot(t *testing.T) {
	l := newLasting(t, nil)
	l.flow(l.natB.Reboot)
	l.requireResumed()
}

// TestResumeTotalLoss: nothing comes through, no word of that either, until both
// ends have given up the path for its silence. Then the connection goes on.
func TestResumeTotalLoss(t *testing.T) {
	l := newLasting(t, nil)
	down := l.world.link()
	down.Down = true
	repaired := make(chan error, 1)
	repair := func() error { // when both have noticed
		for range 2 {
			select {
			case s := <-l.steps:
				if s.Phase != stunt.PhaseLost || s.Err == nil || !strings.Contains(s.Err.Error(), "silent") {
					return fmt.Errorf("not given up for its silence: %+v", s)
				}
			case <-time.After(30 * time.Second):
				return errors.New("the loss is not noticed")
			}
		}
		l.natB.SetLink(l.world.link())
		return nil
	}
	l.flow(func() {
		l.natB.SetLink(down)
		go func() { repaired <- repair() }()
	})
	require.NoError(t, <-repaired)
	l.requireResumed()
	requireMeeting(t, l.b, l.ln)
}

// TestResumeMoves: the hosts go to other networks, first the dialer's, then both
// at once. The connection goes with them.
func TestResumeMoves(t *testing.T) {
	l := newLasting(t, nil)
	l.flow(func() {
		l.hostB.Move(l.nat("b2"), natlab.Link{})
		l.requireResumed()
		l.hostA.Move(l.nat("a3"), natlab.Link{})
		l.hostB.Move(l.nat("b3"), natlab.Link{})
		l.requireResumed()
	})
	require.Contains(t, []netip.Addr{l.hostB.Addr(), l.hostB.Addr6()}, l.link.dialer.Path().Local.Addr())
}

// TestResumeServerRestart: the path dies while there is no server, and the
// connection goes on when that is back.
func TestResumeServerRestart(t *testing.T) {
	l := newLasting(t, nil)
	l.flow(func() {
		require.NoError(t, l.server.Close())
		kill(l.link.listener)
		<-l.steps
		<-l.steps
		l.serve()
	})
	l.requireResumed()
}

// TestResumeUnknown: the listener was started anew, and knows nothing of the
// connection. The dialer hears that at once.
func TestResumeUnknown(t *testing.T) {
	key := stunt.NewKey()
	l := newLasting(t, func(c *stunt.Config) {
		if c.ID == "a" {
			c.Key = key
		}
	})
	requirePingPong(t, l.link)
	require.NoError(t, l.ln.Close())
	require.NoError(t, l.a.Close())
	again := l.node(l.hostA, stunt.Config{ID: "a", Key: key})
	listen(t, again, 0)
	kill(l.link.listener)
	l.link.dialer.SetReadDeadline(time.Now().Add(30 * time.Second))
	_, err := l.link.dialer.Read(make([]byte, 1))
	require.ErrorIs(t, err, stunt.ErrNotResumed)
	require.ErrorIs(t, err, rendezvous.CodeNoConnection)
	_, err = l.link.listener.Read(make([]byte, 1))
	require.ErrorIs(t, err, stunt.ErrNotResumed, "its node is closed")
}

// TestResumeGivesUp: no path is found in time.
func TestResumeGivesUp(t *testing.T) {
	l := newLasting(t, func(c *stunt.Config) { c.ResumeTimeout = time.Second })
	requirePingPong(t, l.link)
	require.NoError(t, l.server.Close())
	kill(l.link.listener)
	for _, c := range []*stunt.Conn{l.link.dialer, l.link.listener} {
		_, err := c.Read(make([]byte, 1))
		require.ErrorIs(t, err, stunt.ErrNotResumed)
		require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "it is no deadline of the program's")
		_, err = c.Write([]byte("x"))
		require.ErrorIs(t, err, stunt.ErrNotResumed)
		require.ErrorIs(t, c.CloseWrite(), stunt.ErrNotResumed)
	}
}

// TestResumeRelayKilled kills the server over which a connection goes, a real
// process, with SIGKILL: the nodes meet at the next of their list, and the
// connection goes on over the relay there.
func TestResumeRelayKilled(t *testing.T) {
	t.Parallel()
	natlab.Need(t)
	w := &world{t: t, lab: natlab.Start(t, natlab.Config{Seed: 1}), rtt: 4 * time.Millisecond}
	stuntd := buildStuntd(t)
	first := startStuntd(t, w.lab.Host("first", nil, w.link()), stuntd, t.TempDir())
	host := w.lab.Host("second", nil, w.link())
	second := startStuntd(t, host, stuntd, t.TempDir())
	node := func(id string) *stunt.Node {
		n := &stunt.Node{Config: stunt.Config{ID: id, Server: first.address + "," + second.address,
			OpenSocket: w.behind("host"+id, "eim-apdf").Do, Relay: stunt.RelayOnly, Resume: true}}
		t.Cleanup(func() { n.Close() })
		return n
	}
	a, b := node("a"), node("")
	l := &lasting{world: w, link: connect(t, b, listen(t, a, 0))}
	defer l.link.close()
	l.flow(func() {
		require.NoError(t, first.cmd.Process.Signal(syscall.SIGKILL))
		first.cmd.Wait()
	})
	require.Equal(t, host.AddrPort(3478).String(), l.link.dialer.Path().Remote.String())
}

// TestConnOverResume runs the definition of a net.Conn over connections whose
// paths die while it does, each two times: then the node takes its time.
func TestConnOverResume(t *testing.T) {
	t.Parallel()
	l := lastingIn(newWorld(t, 0), nil)
	nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
		c := connect(t, l.b, l.ln)
		stop, done := make(chan struct{}), make(chan struct{})
		go func() { // until stop, or the second path is dead
			defer close(done)
			tick := time.NewTicker(2 * time.Millisecond)
			defer tick.Stop()
			var last net.Conn
			for killed := 0; killed < 2; {
				select {
				case <-tick.C:
				case <-stop:
					return
				}
				if path := c.dialer.NetConn(); path != last { // it is another by now
					kill(c.dialer)
					last, killed = path, killed+1
				}
			}
		}()
		return c.dialer, c.listener, func() {
			close(stop)
			<-done
			c.close()
		}, nil
	})
	resumed := 0
	for len(l.steps) > 0 {
		if s := <-l.steps; s.Phase == stunt.PhaseResumed && s.Dialer {
			resumed++
		}
	}
	t.Logf("resumed %d times", resumed)
	require.Greater(t, resumed, 5, "paths did die")
}
