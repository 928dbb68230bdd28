package rendezvous

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// pair is two nodes at one server, the second registered.
func pair(t testing.TB, srv *Server) (h *host, a, b *node) {
	h = serve(t, srv)
	a, b = h.join(t, newKey(t)), h.join(t, newKey(t))
	require.NoError(t, b.Update(Info{Report: []byte("report b"), Candidates: []byte("candidates b")}))
	require.NoError(t, b.Register(within(t), "bob"))
	require.NoError(t, a.Register(within(t), "alice"))
	return h, a, b
}

func TestDialCarriesEverythingBothWays(t *testing.T) {
	verdicts := make(chan Verdict, 2)
	h, a, b := pair(t, &Server{Trace: &Trace{Outcome: func(v Verdict) { verdicts <- v }}})
	call, err := a.Dial(within(t), DialRequest{Peer: "bob", Port: 80, Noise: []byte("noise 1"),
		Candidates: []byte("candidates a"), Report: []byte("report a")})
	require.NoError(t, err)

	offer := receive(t, b.offers, "an Offer at bob")
	require.Equal(t, call.DialID, offer.DialID)
	require.Equal(t, a.key.Public(), offer.From, "the server says whose key it is")
	require.Equal(t, []string{"alice"}, offer.FromIDs)
	require.Equal(t, "bob", offer.To)
	require.Equal(t, uint16(80), offer.Port)
	require.Equal(t, "noise 1", string(offer.Noise))
	require.Equal(t, "candidates a", string(offer.Candidates))
	require.Equal(t, "report a", string(offer.Report))
	receive(t, offer.Go, "without Ask a callee fires on receipt")

	ringing := receive(t, call.Ringing, "a Ringing at alice")
	require.Equal(t, b.key.Public(), ringing.Key)
	require.Equal(t, "candidates b", string(ringing.Candidates))
	require.Equal(t, "report b", string(ringing.Report))

	require.NoError(t, offer.Answer(Answer{Noise: []byte("noise 2"), Candidates: []byte("fresh"), Report: []byte("new")}))
	require.Error(t, offer.Answer(Answer{}), "an offer has one answer")
	answer := receive(t, call.Answer, "bob's Answer")
	require.NoError(t, answer.Err())
	require.Equal(t, "noise 2", string(answer.Noise))
	require.Equal(t, "fresh", string(answer.Candidates))
	require.Equal(t, "new", string(answer.Report))

	call.Conclude(Outcome{OK: true, Method: "direct", Elapsed: time.Second})
	first := receive(t, verdicts, "alice's Outcome")
	offer.Conclude(Outcome{OK: true, Method: "direct"})
	second := receive(t, verdicts, "bob's Outcome")
	require.True(t, first.ByCaller)
	require.False(t, second.ByCaller)
	require.Equal(t, time.Second, first.Outcome.Elapsed)
	require.Equal(t, a.key.Public(), second.Caller)
	require.Equal(t, []OutcomeCount{{"direct", true, 1}}, h.server.Outcomes(), "a dial counts once")
	require.Empty(t, h.server.dials.all, "a reported dial is forgotten")
}

// Both messages of a dial are queued before anything else happens: what the
// two ends do with the time between them is the kernel's doing.
func TestRingingAndOfferLeaveInOneTurn(t *testing.T) {
	h := serve(t, &Server{})
	a, b := h.peer(t, newKey(t)), h.peer(t, newKey(t))
	b.register("bob")
	id := NewDialID()
	// Pipelined: were the two not queued in one turn, a reply to the ping
	// could stand before the Ringing.
	a.send(&DialRequest{DialID: id, Peer: "bob"}, &ping{})
	require.Equal(t, id, read[*Ringing](a).DialID)
	read[*pong](a)
	require.Equal(t, id, read[*Offer](b).DialID)
}

func TestDialByFingerprint(t *testing.T) {
	_, a, b := pair(t, &Server{})
	call, err := a.Dial(within(t), DialRequest{Peer: b.fingerprint()})
	require.NoError(t, err)
	require.Equal(t, b.key.Public(), receive(t, call.Ringing, "bob under his key").Key)
	require.Equal(t, b.fingerprint(), receive(t, b.offers, "an Offer").To)
}

