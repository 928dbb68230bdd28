package stunt_test

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt"
	"github.com/gostunt/stunt/natlab"
	"github.com/gostunt/stunt/natlab/nat"
	"github.com/gostunt/stunt/stuntd"
)

// unstable is a world in which a node that is in trouble notices soon.
func unstable(t *testing.T, keepalive time.Duration) *world {
	t.Parallel()
	w := newWorld(t, 4*time.Millisecond)
	require.NoError(t, w.server.Close())
	w.config.Keepalive = keepalive
	w.serve()
	return w
}

func (w *world) nat(name string) *natlab.NAT {
	return w.lab.NAT(name, nil, nat.Config{}, w.link())
}

// witness hears of what a node notices.
type witness struct {
	sessions chan netip.AddrPort // our public address in each
	changes  chan stunt.NetworkChange
}

func newWitness() *witness {
	return &witness{make(chan netip.AddrPort, 100), make(chan stunt.NetworkChange, 100)}
}

func (w *witness) trace() *stunt.Trace {
	return &stunt.Trace{
		Session: func(_, public netip.AddrPort) { w.sessions <- public },
		Network: func(c stunt.NetworkChange) { w.changes <- c },
	}
}

// change waits for one that a test has made.
func (w *witness) change(t *testing.T) stunt.NetworkChange {
	t.Helper()
	select {
	case c := <-w.changes:
		return c
	case <-time.After(30 * time.Second):
		require.FailNow(t, "the change was not noticed")
		return stunt.NetworkChange{}
	}
}

// requireMeeting shows that one can dial the other, at the first try.
func requireMeeting(t *testing.T, from *stunt.Node, to *stunt.Listener) {
	t.Helper()
	l := connect(t, from, to)
	defer l.close()
	requirePingPong(t, l)
}

// eventuallyMeet waits until one can dial the other again, without any help.
func eventuallyMeet(t *testing.T, from *stunt.Node, to *stunt.Listener) {
	t.Helper()
	require.Eventually(t, func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		c, err := from.Dial(ctx, "tcp", to.Addr().String())
		if err != nil {
			return false
		}
		l := link{c, accept(t, to)}
		defer l.close()
		requirePingPong(t, l)
		return true
	}, 60*time.Second, 50*time.Millisecond)
}

// TestNATRebootBeforeListener: the NAT forgets the session, and the listener
// finds that out by itself.
func TestNATRebootBeforeListener(t *testing.T) {
	w := unstable(t, 200*time.Millisecond)
	router, saw := w.nat("nat-a"), newWitness()
	a := w.node(w.lab.Host("a", router, natlab.Link{}), stunt.Config{ID: "a", Trace: saw.trace()})
	b := w.node(w.behind("b", "eim-apdf"), stunt.Config{})
	ln := listen(t, a, 0)
	nextSession(t, saw.sessions)
	router.Reboot()
	nextSession(t, saw.sessions)
	eventuallyMeet(t, b, ln) // the server has its name before or after we ask
}

// TestNATRebootBeforeDialer: its session is as dead, but the next keepalive is
// far. The dial finds it out, and goes through all the same.
func TestNATRebootBeforeDialer(t *testing.T) {
	w := unstable(t, 0)
	router := w.nat("nat-b")
	a := w.node(w.behind("a", "eim-apdf"), stunt.Config{ID: "a"})
	b := w.node(w.lab.Host("b", router, natlab.Link{}), stunt.Config{})
	ln := listen(t, a, 0)
	require.NoError(t, b.Up(t.Context()))
	router.Reboot()
	requireMeeting(t, b, ln)
}

