package rendezvous

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A rulebook is a Pass that a test writes, for every session.
type rulebook struct {
	ended  atomic.Pointer[Error]
	listen func(name string) error
	dial   func(peer string, names []string) error
	relay  func() bool
}

func (r *rulebook) Stands() error {
	if e := r.ended.Load(); e != nil {
		return e
	}
	return nil
}

func (r *rulebook) MayListen(name string) error {
	if r.listen == nil {
		return nil
	}
	return r.listen(name)
}

func (r *rulebook) MayDial(peer string, names []string) error {
	if r.dial == nil {
		return nil
	}
	return r.dial(peer, names)
}

func (r *rulebook) MayRelay() bool { return r.relay == nil || r.relay() }

func (r *rulebook) admit(Applicant) (Pass, error) { return r, nil }

func TestPassAndNames(t *testing.T) {
	book := &rulebook{listen: func(name string) error {
		switch name {
		case "alice", "":
			return nil
		case "rude":
			return errors.New("a\x1bb" + strings.Repeat("c", 2*MaxText)) // as long as it likes
		}
		return &Error{Code: CodeLimit, Text: "no more"}
	}}
	h := serve(t, &Server{Admit: book.admit})
	n := h.join(t, newKey(t))
	require.NoError(t, n.Register(within(t), "alice"))
	require.ErrorIs(t, n.Register(within(t), "bob"), CodeLimit, "the code that the pass gives")
	require.ErrorIs(t, n.Register(within(t), "rude"), CodeNotAllowed, "or this one")
	require.NoError(t, n.Register(within(t), ""))
	_, err := n.Lookup(within(t), "bob")
	require.ErrorIs(t, err, CodeUnknownPeer)
}

// Who may not dial a name can't tell whether anybody has it: not by the answer
// to a dial, nor to a lookup, to the last bit.
func TestForbiddenPeerIsAsIfNobodyWere(t *testing.T) {
	var asked atomic.Value
	book := &rulebook{dial: func(peer string, names []string) error {
		asked.Store(fmt.Sprint(peer, names))
		if peer == "bob" || peer == "nobody" {
			return &Error{Code: CodeUnknownPeer}
		}
		return nil
	}}
	h := serve(t, &Server{Admit: book.admit})
	a, b := h.peer(t, newKey(t)), h.peer(t, newKey(t))
	a.register("alice")
	b.register("bob")
	dial := func(peer string) []byte {
		a.send(&DialRequest{DialID: DialID{1}, Peer: peer})
		frame, err := encode(read[*Error](a))
		require.NoError(t, err)
		require.Equal(t, peer+"[alice]", asked.Load(), "who asks, by its names")
		return frame
	}
	look := func(peer string) []byte {
		a.send(&lookup{Ref: 7, ID: peer})
		frame, err := encode(read[*Error](a))
		require.NoError(t, err)
		return frame
	}
	require.Equal(t, dial("nobody"), dial("bob"))
	require.Equal(t, look("nobody"), look("bob"))
	require.Equal(t, dial("carol"), dial("bob"), "and one who may dial, and finds nobody, hears the same")
	require.Equal(t, look("carol"), look("bob"))
	b.send(&ping{})
	read[*pong](b) // and no Offer before it
	a.send(&lookup{Ref: 8, ID: fingerprintOf(b.key)})
	read[*Presence](a)
}

func TestPassAndRelay(t *testing.T) {
	tickets := func(DialID, ed25519.PublicKey, ed25519.PublicKey) (a, b []byte) { return []byte("a"), []byte("b") }
	var mayNot atomic.Value // the fingerprint of the one that may not
	mayNot.Store("")
	h := serve(t, &Server{Relays: []string{"relay.example:1"}, Tickets: tickets, Admit: func(a Applicant) (Pass, error) {
		return &rulebook{relay: func() bool { return Fingerprint(a.Key) != mayNot.Load() }}, nil
	}})
	one, two := newKey(t), newKey(t)
	for _, tt := range []struct {
		mayNot string
		ticket string
	}{{"", "a"}, {fingerprintOf(one), ""}, {fingerprintOf(two), ""}} {
		mayNot.Store(tt.mayNot)
		a := h.raw(t, one)
		a.send(&hello{Min: 1, Max: 1})
		require.Equal(t, tt.mayNot == fingerprintOf(one), len(read[*Welcome](a).Relays) == 0, "who may not is not told of any")
		b := h.peer(t, two)
		b.register("bob")
		a.send(&DialRequest{DialID: NewDialID(), Peer: "bob"})
		require.Equal(t, tt.ticket, string(read[*Ringing](a).Ticket), "both ends have to")
		require.Equal(t, tt.ticket != "", len(read[*Offer](b).Ticket) > 0)
	}
}

