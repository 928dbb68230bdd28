package rendezvous

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/time/rate"
)

func TestHandshakeLimit(t *testing.T) {
	h := serve(t, &Server{Limits: Limits{Handshakes: 2}})
	idle := func() net.Conn {
		c, err := net.Dial("tcp", h.addr.HostPort())
		require.NoError(t, err)
		t.Cleanup(func() { c.Close() })
		return c
	}
	first := idle()
	idle()
	require.Eventually(t, func() bool {
		h.server.door.mu.Lock()
		defer h.server.door.mu.Unlock()
		return h.server.door.greeting == 2
	}, patience, time.Millisecond)
	one := idle()
	require.ErrorIs(t, receive(t, h.ended, "the end"), errDoor)
	require.NoError(t, one.SetReadDeadline(time.Now().Add(patience)))
	_, err := one.Read(make([]byte, 1))
	require.Equal(t, io.EOF, err, "closed unheard")
	first.Close()
	receive(t, h.ended, "the end of the first")
	h.peer(t, newKey(t)) // its place is free; sessions do not count
	h.peer(t, newKey(t))
}

func TestSourceLimit(t *testing.T) {
	h := serve(t, &Server{Limits: Limits{SessionsPerSource: 2}})
	first := h.peer(t, newKey(t))
	h.peer(t, newKey(t))
	over := h.raw(t, newKey(t))
	over.refusal(CodeLimit)
	// The connection that was told still counts until it closes.
	fourth := h.raw(t, newKey(t))
	fourth.refusal(CodeLimit)
	fifth, err := net.Dial("tcp", h.addr.HostPort())
	require.NoError(t, err)
	defer fifth.Close()
	require.ErrorIs(t, receive(t, h.ended, "beyond twice the share nobody is told"), errDoor)
	over.conn.Close()
	fourth.conn.Close()
	first.conn.Close()
	for range 3 {
		receive(t, h.ended, "an end")
	}
	h.peer(t, newKey(t))
	require.Equal(t, 2, h.server.Sessions())
}

func TestSessionsPerKey(t *testing.T) {
	var now atomic.Int64
	h := serve(t, &Server{Now: func() time.Time { return time.Unix(now.Load(), 0) }, Limits: Limits{SessionsPerKey: 2}})
	key := newKey(t)
	old := h.peer(t, key)
	now.Store(20)
	h.peer(t, key)
	over := h.raw(t, key)
	over.send(&hello{Min: 1, Max: 1})
	over.refusal(CodeLimit)
	over.gone()
	h.peer(t, newKey(t)) // another key is not concerned
	now.Store(40)        // the first has missed a ping, the second has not
	h.peer(t, key)
	old.gone()
	require.Eventually(t, func() bool { return h.server.Sessions() == 3 }, patience, time.Millisecond)
}

func TestIDsPerKey(t *testing.T) {
	h := serve(t, &Server{Limits: Limits{IDsPerKey: 2}})
	key := newKey(t)
	n, m := h.join(t, key), h.join(t, key)
	require.NoError(t, n.Register(within(t), "one"))
	require.NoError(t, m.Register(within(t), "two"))
	require.ErrorIs(t, n.Register(within(t), "three"), CodeLimit, "in all sessions of the key together")
	require.NoError(t, n.Register(within(t), ""), "the fingerprint is no name")
	require.NoError(t, m.Deregister(within(t), "two"))
	require.NoError(t, n.Register(within(t), "three"))
}

func TestPendingDials(t *testing.T) {
	h, a, b := pair(t, &Server{Limits: Limits{PendingDials: 2}})
	c := h.join(t, newKey(t))
	require.NoError(t, c.Register(within(t), "carol"))
	dial := func(from *node, to string) *Call {
		call, err := from.Dial(within(t), DialRequest{Peer: to})
		require.NoError(t, err)
		return call
	}
	busy := func(call *Call, why string) {
		t.Helper()
		receive(t, call.Done, why)
		require.ErrorIs(t, call.Err(), CodeBusy, why)
	}
	first := dial(a, "bob")
	dial(a, "bob")
	busy(dial(a, "carol"), "a caller has so many")
	busy(dial(c, "bob"), "a callee has so many")
	require.NoError(t, receive(t, b.offers, "an Offer").Answer(Answer{}))
	receive(t, first.Answer, "an Answer")
	receive(t, dial(c, "bob").Ringing, "an answer makes room")
	receive(t, dial(b, "carol").Ringing, "being called does not keep one from calling")
}