// With Ask, nothing about the callee leaves the server before it has said yes,
// and both are told to fire at one moment.
func TestAskFirst(t *testing.T) {
	_, a, b := pair(t, &Server{})
	require.NoError(t, b.Update(Info{Report: []byte("secret"), Candidates: []byte("secret"), Ask: true}))
	require.NoError(t, b.Register(within(t), "bob2")) // the update is in force once this is answered
	p, err := a.Lookup(within(t), "bob")
	require.NoError(t, err)
	require.Empty(t, p.Report, "a lookup does not go around the question")

	call, err := a.Dial(within(t), DialRequest{Peer: "bob"})
	require.NoError(t, err)
	offer := receive(t, b.offers, "an Offer")
	require.True(t, offer.Ask)
	ringing := receive(t, call.Ringing, "a Ringing")
	require.Equal(t, b.key.Public(), ringing.Key)
	require.Empty(t, ringing.Candidates)
	require.Empty(t, ringing.Report)
	select {
	case <-offer.Go:
		require.FailNow(t, "Go before the answer")
	default:
	}
	require.NoError(t, offer.Answer(Answer{Candidates: []byte("now")}))
	receive(t, offer.Go, "Go with the answer")
	require.Equal(t, "now", string(receive(t, call.Answer, "an Answer").Candidates))
}

// TestObserved: each end is told where the server sees the other, unless that is
// hidden, and the callee has no say in it.
func TestObserved(t *testing.T) {
	_, a, b := pair(t, &Server{})
	at := map[*node]netip.AddrPort{}
	for _, n := range []*node{a, b} {
		at[n] = receive(t, n.up, "a Welcome").Observed
		require.True(t, at[n].IsValid())
	}
	forged := netip.MustParseAddrPort("203.0.113.9:4000")
	for i, tt := range []struct{ ask, callerHides, calleeHides bool }{{}, {ask: true}, {callerHides: true}, {calleeHides: true}, {ask: true, calleeHides: true}} {
		require.NoError(t, b.Update(Info{Ask: tt.ask, Hidden: tt.calleeHides}))
		require.NoError(t, b.Register(within(t), fmt.Sprint("b", i))) // the update is in force once this is answered
		call, err := a.Dial(within(t), DialRequest{Peer: "bob", Hidden: tt.callerHides})
		require.NoError(t, err)
		offer := receive(t, b.offers, "an Offer")
		ringing := receive(t, call.Ringing, "a Ringing")
		require.NoError(t, offer.Answer(Answer{Observed: forged}))
		answer := receive(t, call.Answer, "an Answer")
		caller, callee := at[a], at[b]
		if tt.callerHides {
			caller = netip.AddrPort{}
		}
		if tt.calleeHides {
			callee = netip.AddrPort{}
		}
		require.Equal(t, caller, offer.Observed, "%+v", tt)
		first, second := ringing.Observed, answer.Observed
		if tt.ask {
			first, second = second, first
		}
		require.Equal(t, callee, first, "%+v", tt)
		require.Zero(t, second, "%+v: not before it has said yes, and nothing of its own making", tt)
		offer.Conclude(Outcome{})
		call.Conclude(Outcome{})
	}
}

// TestTickets: either end of a dial gets its own, the caller's only when the
// callee has said yes if that wants to be asked.
func TestTickets(t *testing.T) {
	relays := []string{"192.0.2.1:3478", "relay.example.com:443"}
	_, a, b := pair(t, &Server{Relays: relays, Tickets: func(id DialID, caller, callee ed25519.PublicKey) (x, y []byte) {
		return append(id[:], caller...), append(id[:], callee...)
	}})
	require.Equal(t, relays, receive(t, a.up, "a Welcome").Relays)
	for _, ask := range []bool{false, true} {
		require.NoError(t, b.Update(Info{Ask: ask}))
		require.NoError(t, b.Register(within(t), map[bool]string{false: "b1", true: "b2"}[ask])) // the update is in force once this is answered
		call, err := a.Dial(within(t), DialRequest{Peer: "bob"})
		require.NoError(t, err)
		offer := receive(t, b.offers, "an Offer")
		require.Equal(t, append(call.DialID[:], b.key.Public().(ed25519.PublicKey)...), offer.Ticket)
		ringing := receive(t, call.Ringing, "a Ringing")
		require.NoError(t, offer.Answer(Answer{Ticket: []byte("forged")}))
		answer := receive(t, call.Answer, "an Answer")
		first, second := ringing.Ticket, answer.Ticket
		if ask {
			first, second = second, first
		}
		require.Equal(t, append(call.DialID[:], a.key.Public().(ed25519.PublicKey)...), first)
		require.Empty(t, second, "there is one, and none of the peer's making")
	}
}