// TestHostMoves takes both nodes to other networks, first the listener, then
// both at once. Connections from an address that is gone end and say why.
func TestHostMoves(t *testing.T) {
	w := unstable(t, 0)
	sawA, sawB := newWitness(), newWitness()
	hostA, hostB := w.lab.Host("a", w.nat("a1"), natlab.Link{}), w.lab.Host("b", w.nat("b1"), natlab.Link{})
	a := w.node(hostA, stunt.Config{ID: "a", Security: stunt.Raw, Trace: sawA.trace()})
	b := w.node(hostB, stunt.Config{Trace: sawB.trace()})
	raw := w.node(w.at("c", ""), stunt.Config{Security: stunt.Raw})
	ln := listen(t, a, 0)
	w.ready(a, b, raw)
	old := nextSession(t, sawA.sessions)
	nextSession(t, sawB.sessions)
	links := []link{connect(t, b, ln), connect(t, raw, ln)}

	was, was6 := hostA.Addr(), hostA.Addr6()
	a2 := w.nat("a2")
	hostA.Move(a2, natlab.Link{})
	c := sawA.change(t)
	require.True(t, c.Moved)
	require.Equal(t, []netip.Addr{was, was6}, c.Gone)
	require.Equal(t, []netip.Addr{hostA.Addr(), hostA.Addr6()}, c.New)
	public := nextSession(t, sawA.sessions)
	require.Equal(t, a2.Public()[0], public.Addr())
	require.NotEqual(t, old.Addr(), public.Addr())
	eventuallyMeet(t, b, ln)
	r, err := a.Report(t.Context())
	require.NoError(t, err)
	require.Equal(t, []netip.Addr{public.Addr()}, r.Public, "the report is about the NAT of now")

	hostA.Move(w.nat("a3"), natlab.Link{})
	hostB.Move(w.nat("b3"), natlab.Link{})
	nextSession(t, sawA.sessions)
	nextSession(t, sawB.sessions)
	eventuallyMeet(t, b, ln)

	for _, l := range links {
		l.listener.SetReadDeadline(time.Now().Add(30 * time.Second))
		_, err := l.listener.Read(make([]byte, 1))
		require.ErrorIs(t, err, stunt.ErrAddressGone)
		_, err = l.listener.Write([]byte("x"))
		require.ErrorIs(t, err, stunt.ErrAddressGone)
		_, err = l.listener.WriteTo(io.Discard)
		require.ErrorIs(t, err, stunt.ErrAddressGone)
		_, err = l.listener.ReadFrom(strings.NewReader("x"))
		require.ErrorIs(t, err, stunt.ErrAddressGone)
		require.ErrorIs(t, l.listener.CloseWrite(), stunt.ErrAddressGone)
		require.NoError(t, l.listener.Close())
		l.dialer.Close()
	}
}

// TestSmallChanges: what leaves the session's path as it was leaves it alone.
// Another router does not, but connections go on, as long as they do.
func TestSmallChanges(t *testing.T) {
	w := unstable(t, 0)
	saw := newWitness()
	hostA := w.behind("a", "eim-apdf")
	a := w.node(hostA, stunt.Config{ID: "a", Trace: saw.trace()})
	b := w.node(w.behind("b", "eim-apdf"), stunt.Config{})
	ln := listen(t, a, 0)
	nextSession(t, saw.sessions)
	l := connect(t, b, ln)
	defer l.close()

	second := hostA.AddAddr()
	require.Equal(t, stunt.NetworkChange{New: []netip.Addr{second}}, saw.change(t))
	hostA.SetGateway(second.Next())
	c := saw.change(t)
	require.True(t, c.Rerouted && c.Moved, "%+v", c)
	require.Empty(t, slices.Concat(c.Gone, c.New))
	nextSession(t, saw.sessions)
	eventuallyMeet(t, b, ln)
	requirePingPong(t, l)
	require.Empty(t, saw.sessions, "one for the router, none for the address")
}

// TestServerSwitch: when their server is gone, nodes meet at the next of their
// list.
func TestServerSwitch(t *testing.T) {
	w := unstable(t, 0)
	host := w.lab.Host("second", nil, w.link())
	second, err := stuntd.Start(stuntd.Config{Listen: []string{host.AddrPort(3478).String()}, Open: host.Do, StateDir: t.TempDir()})
	require.NoError(t, err)
	t.Cleanup(func() { second.Close() })
	node := func(name string, c stunt.Config) *stunt.Node {
		c.Server, c.OpenSocket = w.server.Address()+","+second.Address(), w.behind(name, "eim-apdf").Do
		n := &stunt.Node{Config: c}
		t.Cleanup(func() { n.Close() })
		return n
	}
	a, b := node("a", stunt.Config{ID: "a"}), node("b", stunt.Config{})
	ln := listen(t, a, 0)
	l := connect(t, b, ln)
	defer l.close()
	require.NoError(t, w.server.Close())
	eventuallyMeet(t, b, ln)
	requirePingPong(t, l)
}

// TestTotalLoss cuts the listener off for as long as it takes its session to
// end. What was open goes on, and the listener comes back.
func TestTotalLoss(t *testing.T) {
	w := unstable(t, 200*time.Millisecond)
	router := w.nat("nat-a")
	a := w.node(w.lab.Host("a", router, natlab.Link{}), stunt.Config{ID: "a"})
	b := w.node(w.behind("b", "eim-apdf"), stunt.Config{})
	ln := listen(t, a, 0)
	l := connect(t, b, ln)
	defer l.close()
	down := w.link()
	down.Down = true
	router.SetLink(down)
	require.Eventually(t, func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		_, err := a.Lookup(ctx, "a")
		return errors.Is(err, stunt.ErrNoServer)
	}, 60*time.Second, 50*time.Millisecond)
	router.SetLink(w.link())
	eventuallyMeet(t, b, ln)
	requirePingPong(t, l)
}