// A source that floods a callee leaves room for the dials of others.
func TestPendingDialsOfOneSource(t *testing.T) {
	table := dialTable{pendingOut: 1000, pendingIn: 16, open: 1000}
	from := func(ip string) *session {
		return &session{observed: netip.MustParseAddrPort(ip + ":40000"), pass: anything{}}
	}
	callee, flooder, other := from("192.0.2.1"), from("192.0.2.2"), from("192.0.2.3")
	add := func(caller *session) error {
		d := &dial{id: NewDialID(), from: caller.party(), to: callee.party()}
		t.Cleanup(func() {
			if d.timer != nil {
				d.timer.Stop()
			}
		})
		return table.add(d, time.Hour, func(*dial) {})
	}
	for range 8 {
		require.NoError(t, add(flooder))
	}
	require.ErrorIs(t, add(flooder), CodeBusy, "it has half of what there is")
	require.ErrorIs(t, add(from("192.0.2.2")), CodeBusy, "and no more under another key")
	require.NoError(t, add(other))
	require.NoError(t, add(other))
	require.ErrorIs(t, add(other), CodeBusy, "an eighth each, from there on")
	require.NoError(t, add(from("192.0.2.4")))
}

// Answered dials of callers that never report are bounded as well.
func TestOpenDials(t *testing.T) {
	h, a, b := pair(t, &Server{Limits: Limits{PendingDials: 1}})
	for i := range h.server.Limits.openDials() + 1 {
		call, err := a.Dial(within(t), DialRequest{Peer: "bob"})
		require.NoError(t, err)
		if i == h.server.Limits.openDials() {
			receive(t, call.Done, "one too many")
			require.ErrorIs(t, call.Err(), CodeBusy)
			break
		}
		require.NoError(t, receive(t, b.offers, "an Offer").Answer(Answer{}))
		receive(t, call.Answer, "an Answer")
	}
}

func TestDialRate(t *testing.T) {
	_, a, b := pair(t, &Server{Limits: Limits{DialRate: 1}})
	const burst = 4
	refused := 0
	for range 3 * burst {
		call, err := a.Dial(within(t), DialRequest{Peer: "bob"})
		require.NoError(t, err)
		select {
		case o := <-b.offers:
			require.NoError(t, o.Answer(Answer{Code: CodeRefused}))
			receive(t, call.Answer, "an Answer")
		case <-call.Done:
			require.ErrorIs(t, call.Err(), CodeBusy)
			refused++
		}
	}
	require.NotZero(t, refused)
}

// A key has one rate, however many sessions it holds and whenever they began.
func TestDialRateIsOfTheKey(t *testing.T) {
	h := serve(t, &Server{Limits: Limits{DialRate: 1}})
	key := newKey(t)
	began, busy := time.Now(), 0
	for range 4 {
		a := h.peer(t, key)
		for range 4 {
			a.send(&DialRequest{DialID: NewDialID(), Peer: "nobody"})
			if e := read[*Error](a); e.Code == CodeBusy {
				busy++
			}
		}
		a.conn.NetConn().Close()
	}
	require.GreaterOrEqual(t, busy, 16-4-int(time.Since(began)/time.Second)-1, "a burst, and one a second")
	other := h.peer(t, newKey(t))
	other.send(&DialRequest{DialID: NewDialID(), Peer: "nobody"})
	other.refusal(CodeUnknownPeer)
}