func TestAnswerRefuses(t *testing.T) {
	_, a, b := pair(t, &Server{})
	for _, code := range []Code{CodeRefused, CodePortClosed, CodeNotAllowed, CodeModeMismatch, CodeBusy} {
		call, err := a.Dial(within(t), DialRequest{Peer: "bob"})
		require.NoError(t, err)
		offer := receive(t, b.offers, "an Offer")
		require.NoError(t, offer.Answer(Answer{Code: code, Text: "line\nbreak"}))
		answer := receive(t, call.Answer, "a refusal is an Answer")
		require.ErrorIs(t, answer.Err(), code)
		require.Equal(t, "line break", answer.Text, "texts lose their control characters")
		require.Equal(t, code == CodePortClosed, errors.Is(answer.Err(), syscall.ECONNREFUSED))
	}
	call, err := a.Dial(within(t), DialRequest{Peer: "bob"})
	require.NoError(t, err)
	require.NoError(t, receive(t, b.offers, "an Offer").Answer(Answer{Code: CodeUnknownPeer}))
	require.ErrorIs(t, receive(t, call.Answer, "an Answer").Err(), CodeRefused, "a peer cannot speak for the server")
}

func TestDialRefusedByServer(t *testing.T) {
	_, a, b := pair(t, &Server{Hold: -1})
	refused := func(peer string, code Code) {
		t.Helper()
		call, err := a.Dial(within(t), DialRequest{Peer: peer})
		require.NoError(t, err)
		receive(t, call.Done, "the end of the call")
		require.ErrorIs(t, call.Err(), code)
	}
	refused("nobody", CodeUnknownPeer)
	refused(fingerprintOf(newKey(t)), CodeUnknownPeer)
	refused("alice", CodeSelf)
	refused(a.fingerprint(), CodeSelf)
	require.NoError(t, b.Deregister(within(t), "bob"))
	refused("bob", CodeUnknownPeer)

	_, err := a.Dial(within(t), DialRequest{Peer: "Bob!"})
	require.ErrorIs(t, err, CodeBadID, "refused before it is sent")
	_, err = a.Dial(within(t), DialRequest{Peer: "bob", Candidates: make([]byte, MaxBlob+1)})
	require.ErrorIs(t, err, CodeBadMessage)
}

func TestCancelReachesTheCallee(t *testing.T) {
	h, a, b := pair(t, &Server{})
	for _, answered := range []bool{false, true} {
		call, err := a.Dial(within(t), DialRequest{Peer: "bob"})
		require.NoError(t, err)
		offer := receive(t, b.offers, "an Offer")
		if answered {
			require.NoError(t, offer.Answer(Answer{}))
			receive(t, call.Answer, "an Answer")
		}
		call.Cancel()
		call.Cancel()
		receive(t, offer.Done, "the end of the offer")
		require.ErrorIs(t, offer.Err(), CodeCanceled)
		if !answered {
			require.ErrorIs(t, offer.Answer(Answer{}), CodeCanceled)
		}
		call.Conclude(Outcome{Text: "gave up"})
		offer.Conclude(Outcome{Text: "it gave up"})
	}
	// The server has handled the outcomes when it answers this.
	_, err := a.Lookup(within(t), "bob")
	require.NoError(t, err)
	_, err = b.Lookup(within(t), "bob")
	require.NoError(t, err)
	require.Empty(t, h.server.dials.all)
	require.Equal(t, []OutcomeCount{{"", false, 2}}, h.server.Outcomes())
}

