package stunt_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/gostunt/stunt"
	"github.com/gostunt/stunt/natlab"
	"github.com/gostunt/stunt/natlab/nat"
	"github.com/gostunt/stunt/stuntd"
)

// These tests count everything in the process, the lab and the server
// included, so they don't run in parallel with others.

// footprint is what the process holds.
type footprint struct{ goroutines, files int }

func takeFootprint(t *testing.T) footprint {
	files, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return footprint{runtime.NumGoroutine(), len(files)}
}

func (f footprint) within(limit footprint) bool {
	return f.goroutines <= limit.goroutines && f.files <= limit.files
}

// settled returns the footprint when what is on its way out has left: when it
// has not changed for half a second. What it misses makes the test strict, not
// weak: it is asked for before, never after.
func settled(t *testing.T) footprint {
	last, since := takeFootprint(t), time.Now()
	for time.Since(since) < 500*time.Millisecond {
		time.Sleep(20 * time.Millisecond)
		if now := takeFootprint(t); now != last {
			last, since = now, time.Now()
		}
	}
	return last
}

// shrinksTo waits until the footprint is within a limit. On failure it shows
// what runs.
func shrinksTo(t *testing.T, limit footprint) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if takeFootprint(t).within(limit) {
			return
		}
	}
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	require.FailNow(t, "a leak", "%+v, at most %+v was expected; running are\n%s", takeFootprint(t), limit, stacks)
}

// TestDialsLeakNothing dials and closes a thousand times. What is left is what
// was there before, and the ports that the dialer keeps warm.
func TestDialsLeakNothing(t *testing.T) {
	dials := 1000
	if testing.Short() {
		dials = 100
	}
	const warm = 2
	w := newWorld(t, 0)
	// A port with its binding is held until the losers of its race have
	// lingered for 4 s, so there are more at a time than one source is allowed.
	require.NoError(t, w.server.Close())
	w.config.Limits = stuntd.Limits{ConnsPerSource: 2 * dials}
	w.serve()
	c, _ := nat.Profile("eim-apdf")
	router := w.lab.NAT("nat", nil, c, w.link())
	a := w.node(w.behind("a", "eim-apdf"), stunt.Config{ID: "a"})
	d := w.node(w.lab.Host("d", router, natlab.Link{}), stunt.Config{Warm: warm})
	ln := listen(t, a, 0)
	go echoAll(ln) // until ln is closed, by listen's cleanup
	w.ready(a, d)
	limit := settled(t)

	// The server lets a session begin 100 dials a second, after 400 at once.
	pace := rate.NewLimiter(95, 390)
	var all errgroup.Group
	// A dial has 5 s for its punch. Each that is under way takes its part of the
	// machine, which others may use as well, from all.
	all.SetLimit(8)
	for range dials {
		require.NoError(t, pace.Wait(t.Context()))
		all.Go(func() error { return dialOnce(t.Context(), d, "a") })
	}
	require.NoError(t, all.Wait())

	// A warm port has two listeners and a binding, whose two ends are both in
	// this process, with a goroutine each; one more keeps them warm.
	limit.goroutines += 4*warm + 1
	limit.files += 4 * warm
	shrinksTo(t, limit)
	server := netip.AddrPortFrom(w.host.Addr(), 3478)
	require.LessOrEqual(t, held(router, server), 1+warm, "mappings to the server: the session's, and those of warm ports")
}

func dialOnce(ctx context.Context, d *stunt.Node, peer string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	c, err := d.Dial(ctx, "tcp", peer)
	if err != nil {
		return err
	}
	defer c.Close()
	var one [1]byte
	if _, err := c.Write(one[:]); err != nil {
		return err
	}
	if _, err := io.ReadFull(c, one[:]); err != nil {
		return fmt.Errorf("%v: %w", c.Path(), err)
	}
	return nil
}