// Who looks up more than its share is told so, and can still dial.
func TestLookupRate(t *testing.T) {
	h, a, b := pair(t, &Server{Limits: Limits{DialRate: 1}})
	const burst = 4
	refused := 0
	for range 3 * burst {
		if _, err := a.Lookup(within(t), "bob"); err != nil {
			require.ErrorIs(t, err, CodeBusy)
			refused++
		}
	}
	require.NotZero(t, refused)
	_, err := h.join(t, newKey(t)).Lookup(within(t), "bob")
	require.NoError(t, err, "another key has its own")
	call, err := a.Dial(within(t), DialRequest{Peer: "bob"})
	require.NoError(t, err)
	receive(t, call.Ringing, "a dial beside the lookups")
	receive(t, b.offers, "an Offer")
}

func TestDialIDIsUnique(t *testing.T) {
	h := serve(t, &Server{})
	a, b, c := h.peer(t, newKey(t)), h.peer(t, newKey(t)), h.peer(t, newKey(t))
	b.register("bob")
	a.send(&DialRequest{DialID: DialID{1}, Peer: "bob"})
	read[*Ringing](a)
	read[*Offer](b)
	c.send(&DialRequest{DialID: DialID{1}, Peer: "bob"})
	require.Equal(t, DialID{1}, c.refusal(CodeBadMessage).DialID, "of the dial, not of the session")
	// And nobody else has a say in it.
	c.send(&Answer{DialID: DialID{1}}, &cancel{DialID: DialID{1}}, &Outcome{DialID: DialID{1}}, &ping{})
	read[*pong](c)
	require.Empty(t, h.server.Outcomes())
	a.send(&Answer{DialID: DialID{1}}, &ping{}) // a caller does not answer itself
	read[*pong](a)
	b.send(&cancel{DialID: DialID{1}}, &Answer{DialID: DialID{1}, Noise: []byte("n")})
	require.Equal(t, "n", string(read[*Answer](a).Noise))
}

func TestManyDialsAtOnce(t *testing.T) {
	h, a, b := pair(t, &Server{})
	const n = 50
	errs := make(chan error, n)
	go func() { // ends when all offers are answered
		for range n {
			o := <-b.offers
			o.Answer(Answer{Noise: o.Noise})
			o.Conclude(Outcome{OK: true})
		}
	}()
	ctx := within(t)
	for i := range n {
		go func() { // ends with its dial or ctx
			errs <- func() error {
				call, err := a.Dial(ctx, DialRequest{Peer: "bob", Noise: fmt.Append(nil, i)})
				if err != nil {
					return err
				}
				defer call.Conclude(Outcome{OK: true, Method: "direct"})
				select {
				case answer := <-call.Answer:
					if string(answer.Noise) != fmt.Sprint(i) {
						return errors.New("the answer to another dial")
					}
					return answer.Err()
				case <-call.Done:
					return call.Err()
				case <-ctx.Done():
					return ctx.Err()
				}
			}()
		}()
	}
	for range n {
		require.NoError(t, receive(t, errs, "the end of a dial"))
	}
	require.Eventually(t, func() bool {
		h.server.dials.mu.Lock()
		defer h.server.dials.mu.Unlock()
		return len(h.server.dials.all) == 0
	}, patience, time.Millisecond, "all were reported, so none is kept")
	a.Client.current.mu.Lock()
	defer a.Client.current.mu.Unlock()
	require.Empty(t, a.Client.current.calls)
}

func TestLimitValues(t *testing.T) {
	require.Equal(t, 16, Limits{}.sessionsPerKey())
	require.Equal(t, 3, Limits{SessionsPerKey: 3}.sessionsPerKey())
	require.Greater(t, Limits{SessionsPerKey: -1}.sessionsPerKey(), 1<<30)
	require.Equal(t, rate.Inf, Limits{MessageRate: -1}.messages().Limit())
	require.Greater(t, Limits{PendingDials: -1}.openDials(), 1<<30)
}

func TestTallyIsBounded(t *testing.T) {
	var y tally
	for i := range 10_000 {
		y.add(fmt.Sprint("m", i), true)
	}
	counts := y.counts()
	require.LessOrEqual(t, len(counts), 2*maxMethods+2)
	var sum uint64
	for _, c := range counts {
		sum += c.Count
	}
	require.Equal(t, uint64(10_000), sum)
}
