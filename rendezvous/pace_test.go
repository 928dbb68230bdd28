package rendezvous

import (
	"bytes"
	"crypto/ed25519"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Sources have a limit each, and those of one site one together.
func TestPaceOfSources(t *testing.T) {
	var p pace
	p.setUp(Limits{MessageRatePerSource: 10})
	waits := func(ip string, n int) bool { return p.reserve(netip.MustParseAddr(ip), n, noon) > 0 }
	require.False(t, waits("192.0.2.1", 10))
	require.True(t, waits("192.0.2.1", 1))
	require.False(t, waits("192.0.2.2", 10), "another address")
	require.False(t, waits("2001:db8::1", 10))
	require.True(t, waits("2001:db8::2", 1), "of the same /64")
	for _, ip := range []string{"2001:db8:0:1::1", "2001:db8:0:2::1"} {
		require.False(t, waits(ip, 10))
	}
	require.True(t, waits("2001:db8:0:3::1", 10), "of the same /48, which had forty, and one that was too many")
	require.False(t, waits("2001:db8:1::1", 10), "another site")

	p = pace{}
	p.setUp(Limits{MessageRatePerSource: -1, DialRate: -1})
	for range 100 {
		require.False(t, waits("192.0.2.1", 1000))
		require.False(t, waits("2001:db8::1", 1000))
		require.True(t, p.dials.Allow("key", noon))
	}
}

// All sessions of a source together say no more than its share.
func TestFloodFromManySessions(t *testing.T) {
	met := make(chan string, 1)
	h := serve(t, &Server{Limits: Limits{MessageRatePerSource: 100}, Trace: &Trace{Limited: func(name string) {
		select {
		case met <- name:
		default:
		}
	}}})
	const sessions, each = 4, 50
	var flooders [sessions]*peer
	for i := range flooders {
		flooders[i] = h.peer(t, newKey(t))
	}
	frame, err := encode(&ping{})
	require.NoError(t, err)
	began := time.Now()
	for _, p := range flooders {
		_, err := p.conn.Write(bytes.Repeat(frame, each))
		require.NoError(t, err)
	}
	for _, p := range flooders {
		for range each {
			read[*pong](p)
		}
	}
	// Each session is ahead by one message at most.
	const over = sessions*each - 100 - sessions
	require.GreaterOrEqual(t, time.Since(began), over*time.Second/100, "a burst of a hundred, and a hundred a second")
	require.Equal(t, limitSourceRate, receive(t, met, "the limit"))
}

// A dial is more work than a ping, and counts for more.
func TestDialsCostMore(t *testing.T) {
	met := make(chan string, 1)
	h := serve(t, &Server{Limits: Limits{MessageRatePerSource: 4}, Trace: &Trace{Limited: func(name string) {
		select {
		case met <- name:
		default:
		}
	}}})
	p := h.peer(t, newKey(t))
	for range 3 { // of four in a burst, one is four
		p.send(&DialRequest{DialID: NewDialID(), Peer: "nobody"})
	}
	require.Equal(t, limitSourceRate, receive(t, met, "the second is one too many"))
}

// Who is dialled by many can answer all of them, for nothing.
func TestAnswersCostNothing(t *testing.T) {
	const callers, burst = 6, 16
	limited := make(chan string, 100)
	h := serve(t, &Server{Limits: Limits{MessageRate: burst / 4, MessageRatePerSource: -1}, Trace: &Trace{Limited: func(name string) { limited <- name }}})
	b := h.peer(t, newKey(t))
	b.register("bob")
	for range callers {
		a := h.peer(t, newKey(t))
		for range burst/costOfDial - 1 {
			id := NewDialID()
			a.send(&DialRequest{DialID: id, Peer: "bob"})
			read[*Ringing](a)
			require.Equal(t, id, read[*Offer](b).DialID)
			b.send(&Answer{DialID: id}, &Outcome{DialID: id})
			read[*Answer](a)
			a.send(&Outcome{DialID: id})
		}
	}
	b.send(&ping{})
	read[*pong](b)
	require.Empty(t, limited)
	for range 2 * burst {
		b.send(&Answer{DialID: DialID{1}}) // that nobody waits for
	}
	require.Equal(t, limitMessageRate, receive(t, limited, "the limit"))
}

// What is refused for want of room has cost no ticket, and no introduction.
func TestRefusalsComeFirst(t *testing.T) {
	var tickets atomic.Int64
	h := serve(t, &Server{Limits: Limits{PendingDials: 1},
		Tickets: func(DialID, ed25519.PublicKey, ed25519.PublicKey) ([]byte, []byte) { tickets.Add(1); return nil, nil }})
	a, b := h.peer(t, newKey(t)), h.peer(t, newKey(t))
	b.register("bob")
	a.send(&DialRequest{DialID: DialID{1}, Peer: "bob"})
	read[*Ringing](a)
	for i := range 10 {
		a.send(&DialRequest{DialID: DialID{byte(i + 2)}, Peer: "bob"})
		a.refusal(CodeBusy)
	}
	require.EqualValues(t, 1, tickets.Load())
}

// However a dial to a session ends, it is no more among those that it has not
// answered, which are all that another one's limits look at.
func TestUnansweredDials(t *testing.T) {
	table := dialTable{pendingOut: 100, pendingIn: 100, open: 100}
	caller, callee := &session{pass: anything{}}, &session{pass: anything{}}
	add := func() *dial {
		d := &dial{id: NewDialID(), from: caller.party(), to: callee.party()}
		require.NoError(t, table.add(d, time.Hour, func(*dial) {}))
		t.Cleanup(func() { d.timer.Stop() })
		return d
	}
	answered, refused, canceled, late, reported := add(), add(), add(), add(), add()
	require.Len(t, callee.calls.in, 5)
	require.NotNil(t, table.answer(answered.id, callee.seat(), true))
	require.NotNil(t, table.answer(refused.id, callee.seat(), false))
	require.NotNil(t, table.cancel(canceled.id, caller.seat()))
	require.Equal(t, 2, callee.calls.unanswered(sourceOf(caller.observed.Addr())))
	require.True(t, table.timeUp(late))
	for _, by := range []seat{caller.seat(), callee.seat()} {
		table.report(&Outcome{DialID: reported.id}, by)
	}
	require.Nil(t, callee.calls.in)
	require.Zero(t, caller.calls.out)
	require.Len(t, callee.calls.dials, 2, "one that was answered, and one that was given up: both may still be reported")
	last := add()
	require.Equal(t, []*dial{last}, table.leave(callee))
	require.Nil(t, callee.calls.in)
}
