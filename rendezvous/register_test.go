package rendezvous

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRegister(t *testing.T) {
	h := serve(t, &Server{})
	a, b := h.join(t, newKey(t)), h.join(t, newKey(t))
	require.NoError(t, a.Register(within(t), "alice"))
	require.NoError(t, a.Register(within(t), "alice"), "again is no error")
	require.ErrorIs(t, b.Register(within(t), "alice"), CodeIDTaken)
	require.ErrorIs(t, b.Register(within(t), a.fingerprint()), CodeBadID, "a fingerprint belongs to its key")
	require.ErrorIs(t, b.Register(within(t), "-x"), CodeBadID)
	require.NoError(t, b.Register(within(t), b.fingerprint()), "one's own is allowed")

	_, err := a.Lookup(within(t), b.fingerprint())
	require.NoError(t, err)
	require.NoError(t, a.Deregister(within(t), "alice"))
	require.NoError(t, b.Register(within(t), "alice"), "a name given up is free at once")
	p, err := a.Lookup(within(t), "alice")
	require.NoError(t, err)
	require.Equal(t, b.key.Public(), p.Key)
}

// A node that asks for no name is dialable by its key and by nothing else; one
// that registers nothing is not dialable at all.
func TestFingerprintOnly(t *testing.T) {
	h := serve(t, &Server{})
	a, b := h.join(t, newKey(t)), h.join(t, newKey(t))
	_, err := a.Lookup(within(t), b.fingerprint())
	require.ErrorIs(t, err, CodeUnknownPeer)
	require.NoError(t, b.Register(within(t), ""))
	_, err = a.Lookup(within(t), b.fingerprint())
	require.NoError(t, err)
	require.NoError(t, b.Deregister(within(t), ""))
	_, err = a.Lookup(within(t), b.fingerprint())
	require.ErrorIs(t, err, CodeUnknownPeer)
}

// A name is held for its key while that only reconnects, and no longer.
func TestHold(t *testing.T) {
	var now atomic.Int64
	h := serve(t, &Server{Now: func() time.Time { return time.Unix(now.Load(), 0) }})
	key := newKey(t)
	first := h.peer(t, key)
	first.register("alice")
	first.conn.NetConn().Close()
	receive(t, h.ended, "the end of the first session")

	robber := h.join(t, newKey(t))
	require.ErrorIs(t, robber.Register(within(t), "alice"), CodeIDTaken)
	now.Store(59)
	require.ErrorIs(t, robber.Register(within(t), "alice"), CodeIDTaken)
	second := h.peer(t, key)
	second.register("alice") // at once
	second.conn.NetConn().Close()
	receive(t, h.ended, "the end of the second session")
	now.Store(60) // the first hold is over, but the second began at 59
	require.ErrorIs(t, robber.Register(within(t), "alice"), CodeIDTaken)
	now.Store(59 + 60)
	require.NoError(t, robber.Register(within(t), "alice"))
}

// The newer session of a key has the name at once; the older is told and closed.
func TestTakeover(t *testing.T) {
	h := serve(t, &Server{})
	key := newKey(t)
	old := h.client(t, ClientConfig{Key: key})
	require.NoError(t, old.Register(within(t), "alice"))
	require.NoError(t, old.Register(within(t), "other"))
	fresh := h.join(t, key)
	require.NoError(t, fresh.Register(within(t), "alice"), "without waiting")

	require.Equal(t, "alice", receive(t, old.lost, "OnLost at the older"))
	require.ErrorIs(t, receive(t, old.down, "the older session's end"), CodeReplaced)
	receive(t, old.up, "its first session")
	receive(t, old.up, "it comes back")
	require.NoError(t, old.Register(within(t), "other"), "with what it still has")

	asker := h.join(t, newKey(t))
	call, err := asker.Dial(within(t), DialRequest{Peer: "alice"})
	require.NoError(t, err)
	receive(t, call.Ringing, "a Ringing")
	receive(t, fresh.offers, "the dial reaches the newer")
	require.Empty(t, old.lost, "the older does not fight for the name")
}

// A session whose network died without a word is in nobody's way.
func TestTakeoverFromDeadSession(t *testing.T) {
	h := serve(t, &Server{})
	key := newKey(t)
	dead := h.peer(t, key) // never reads nor pings again, and is not closed
	dead.register("alice")
	alive := h.join(t, key)
	require.NoError(t, alive.Register(within(t), "alice"))
	dead.refusal(CodeReplaced)
	dead.gone()
}

// A fresh node's name is there one round trip after TLS: the request does not
// wait for the Welcome.
func TestRegisterIsPipelined(t *testing.T) {
	h := serve(t, &Server{})
	p := h.raw(t, newKey(t))
	p.send(&hello{Min: MinVersion, Max: MaxVersion}, &Info{Report: []byte("r")}, &register{Ref: 7, ID: "alice"})
	w := read[*Welcome](p)
	require.Equal(t, loopback, w.Observed.Addr())
	require.Equal(t, addrPort(p.conn.LocalAddr()), w.Observed)
	require.Equal(t, 25*time.Second, w.Keepalive)
	require.Equal(t, uint32(7), read[*registered](p).Ref)

	// And the client does so: all of it is in what it sends before any reply.
	client, conn := newSilentServer(t)
	go client.Register(within(t), "bob") // ends with the test's context
	first, err := readMessage(conn(), func() {})
	require.NoError(t, err)
	require.IsType(t, &hello{}, first)
	second, err := readMessage(conn(), func() {})
	require.NoError(t, err)
	require.IsType(t, &Info{}, second)
	third, err := readMessage(conn(), func() {})
	require.NoError(t, err)
	require.Equal(t, "bob", third.(*register).ID)
}

// A Register that its caller gave up does not come true later.
func TestRegisterGivenUp(t *testing.T) {
	h := serve(t, &Server{})
	c := NewClient(ClientConfig{Servers: []ServerAddr{h.addr}, Key: newKey(t)})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, c.Register(ctx, "alice"), context.Canceled)
	ctx, cancel = context.WithCancel(t.Context())
	ran := make(chan error)
	go func() { ran <- c.Run(ctx) }()
	_, err := c.Ready(within(t))
	require.NoError(t, err)
	_, err = c.Lookup(within(t), "alice")
	require.ErrorIs(t, err, CodeUnknownPeer)
	cancel()
	require.ErrorIs(t, receive(t, ran, "the end of Run"), context.Canceled)
	_, err = c.Ready(t.Context())
	require.Error(t, err, "nothing comes after Run")
	require.Error(t, c.Register(t.Context(), "alice"))
}
