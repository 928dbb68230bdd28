package stunt_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/nettest"
	"golang.org/x/sync/errgroup"

	"github.com/gostunt/stunt"
	"github.com/gostunt/stunt/internal/streamtest"
	"github.com/gostunt/stunt/natlab"
	"github.com/gostunt/stunt/natlab/nat"
)

// detour is a world in which a relay is the quicker way to begin: the server is
// in the middle of a slow link between two NATs, and remembers of each pair of
// nodes that it took the relay the last time, so that the next dial begins there
// at once.
type detour struct {
	*world
	to      *stunt.Listener
	dialers []detoured
	from    *stunt.Node     // the last one that dialled
	moved   chan stunt.Step // of both ends
}

// detoured are two nodes with one key at one public address. The first finds no
// direct path: it is behind one more NAT, whose ports it may not guess, and in Raw
// mode, in which it has to take the relay.
type detoured struct{ before, now *stunt.Node }

// newDetour makes one for so many connections.
func newDetour(t *testing.T, links int) *detour { return detourOf(t, links, false) }

// detourOf makes one whose connections can be resumed, or not.
func detourOf(t *testing.T, links int, resume bool) *detour {
	w := newWorld(t, 0)
	w.noIPv6 = true
	d := &detour{world: w, moved: make(chan stunt.Step, 1000)}
	trace := &stunt.Trace{Step: func(s stunt.Step) {
		if s.Phase == stunt.PhaseMoved {
			d.moved <- s
		}
	}}
	none := stunt.NewBudget(1, 1)
	a := w.node(w.lab.Host("a", d.slow("nat-a"), natlab.Link{}), stunt.Config{ID: "a", Trace: trace, Security: stunt.Raw, Budget: none, Resume: resume})
	d.to = listen(t, a, 0)
	outer := d.slow("nat-b")
	random, _ := nat.Profile("apdm-random")
	host, behind := w.lab.Host("b", outer, natlab.Link{}), w.lab.Host("before", w.lab.NAT("inner", outer, random, natlab.Link{}), natlab.Link{})
	all := []*stunt.Node{a}
	for range links + 4 { // some for a busy machine: see relayed
		key := stunt.NewKey()
		two := detoured{
			before: w.node(behind, stunt.Config{Key: key, Security: stunt.Raw, Budget: none, Window: 300 * time.Millisecond}),
			now:    w.node(host, stunt.Config{Key: key, Trace: trace, Resume: resume}),
		}
		d.dialers = append(d.dialers, two)
		all = append(all, two.now)
	}
	w.ready(all...)
	return d
}

// slow returns a NAT far from the server.
func (d *detour) slow(name string) *natlab.NAT {
	c, _ := nat.Profile("eim-apdf")
	return d.lab.NAT(name, nil, c, natlab.Link{Delay: 10 * time.Millisecond, Hops: 1, NoIPv6: true})
}

// relayed returns a connection that began over the relay. On a busy machine the
// direct path may be first all the same.
func (d *detour) relayed() link {
	d.t.Helper()
	for _, two := range d.dialers {
		d.dialers = d.dialers[1:]
		d.taught(two.before)
		d.from = two.now
		require.Eventually(d.t, func() bool {
			p, err := d.from.Lookup(d.t.Context(), "a")
			return err == nil && p.Reach == stunt.ReachRelay
		}, 30*time.Second, time.Millisecond, "the server knows it once both ends have reported")
		l := connect(d.t, d.from, d.to)
		if p := l.dialer.Path(); p.Method == stunt.Relayed || p.Timing.Moved > 0 {
			return l
		}
		l.close()
	}
	require.FailNow(d.t, "the relay was never first")
	return link{}
}

// taught has the server learn that a node needs the relay. Its window is short,
// for what it finds directly in it is nothing; on a busy machine it may be too
// short for the relay, and is tried again.
func (d *detour) taught(n *stunt.Node) {
	d.t.Helper()
	for try := 1; ; try++ {
		ctx, cancel := context.WithTimeout(d.t.Context(), 30*time.Second)
		c, err := n.Dial(ctx, "tcp", "a")
		cancel()
		if err == nil {
			link{c, accept(d.t, d.to)}.close()
			return
		}
		require.True(d.t, errors.Is(err, stunt.ErrNoPath) && try < 10, "%v", err)
	}
}

// requireMoved waits until both ends have told of the move.
func (d *detour) requireMoved(l link) {
	d.t.Helper()
	for range 2 {
		select {
		case s := <-d.moved:
			require.Equal(d.t, stunt.SimultaneousOpen, s.Method)
		case <-time.After(30 * time.Second):
			require.FailNow(d.t, "the connection does not move")
		}
	}
	for _, c := range []*stunt.Conn{l.dialer, l.listener} {
		p := c.Path()
		require.Equal(d.t, stunt.SimultaneousOpen, p.Method)
		require.NotZero(d.t, p.Timing.Moved)
		require.Empty(d.t, p.Relay+p.NoDirect)
	}
}