// held returns how many connections to an endpoint a NAT takes for alive.
func held(router *natlab.NAT, to netip.AddrPort) int {
	n := 0
	router.Inspect(func(engine *nat.NAT) {
		for _, m := range engine.Mappings(time.Now()) {
			if m.Remote == to && m.State == nat.Established {
				n++
			}
		}
	})
	return n
}

// TestIdleNode shows that a node that listens costs the same after strangers
// have come to its port, a peer has dialled it, and its server has gone and
// come back a few times.
func TestIdleNode(t *testing.T) {
	w := newWorld(t, 0)
	sessions := make(chan netip.AddrPort, 16) // our public address in each
	a := w.node(w.at("a", ""), stunt.Config{ID: "a", Trace: &stunt.Trace{
		Session: func(_, public netip.AddrPort) { sessions <- public },
	}})
	go echoAll(listen(t, a, 0)) // until it is closed, by listen's cleanup
	w.ready(a)
	peer, stranger := w.at("peer", ""), w.at("stranger", "")
	port := nextSession(t, sessions)
	limit := settled(t)
	for range 3 {
		knock(t, stranger, port)
		d := w.node(peer, stunt.Config{})
		require.NoError(t, dialOnce(t.Context(), d, "a"))
		require.NoError(t, d.Close())
		require.NoError(t, w.server.Close())
		w.serve()
		port = nextSession(t, sessions)
	}
	shrinksTo(t, limit)
}

// TestWarmPortsDieWithTheirServer shows that a node that dials keeps the ports
// that it was told to keep warm, and none of those whose server has gone.
func TestWarmPortsDieWithTheirServer(t *testing.T) {
	const warm, times = 2, 2
	w := newWorld(t, 0)
	sessions := make(chan netip.AddrPort, 16)
	d := w.node(w.behind("d", "eim-apdf"), stunt.Config{Warm: warm, Trace: &stunt.Trace{
		Session: func(_, public netip.AddrPort) { sessions <- public },
	}})
	for i := range times { // each is another peer, whom the session's port serves
		n := w.node(w.at(fmt.Sprint("peer", i), ""), stunt.Config{ID: fmt.Sprint("peer", i)})
		go echoAll(listen(t, n, 0)) // until it is closed, by listen's cleanup
		w.ready(n)
	}
	w.ready(d)
	nextSession(t, sessions)
	limit := settled(t)
	limit.goroutines += 4*warm + 1 // as in TestDialsLeakNothing
	limit.files += 4 * warm
	for i := range times {
		peer := fmt.Sprint("peer", i)
		require.Eventually(t, func() bool { _, err := d.Lookup(t.Context(), peer); return err == nil }, 30*time.Second, 20*time.Millisecond,
			"the peer is back at the server, too")
		require.NoError(t, dialOnce(t.Context(), d, peer))
		shrinksTo(t, limit)
		if i == times-1 {
			break
		}
		require.NoError(t, w.server.Close())
		w.serve()
		nextSession(t, sessions)
	}
}

func nextSession(t *testing.T, sessions <-chan netip.AddrPort) netip.AddrPort {
	t.Helper()
	select {
	case public := <-sessions:
		return public
	case <-time.After(30 * time.Second):
		require.FailNow(t, "the session did not come back")
		return netip.AddrPort{}
	}
}

// knock connects to a port many times at once, says something that no peer
// says on half of the connections, and leaves.
func knock(t *testing.T, from *natlab.Host, port netip.AddrPort) {
	var all errgroup.Group
	for i := range 40 {
		all.Go(func() error {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			c, err := from.Dial(ctx, "tcp4", port.String())
			if errors.Is(err, syscall.ECONNRESET) {
				return nil // one too many, dropped before we knew that it stood
			}
			if err != nil {
				return err
			}
			defer c.Close()
			if i%2 == 0 {
				c.Write(make([]byte, 1<<10)) // an error: it has been dropped already
			}
			return nil
		})
	}
	require.NoError(t, all.Wait())
}