func TestCalleeDiesInMidDial(t *testing.T) {
	_, a, b := pair(t, &Server{})
	unanswered, err := a.Dial(within(t), DialRequest{Peer: "bob"})
	require.NoError(t, err)
	receive(t, b.offers, "an Offer")
	answered, err := a.Dial(within(t), DialRequest{Peer: "bob"})
	require.NoError(t, err)
	require.NoError(t, receive(t, b.offers, "an Offer").Answer(Answer{}))
	receive(t, answered.Answer, "an Answer")
	b.stop()
	receive(t, unanswered.Done, "the end of the call")
	require.ErrorIs(t, unanswered.Err(), CodePeerGone)
	require.NoError(t, answered.Err(), "with the answer the punch needs nobody else")
}

func TestCallerDiesInMidDial(t *testing.T) {
	_, a, b := pair(t, &Server{})
	_, err := a.Dial(within(t), DialRequest{Peer: "bob"})
	require.NoError(t, err)
	offer := receive(t, b.offers, "an Offer")
	a.stop()
	receive(t, offer.Done, "the end of the offer")
	require.ErrorIs(t, offer.Err(), CodePeerGone)
}

func TestNobodyAnswers(t *testing.T) {
	h, a, b := pair(t, &Server{Patience: 50 * time.Millisecond})
	call, err := a.Dial(within(t), DialRequest{Peer: "bob"})
	require.NoError(t, err)
	receive(t, call.Done, "the end of the call")
	require.ErrorIs(t, call.Err(), CodeTimeout)
	var timeout interface{ Timeout() bool }
	require.ErrorAs(t, call.Err(), &timeout)
	require.True(t, timeout.Timeout())
	offer := receive(t, b.offers, "an Offer")
	receive(t, offer.Done, "the end of the offer")
	require.ErrorIs(t, offer.Err(), CodeTimeout)
	require.Empty(t, h.server.dials.all)
}

func TestNodeWithoutListenerRefuses(t *testing.T) {
	h := serve(t, &Server{})
	a := h.join(t, newKey(t))
	deaf := NewClient(ClientConfig{Servers: []ServerAddr{h.addr}, Key: newKey(t)})
	ran := make(chan error, 1)
	ctx := within(t)
	go func() { ran <- deaf.Run(ctx) }()
	require.NoError(t, deaf.Register(ctx, "deaf"))
	call, err := a.Dial(ctx, DialRequest{Peer: "deaf"})
	require.NoError(t, err)
	require.ErrorIs(t, receive(t, call.Answer, "an Answer").Err(), syscall.ECONNREFUSED)
	h.stop()
}

// A client that dials a key does not take another from the server.
func TestFingerprintDialTrustsNoServer(t *testing.T) {
	s := &clientSession{calls: map[DialID]*Call{}}
	wanted, other := newKey(t), newKey(t)
	c := &Call{DialID: NewDialID(), session: s, peer: fingerprintOf(wanted),
		ringing: make(chan Ringing, 1), answer: make(chan Answer, 1), done: make(chan struct{})}
	s.calls[c.DialID] = c
	s.rang(&Ringing{DialID: c.DialID, Key: other.Public().(ed25519.PublicKey)})
	require.ErrorIs(t, c.Err(), CodeBadKey)
	require.Empty(t, c.ringing)
}

func TestLookup(t *testing.T) {
	_, a, b := pair(t, &Server{})
	for _, id := range []string{"bob", b.fingerprint()} {
		p, err := a.Lookup(within(t), id)
		require.NoError(t, err)
		require.Equal(t, b.key.Public(), p.Key)
		require.Equal(t, "report b", string(p.Report))
		require.WithinDuration(t, time.Now(), p.Since, time.Minute)
	}
	_, never := a.Lookup(within(t), "never")
	require.ErrorIs(t, never, CodeUnknownPeer)
	b.stop()
	require.Eventually(t, func() bool {
		_, err := a.Lookup(within(t), "bob")
		return errors.Is(err, CodeUnknownPeer) && err.Error() == never.Error()
	}, patience, time.Millisecond, "gone and never there are one answer")
}
