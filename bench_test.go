package stunt_test

import (
	"context"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt"
)

// What these benchmarks print, and what it means, is in docs/benchmarks.md.
// Everything is compared with something else in the same run, as a ratio or in
// round trips: those hold on any machine, times do not.

// dialsPerOp is how many dials the dial benchmark makes for one op, so that a
// run with -benchtime=1x has a median to tell.
const dialsPerOp = 20

// BenchmarkDialCost measures from DialContext to the first byte that the peer
// has echoed: both nodes warm, both behind NATs with endpoint-independent
// mapping, 40 ms there and back between any two of the server and the NATs.
// It should take one round trip to the server, two and a half to the peer, and
// at most 5 ms over that. Beside it is plain TCP to a public host: two.
func BenchmarkDialCost(b *testing.B) {
	const rtt = 40 * time.Millisecond
	w := newWorld(b, rtt)
	w.noIPv6 = true // whose firewalls would be crossed as well, and are not what is measured
	a := w.node(w.behind("a", "eim-apdf"), stunt.Config{ID: "a"})
	home := w.behind("b", "eim-apdf")
	d := w.node(home, stunt.Config{})
	ln := listen(b, a, 0)
	go echoAll(ln) // until ln is closed, by listen's cleanup
	w.ready(a, d)

	public := w.at("public", "")
	require.Equal(b, rtt, w.lab.RTT(home, public), "plain TCP has as far to go")
	plain, err := public.Listen(b.Context(), "tcp4", public.AddrPort(7).String())
	require.NoError(b, err)
	b.Cleanup(func() { plain.Close() })
	go echoAll(plain) // until it is closed

	dialPlain := func(ctx context.Context) net.Conn {
		c, err := home.Dial(ctx, "tcp4", plain.Addr().String())
		require.NoError(b, err)
		return c
	}
	dialPeer := func(ctx context.Context) net.Conn {
		c, err := d.DialContext(ctx, "tcp", "a")
		require.NoError(b, err)
		return c
	}
	// The first dial uses the session's port; it also makes the node keep others
	// warm. One of these is ready again when the echo of the dial before is here:
	// a binding takes two round trips, a dial three and a half.
	firstByte(b, dialPeer)

	var dials, told, keyed, stood, chosen, tcp []time.Duration
	cold := 0
	for b.Loop() {
		for range dialsPerOp {
			t, c := firstByte(b, dialPeer)
			p := c.(*stunt.Conn).Path()
			require.Equal(b, stunt.SimultaneousOpen, p.Method, "%+v", p)
			if p.Timing.Session > rtt/2 {
				cold++
			}
			dials, told, keyed = append(dials, t), append(told, p.Timing.Told), append(keyed, p.Timing.Keyed)
			stood, chosen = append(stood, p.Timing.Connected), append(chosen, p.Timing.Chosen)
			t, _ = firstByte(b, dialPlain)
			tcp = append(tcp, t)
		}
	}
	const bound = rtt + 5*rtt/2 // to the server, and to the peer
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	b.ReportMetric(0, "ns/op") // of a mixture: says nothing
	b.ReportMetric(float64(cold), "cold-dials")
	b.ReportMetric(ms(median(dials)), "ms-p50")
	b.ReportMetric(ms(slices.Max(dials)), "ms-max")
	b.ReportMetric(ms(median(dials)-bound), "ms-over-3.5rtt-p50")
	b.ReportMetric(ms(slices.Max(dials)-bound), "ms-over-3.5rtt-max")
	b.ReportMetric(ms(median(tcp)-2*rtt), "tcp-ms-over-2rtt-p50")
	b.ReportMetric(ms(slices.Max(tcp)-2*rtt), "tcp-ms-over-2rtt-max")
	for _, m := range []struct {
		unit string
		of   []time.Duration
	}{
		{"rtt-told", told}, {"rtt-keyed", keyed}, {"rtt-connected", stood}, {"rtt-chosen", chosen},
		{"rtt-p50", dials}, {"tcp-rtt-p50", tcp},
	} {
		b.ReportMetric(ms(median(m.of))/ms(rtt), m.unit)
	}
}

// BenchmarkRelayCost is the same where nothing crosses: both NATs draw their
// ports at random, and the server, which relays, is as far from each end as in
// BenchmarkDialCost. It should take one round trip to the server until both
// ends are told, one for TCP to the relay, one until the other end's proof has
// come through it, and two for the echo.
func BenchmarkRelayCost(b *testing.B) {
	const rtt = 40 * time.Millisecond
	w := newWorld(b, rtt)
	w.noIPv6 = true
	a := w.node(w.behind("a", "apdm-random"), stunt.Config{ID: "a"})
	d := w.node(w.behind("b", "apdm-random"), stunt.Config{})
	ln := listen(b, a, 0)
	go echoAll(ln) // until ln is closed, by listen's cleanup
	w.ready(a, d)
	dialPeer := func(ctx context.Context) net.Conn {
		c, err := d.DialContext(ctx, "tcp", "a")
		require.NoError(b, err)
		return c
	}
	firstByte(b, dialPeer) // as there
	var dials, told, stood, chosen []time.Duration
	for b.Loop() {
		for range dialsPerOp {
			t, c := firstByte(b, dialPeer)
			p := c.(*stunt.Conn).Path()
			require.Equal(b, stunt.Relayed, p.Method, "%+v", p)
			dials, told = append(dials, t), append(told, p.Timing.Told)
			stood, chosen = append(stood, p.Timing.Connected), append(chosen, p.Timing.Chosen)
		}
	}
	b.ReportMetric(0, "ns/op") // of a mixture: says nothing
	for _, m := range []struct {
		unit string
		of   []time.Duration
	}{{"rtt-told", told}, {"rtt-connected", stood}, {"rtt-chosen", chosen}, {"rtt-p50", dials}} {
		b.ReportMetric(float64(median(m.of))/float64(rtt), m.unit)
	}
	b.ReportMetric(float64(slices.Max(chosen))/float64(rtt), "rtt-chosen-max")
}

// firstByte dials, sends a byte and waits until it comes back. It returns how
// long that took, and the connection, closed.
func firstByte(t testing.TB, dial func(context.Context) net.Conn) (time.Duration, net.Conn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var one [1]byte
	began := time.Now()
	c := dial(ctx)
	_, err := c.Write(one[:])
	require.NoError(t, err)
	_, err = io.ReadFull(c, one[:])
	require.NoError(t, err)
	took := time.Since(began)
	require.NoError(t, c.Close())
	return took, c
}

// echoAll sends back whatever comes, on every connection, until ln is closed,
// and returns what Accept says then.
func echoAll(ln net.Listener) error {
	for {
		c, err := ln.Accept()
		if err != nil {
			return err
		}
		go func() { // until the other end closes
			io.Copy(c, c)
			c.Close()
		}()
	}
}

func median(ds []time.Duration) time.Duration {
	return slices.Sorted(slices.Values(ds))[len(ds)/2]
}
