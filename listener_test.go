package stunt_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt"
	"github.com/gostunt/stunt/rendezvous"
)

// TestAcceptUnblocks shows that Close ends an Accept that waits, with an error
// that servers know.
func TestAcceptUnblocks(t *testing.T) {
	w := newWorld(t, 4*time.Millisecond)
	a := w.node(w.behind("a", "eim-apdf"), stunt.Config{ID: "a"})
	requireAcceptEnds(t, listen(t, a, 80), func(ln *stunt.Listener) { ln.Close() })
	requireAcceptEnds(t, listen(t, a, 80), func(*stunt.Listener) { a.Close() })
}

func requireAcceptEnds(t *testing.T, ln *stunt.Listener, end func(*stunt.Listener)) {
	t.Helper()
	got := make(chan error, 1)
	go func() {
		_, err := ln.Accept()
		got <- err
	}()
	end(ln)
	select {
	case err := <-got:
		require.ErrorIs(t, err, net.ErrClosed)
		var oe *net.OpError
		require.ErrorAs(t, err, &oe)
	case <-time.After(20 * time.Second):
		require.FailNow(t, "Accept waits for ever")
	}
	_, err := ln.Accept()
	require.ErrorIs(t, err, net.ErrClosed, "and so does every later one")
	require.ErrorIs(t, ln.Close(), net.ErrClosed, "as in package net, the second Close is an error")
}

// TestVirtualPorts shows that each listener gets its own port's connections,
// and the one on port 0 the rest.
func TestVirtualPorts(t *testing.T) {
	w := newWorld(t, 4*time.Millisecond)
	a := w.node(w.behind("a", "eim-apdf"), stunt.Config{ID: "a"})
	b := w.node(w.behind("b", "eim-apdf"), stunt.Config{})
	web := listen(t, a, 80)
	_, err := a.Listen(t.Context(), 80)
	require.Error(t, err, "a port has one listener")
	rest := listen(t, a, 0)
	require.Equal(t, "a:80", web.Addr().String())
	require.Equal(t, "a", rest.Addr().String())
	for address, ln := range map[string]*stunt.Listener{"a:80": web, "a:22": rest, "a": rest} {
		c, err := b.Dial(t.Context(), "tcp", address)
		require.NoError(t, err)
		accept(t, ln).Close()
		c.Close()
	}
	require.NoError(t, web.Close())
	c, err := b.Dial(t.Context(), "tcp", "a:80")
	require.NoError(t, err, "a closed listener's port falls to the one that takes the rest")
	accept(t, rest).Close()
	c.Close()
}

// TestAcceptYieldsWhatWasChosen gives dials up in each of their phases. Accept
// yields the connections of those that succeeded all the same, and no other.
func TestAcceptYieldsWhatWasChosen(t *testing.T) {
	t.Parallel() // most of it is waiting
	w := newWorld(t, 4*time.Millisecond)
	a := w.node(w.behind("a", "eim-apdf"), stunt.Config{ID: "a"})
	var giveUp atomic.Pointer[func(stunt.Step)]
	b := w.node(w.behind("b", "eim-apdf"), stunt.Config{Trace: &stunt.Trace{Step: func(s stunt.Step) {
		if f := giveUp.Load(); f != nil {
			(*f)(s)
		}
	}}})
	ln := listen(t, a, 0)
	w.ready(a, b)
	stood := map[stunt.Phase]int{}
	dialled := byte(0)
	for _, phase := range []stunt.Phase{stunt.PhaseDialing, stunt.PhaseRinging, stunt.PhaseFired, stunt.PhaseAnswered,
		stunt.PhaseConnected, stunt.PhaseVerified, stunt.PhaseSelected, "never"} {
		for range 4 {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			giveUp.Store(new(func(s stunt.Step) {
				if s.Phase == phase {
					cancel()
				}
			}))
			c, err := b.Dial(ctx, "tcp", "a")
			cancel()
			if err != nil {
				require.ErrorIs(t, err, context.Canceled)
				continue
			}
			stood[phase]++
			dialled++
			_, err = c.Write([]byte{dialled})
			require.NoError(t, err)
			other := accept(t, ln)
			other.SetDeadline(time.Now().Add(20 * time.Second))
			var got [1]byte
			_, err = io.ReadFull(other, got[:])
			require.NoError(t, err, "nobody chose what was accepted")
			require.Equal(t, dialled, got[0], "each is accepted once, in the order of the dials")
			other.Close()
			c.Close()
		}
	}
	require.Zero(t, stood[stunt.PhaseDialing]+stood[stunt.PhaseRinging], "to give up early is to give up")
	require.Equal(t, 4, stood[stunt.PhaseSelected], "what is chosen is dialled")
	require.Equal(t, 4, stood["never"])
}