func TestPassEndsSession(t *testing.T) {
	book := &rulebook{}
	h := serve(t, &Server{Admit: book.admit})
	p := h.peer(t, newKey(t))
	p.send(&ping{})
	read[*pong](p)
	book.ended.Store(&Error{Code: CodeNotAllowed, Text: "denied since"})
	p.send(&ping{})
	require.Equal(t, "denied since", p.refusal(CodeNotAllowed).Text)
	p.gone()
}

// A review ends a session that is silent, and leaves the others.
func TestReview(t *testing.T) {
	var denied atomic.Value // a fingerprint
	denied.Store("")
	h := serve(t, &Server{Admit: func(a Applicant) (Pass, error) {
		book := &rulebook{}
		return standing{book, func() error {
			if denied.Load() == Fingerprint(a.Key) {
				return &Error{Code: CodeBadToken, Text: "it was revoked"}
			}
			return nil
		}}, nil
	}})
	a, b := h.peer(t, newKey(t)), h.peer(t, newKey(t))
	a.register("alice")
	b.register("bob")
	denied.Store(fingerprintOf(a.key))
	h.server.Review()
	require.Equal(t, "it was revoked", a.refusal(CodeBadToken).Text)
	a.gone()
	b.send(&ping{})
	read[*pong](b)
}

// A name that its key may not have any more is free for another at once, whether
// it is in use or held, and who had it is told; its session goes on.
func TestReviewOfNames(t *testing.T) {
	var owner atomic.Value // of every name
	owner.Store("")
	h := serve(t, &Server{Hold: time.Hour, Entitled: func(fingerprint, name string) bool {
		return name == "other" || fingerprint == owner.Load()
	}})
	squatter, gone := h.peer(t, newKey(t)), h.peer(t, newKey(t))
	squatter.register("ops")
	squatter.register("other")
	gone.register("held")
	gone.conn.Close()
	late := h.peer(t, newKey(t))
	owner.Store(fingerprintOf(late.key))
	require.Eventually(t, func() bool { return h.server.Sessions() == 2 }, patience, time.Millisecond)
	for i, name := range []string{"ops", "held"} {
		late.send(&register{Ref: uint32(i + 1), ID: name})
		late.refusal(CodeIDTaken)
	}
	h.server.Review()
	lost := read[*Error](squatter)
	require.Equal(t, "ops", lost.ID)
	require.Equal(t, CodeIDTaken, lost.Code)
	late.register("ops")
	late.register("held")
	squatter.send(&lookup{Ref: 1, ID: "ops"})
	require.Equal(t, late.key.Public(), read[*Presence](squatter).Key, "it goes on")
	squatter.send(&lookup{Ref: 2, ID: "other"})
	require.Equal(t, squatter.key.Public(), read[*Presence](squatter).Key)
}

// standing is a rulebook of which one thing is told.
type standing struct {
	*rulebook
	stands func() error
}

func (s standing) Stands() error { return s.stands() }

// A token that is over ends the session, and the next one has another. Only
// one that is refused at once is the end.
func TestTokenIsRenewed(t *testing.T) {
	book := &rulebook{}
	good := atomic.Value{}
	good.Store("one")
	h := serve(t, &Server{Admit: func(a Applicant) (Pass, error) {
		switch {
		case a.Token == "":
			return nil, &Error{Code: CodeTokenRequired}
		case a.Token != good.Load():
			return nil, &Error{Code: CodeTokenExpired}
		}
		return book, nil
	}})
	have := atomic.Value{}
	have.Store("one")
	n := h.client(t, ClientConfig{Token: func() (string, error) { return have.Load().(string), nil }})
	require.NoError(t, n.Register(within(t), "alice"))
	receive(t, n.up, "a session")

	have.Store("two")
	good.Store("two")
	book.ended.Store(&Error{Code: CodeTokenExpired})
	n.Check() // a ping
	require.ErrorIs(t, receive(t, n.down, "its end"), CodeTokenExpired)
	book.ended.Store(nil)
	receive(t, n.up, "another, with the new token")
	require.NoError(t, n.Register(within(t), "alice"))

	good.Store("three")
	book.ended.Store(&Error{Code: CodeTokenExpired})
	n.Check()
	finally(t, n, CodeTokenExpired)
	finally(t, h.client(t, ClientConfig{}), CodeTokenRequired)
}

func TestTokenThatCannotBeHad(t *testing.T) {
	h := serve(t, &Server{})
	broken := errors.New("no such file")
	var missing atomic.Bool
	missing.Store(true)
	n := h.client(t, ClientConfig{Token: func() (string, error) {
		if missing.Load() {
			return "", broken
		}
		return "token", nil
	}})
	require.ErrorIs(t, receive(t, n.down, "the end of an attempt"), broken)
	missing.Store(false)
	receive(t, n.up, "it may be there later")
	long := h.client(t, ClientConfig{Token: func() (string, error) { return strings.Repeat("t", MaxToken+1), nil }})
	require.ErrorIs(t, receive(t, long.down, "and is not sent if it can't be one"), CodeBadMessage)
}