// TestUpgrade: a connection that begins over the relay becomes direct under
// load, in both directions, and the relay is left.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	d := newDetour(t, 1)
	size := int64(32 << 20)
	if testing.Short() {
		size = 4 << 20
	}
	l := d.relayed()
	defer l.close()
	var all errgroup.Group
	var sums [4][sha256.Size]byte
	for i, c := range []*stunt.Conn{l.dialer, l.listener} {
		all.Go(func() error {
			defer c.CloseWrite()
			return hashed(c, io.LimitReader(rand.NewChaCha8([32]byte{byte(i)}), size), &sums[i])
		})
		all.Go(func() error { return hashed(io.Discard, c, &sums[3-i]) })
	}
	require.NoError(t, all.Wait())
	require.Equal(t, sums[:2], sums[2:], "what arrives is what was sent")
	d.requireMoved(l)
	require.Eventually(t, func() bool { return d.server.RelayStats().Pairs == 0 }, 30*time.Second, time.Millisecond, "the relay is left")
}

// hashed copies, and keeps the hash of what passed.
func hashed(to io.Writer, from io.Reader, sum *[sha256.Size]byte) error {
	h := sha256.New()
	_, err := io.Copy(io.MultiWriter(h, to), from)
	h.Sum(sum[:0])
	return err
}

// requireWorks shows that a link works both ways.
func requireWorks(t *testing.T, l link) {
	t.Helper()
	for _, c := range [][2]*stunt.Conn{{l.dialer, l.listener}, {l.listener, l.dialer}} {
		_, err := c[0].Write([]byte("ping"))
		require.NoError(t, err)
		_, err = io.ReadFull(c[1], make([]byte, 4))
		require.NoError(t, err)
	}
}

// TestUpgradeRandomly: whatever the programs do while their connections move,
// each reads what the other has written. The same in virtual time, with many
// moves, is TestMoveRandomly of package secure.
func TestUpgradeRandomly(t *testing.T) {
	t.Parallel()
	const links = 6
	d := newDetour(t, links)
	var all errgroup.Group
	for seed := range uint64(links) {
		l := d.relayed()
		defer l.close()
		all.Go(func() error {
			return streamtest.Draw{Pause: 1 << 26, Deadline: 1 << 26, Piece: 1 << 17}.Run(seed, l.dialer, l.listener)
		})
	}
	require.NoError(t, all.Wait())
	t.Logf("ends that moved: %d of %d", len(d.moved), 2*links)
	require.NotEmpty(t, d.moved, "connections did move")
}

// TestUpgradeIdle: a connection that carries nothing moves as well, and then
// needs the server no more.
func TestUpgradeIdle(t *testing.T) {
	t.Parallel()
	d := newDetour(t, 1)
	l := d.relayed()
	defer l.close()
	d.requireMoved(l)
	requireWorks(t, l) // both directions have left the relay when this has been read
	for _, c := range []*stunt.Conn{l.dialer, l.listener} {
		require.Equal(t, c.Path().Remote.String(), c.RemoteAddr().String())
		require.Equal(t, c.Path().Remote.String(), c.NetConn().RemoteAddr().String())
		require.Equal(t, c.Path().Local.String(), c.LocalAddr().String())
	}
	require.NoError(t, d.server.Close())
	requireWorks(t, l)
}

// TestUpgradeNodeCloses: a connection lives on without its node, on the relay if
// it has not moved by then.
func TestUpgradeNodeCloses(t *testing.T) {
	t.Parallel()
	d := newDetour(t, 1)
	l := d.relayed()
	defer l.close()
	require.NoError(t, d.from.Close())
	requireWorks(t, l)
	require.NoError(t, d.to.Node().Close())
	requireWorks(t, l)
}

// TestUpgradeClosed closes connections whose race still goes on: nothing is left
// of them, and the port of the session serves the next dial to the peer.
func TestUpgradeClosed(t *testing.T) {
	t.Parallel()
	d := newDetour(t, 3)
	for range 3 {
		l := d.relayed()
		_, err := l.dialer.Write([]byte("bye"))
		require.NoError(t, err)
		require.NoError(t, l.dialer.Close())
		got, err := io.ReadAll(l.listener)
		require.NoError(t, err)
		require.True(t, bytes.Equal([]byte("bye"), got))
		require.NoError(t, l.listener.Close())
	}
}

// TestUpgradeResumable: a connection that can be resumed moves like any other,
// and when its direct path dies goes on over another one.
func TestUpgradeResumable(t *testing.T) {
	t.Parallel()
	d := detourOf(t, 1, true)
	l := &lasting{world: d.world, link: d.relayed()}
	defer l.link.close()
	l.flow(func() {
		d.requireMoved(l.link)
		kill(l.link.dialer)
	})
	require.Zero(t, l.link.dialer.Path().Timing.Moved, "it is the path of another dial")
}

// TestConnOverUpgrade runs the definition of a net.Conn over connections that
// move while it does.
func TestConnOverUpgrade(t *testing.T) {
	t.Parallel()
	d := newDetour(t, 11)
	nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
		l := d.relayed()
		return l.dialer, l.listener, l.close, nil
	})
	require.NotEmpty(t, d.moved, "connections did move")
}