// TestHTTPServerShutdown runs an http.Server as users do; TestMain sees to it
// that no goroutine is left.
func TestHTTPServerShutdown(t *testing.T) {
	w := newWorld(t, 4*time.Millisecond)
	a := w.node(w.behind("a", "eim-apdf"), stunt.Config{ID: "a"})
	b := w.node(w.behind("b", "eim-apdf"), stunt.Config{})
	ln := listen(t, a, 0)
	srv := &http.Server{
		ConnContext: stunt.ConnContext,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			p, ok := stunt.PeerFromContext(r.Context())
			if !ok {
				w.WriteHeader(http.StatusTeapot)
			}
			io.WriteString(w, p.Fingerprint())
		}),
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	tr := &http.Transport{DialContext: b.DialContext}
	resp, err := (&http.Client{Transport: tr}).Get("http://a/")
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	resp.Body.Close()
	require.Equal(t, stunt.Fingerprint(b.Key()), string(body), "the handler knows who asks")
	tr.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	require.NoError(t, srv.Shutdown(ctx))
	require.ErrorIs(t, <-served, http.ErrServerClosed)
}

// TestNames shows whose an ID is.
func TestNames(t *testing.T) {
	w := newWorld(t, 4*time.Millisecond)
	key := stunt.NewKey()
	a := w.node(w.behind("a", "eim-apdf"), stunt.Config{ID: "a", Key: key})
	listen(t, a, 0)
	thief := w.node(w.behind("t", "eim-apdf"), stunt.Config{ID: "a"})
	_, err := thief.Listen(t.Context(), 0)
	require.ErrorIs(t, err, rendezvous.CodeIDTaken, "a live ID of another key is refused, and at once")
	var oe *net.OpError
	require.ErrorAs(t, err, &oe)

	moved := w.node(w.behind("m", "eim-apdf"), stunt.Config{ID: "a", Key: key})
	ln := listen(t, moved, 0)
	b := w.node(w.behind("b", "eim-apdf"), stunt.Config{})
	l := connect(t, b, ln)
	l.close()

	found, err := b.Lookup(t.Context(), "a")
	require.NoError(t, err)
	require.True(t, moved.Key().Equal(found.Key))
	require.WithinDuration(t, time.Now(), found.Since, time.Minute)
	_, err = b.Lookup(t.Context(), "nobody")
	require.ErrorIs(t, err, stunt.ErrUnknownPeer)

	require.NoError(t, ln.Close())
	require.Eventually(t, func() bool {
		_, err := b.Dial(t.Context(), "tcp", "a")
		return err != nil && (errors.Is(err, stunt.ErrUnknownPeer) || errors.Is(err, rendezvous.CodePortClosed))
	}, 20*time.Second, 10*time.Millisecond, "nobody is reached by a name whose listener is closed")
}

// TestConfigErrors shows that a node that can't work says which field is wrong.
func TestConfigErrors(t *testing.T) {
	for field, c := range map[string]stunt.Config{
		"Config.Server": {},
		"Config.ID":     {Server: "127.0.0.1:1", ID: "not_a_label"},
		"Config.Key":    {Server: "127.0.0.1:1", Key: []byte("short")},
	} {
		_, err := stunt.Listen(t.Context(), c)
		require.ErrorContains(t, err, field)
	}
	_, err := stunt.Listen(t.Context(), stunt.Config{Server: "host:port:more"})
	require.ErrorContains(t, err, "Config.Server")
}
