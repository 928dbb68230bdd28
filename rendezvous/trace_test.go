package rendezvous

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// answered is what a Trace sees of the end of a dial.
type answered struct {
	code  Code
	after time.Duration
}

// TestTraceSeesEachDialOnce: however it ends, and whatever is said of it later.
func TestTraceSeesEachDialOnce(t *testing.T) {
	seen, limits := make(chan answered, 10), make(chan string, 10)
	h, a, b := pair(t, &Server{Limits: Limits{PendingDials: 1}, Trace: &Trace{
		Answered: func(c Code, after time.Duration) { seen <- answered{c, after} },
		Limited:  func(name string) { limits <- name },
	}})
	dial := func(peer string) *Call {
		call, err := a.Dial(within(t), DialRequest{Peer: peer})
		require.NoError(t, err)
		return call
	}
	next := func(want Code) time.Duration {
		got := receive(t, seen, "an answered dial")
		require.Equal(t, want, got.code)
		return got.after
	}

	call := dial("bob")
	offer := receive(t, b.offers, "an Offer")
	require.NoError(t, offer.Answer(Answer{}))
	require.Positive(t, next(CodeNone))
	call.Cancel() // after the answer it is not another one

	call = dial("bob")
	receive(t, b.offers, "an Offer")
	dial("bob")
	require.Zero(t, next(CodeBusy), "the server's own word")
	require.Equal(t, limitDialsOut, receive(t, limits, "the limit"))
	call.Cancel()
	next(CodeCanceled)

	dial("nobody")
	require.Zero(t, next(CodeUnknownPeer))

	dial("bob")
	receive(t, b.offers, "an Offer")
	b.stop()
	next(CodePeerGone)
	require.Empty(t, seen)
	require.Empty(t, limits)
	require.Equal(t, 2, h.server.Stats().Names, "a name is held for a moment after its session")
}

// TestPeersAreThoseWithASession: an operator sees who is there, and no more of
// them than were asked for.
func TestPeersAreThoseWithASession(t *testing.T) {
	h, a, b := pair(t, &Server{})
	require.NoError(t, b.Update(Info{Kind: "eim/x/y/z", Ask: true}))
	_, err := b.Lookup(within(t), "alice") // answered after what was said before
	require.NoError(t, err)
	p, ok := h.server.Peer("bob")
	require.True(t, ok)
	require.Equal(t, []string{"bob"}, p.IDs)
	require.Equal(t, b.key.Public(), p.Key)
	require.Equal(t, Info{Kind: "eim/x/y/z", Ask: true}, p.Info)
	require.True(t, p.Dialable)
	_, ok = h.server.Peer("nobody")
	require.False(t, ok)
	require.Len(t, h.server.Peers(10), 2)
	require.Len(t, h.server.Peers(1), 1)
	_, ok = h.server.Peer(a.fingerprint())
	require.True(t, ok)
}
