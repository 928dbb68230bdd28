package stunt_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/gostunt/stunt"
	"github.com/gostunt/stunt/rendezvous"
	"github.com/gostunt/stunt/stuntd"
)

// TestDialErrors shows that every reason for which a dial fails can be told
// from every other.
func TestDialErrors(t *testing.T) {
	w := newWorld(t, 4*time.Millisecond)
	a := w.node(w.behind("a", "eim-apdf"), stunt.Config{ID: "a"})
	guarded := w.node(w.behind("g", "eim-apdf"), stunt.Config{ID: "guarded",
		Allow: func(context.Context, stunt.Peer) error { return errors.New("secret reason") }})
	b := w.node(w.behind("b", "eim-apdf"), stunt.Config{})
	raw := w.node(w.behind("r", "eim-apdf"), stunt.Config{Security: stunt.Raw})
	listen(t, a, 80)
	listen(t, guarded, 80)

	for _, tt := range []struct {
		name    string
		from    *stunt.Node
		address string
		is      error
	}{
		{"nobody there", b, "nobody", stunt.ErrUnknownPeer},
		{"a key that nobody has", b, stunt.Fingerprint(make([]byte, 32)), stunt.ErrUnknownPeer},
		{"no listener on the port", b, "a:81", syscall.ECONNREFUSED},
		{"not allowed", b, "guarded:80", stunt.ErrNotAuthorized},
		{"not allowed, nor told what there is", b, "guarded:81", stunt.ErrNotAuthorized},
		{"listener wants encryption", raw, "a:80", stunt.ErrSecurity},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			c, err := tt.from.DialContext(ctx, "tcp", tt.address)
			require.Nil(t, c)
			require.ErrorIs(t, err, tt.is)
			var oe *net.OpError
			require.ErrorAs(t, err, &oe)
			require.Equal(t, "dial", oe.Op)
			require.Equal(t, tt.address, oe.Addr.String())
			var de *stunt.DialError
			require.ErrorAs(t, err, &de)
			require.NotContains(t, err.Error(), "secret", "the hook's reason is its owner's")
			require.False(t, oe.Timeout(), "somebody said no: %v", err)
		})
	}
	for _, address := range []string{"", "a b", "-a", "a:0", "a:http", "a:65536", "a:1:2", "ä"} {
		_, err := b.DialContext(t.Context(), "tcp", address)
		var ae *net.AddrError
		require.ErrorAs(t, err, &ae, "%q is not an address", address)
	}
	_, err := b.DialContext(t.Context(), "udp", "a")
	require.ErrorIs(t, err, net.UnknownNetworkError("udp"))
}

// TestDialNoPath dials a pair that today's methods can't cross, and reads the
// error as a user would.
func TestDialNoPath(t *testing.T) {
	w := newWorld(t, 4*time.Millisecond)
	w.noIPv6 = true
	a := w.node(w.behind("a", "apdm-random"), stunt.Config{ID: "a"})
	b := w.node(w.behind("b", "apdm-random"), stunt.Config{Window: time.Second, Relay: stunt.RelayNever})
	listen(t, a, 0)
	w.ready(a, b)
	_, err := b.DialContext(t.Context(), "tcp", "a")
	require.ErrorIs(t, err, stunt.ErrNoPath)
	var de *stunt.DialError
	require.ErrorAs(t, err, &de)
	require.NotEmpty(t, de.Attempts, "it says what was tried")
	require.Contains(t, de.Help, "both NATs map per destination", "it says why")
	require.Contains(t, err.Error(), de.Attempts[0].Remote.String())
	var ne net.Error
	require.ErrorAs(t, err, &ne)
	require.True(t, ne.Timeout())
}

// TestDialContextEnds shows that a dial ends with its ctx in every phase, and
// that the connection does not.
func TestDialContextEnds(t *testing.T) {
	w := newWorld(t, 4*time.Millisecond)
	w.noIPv6 = true
	a := w.node(w.behind("a", "apdm-random"), stunt.Config{ID: "a", Relay: stunt.RelayNever})
	b := w.node(w.behind("b", "apdm-random"), stunt.Config{})
	c := w.node(w.behind("c", "eim-eif"), stunt.Config{})
	ln := listen(t, a, 0)
	w.ready(b, c)

	done, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := b.DialContext(done, "tcp", "a")
	require.ErrorIs(t, err, context.Canceled, "cancelled before")

	during, hangUp := context.WithCancel(t.Context())
	var once sync.Once
	b2 := w.node(w.behind("b2", "apdm-random"), stunt.Config{Trace: &stunt.Trace{
		Step: func(s stunt.Step) {
			if s.Phase == stunt.PhaseFired {
				once.Do(hangUp)
			}
		}}})
	_, err = b2.DialContext(during, "tcp", "a")
	require.ErrorIs(t, err, context.Canceled, "cancelled while it punches")

	past, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err = b.DialContext(past, "tcp", "a")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	var ne net.Error
	require.ErrorAs(t, err, &ne)
	require.True(t, ne.Timeout())

	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	conn, err := c.DialContext(ctx, "tcp", "a")
	require.NoError(t, err)
	defer conn.Close()
	cancel()
	other := accept(t, ln)
	defer other.Close()
	_, err = conn.Write([]byte("x"))
	require.NoError(t, err, "the ctx of a dial bounds its establishment only")
	_, err = io.ReadFull(other, make([]byte, 1))
	require.NoError(t, err)
}

// TestDialAfterClose shows that a closed node says so, at once and in a dial.
func TestDialAfterClose(t *testing.T) {
	w := newWorld(t, 4*time.Millisecond)
	w.noIPv6 = true
	a := w.node(w.behind("a", "apdm-random"), stunt.Config{ID: "a", Relay: stunt.RelayNever})
	listen(t, a, 0)
	var b *stunt.Node
	var once sync.Once
	b = w.node(w.behind("b", "apdm-random"), stunt.Config{Trace: &stunt.Trace{
		Step: func(s stunt.Step) {
			if s.Phase == stunt.PhaseFired {
				once.Do(func() { go b.Close() })
			}
		}}})
	_, err := b.DialContext(t.Context(), "tcp", "a")
	require.ErrorIs(t, err, net.ErrClosed, "closed underneath")
	_, err = b.DialContext(t.Context(), "tcp", "a")
	require.ErrorIs(t, err, net.ErrClosed, "closed before")
	_, err = b.Listen(t.Context(), 0)
	require.ErrorIs(t, err, net.ErrClosed)
	require.NoError(t, b.Close(), "closing twice is no error")
}

// TestPeers shows who is told to be at the other end, by name and by key.
func TestPeers(t *testing.T) {
	w := newWorld(t, 4*time.Millisecond)
	asked := make(chan stunt.Peer, 2)
	a := w.node(w.behind("a", "eim-apdf"), stunt.Config{ID: "a",
		Allow: func(_ context.Context, p stunt.Peer) error { asked <- p; return nil }})
	key := stunt.NewKey()
	b := w.node(w.behind("b", "eim-apdf"), stunt.Config{Key: key})
	ln := listen(t, a, 0)

	l := connect(t, b, ln)
	defer l.close()
	require.Equal(t, "a", l.dialer.Peer().ID)
	require.True(t, a.Key().Equal(l.dialer.Peer().Key))
	require.True(t, l.listener.Peer().Key.Equal(key.Public()))
	require.True(t, (<-asked).Key.Equal(key.Public()), "the hook knows the key before any address of ours is given away")
	p, ok := stunt.PeerOf(l.listener)
	require.True(t, ok)
	require.Equal(t, stunt.Fingerprint(key.Public().(ed25519.PublicKey)), p.Fingerprint())

	c, err := b.Dial(t.Context(), "tcp", stunt.Fingerprint(a.Key())+":22")
	require.NoError(t, err, "by fingerprint, trusting nobody")
	defer c.Close()
	defer accept(t, ln).Close()
	require.True(t, a.Key().Equal(c.Peer().Key))
}

// TestManyDials makes 50 connections between the same two nodes at once.
func TestManyDials(t *testing.T) {
	w := newWorld(t, 20*time.Millisecond)
	// That all get through is shown, directly, and not how soon.
	const window = 20 * time.Second
	a := w.node(w.behind("a", "eim-apdf"), stunt.Config{ID: "a", Window: window, Relay: stunt.RelayNever})
	b := w.node(w.behind("b", "linux"), stunt.Config{Window: window, Relay: stunt.RelayNever})
	ln := listen(t, a, 0)
	w.ready(a, b)
	const many = 50
	var served errgroup.Group
	served.Go(func() error {
		for range many {
			c, err := ln.Accept()
			if err != nil {
				return err
			}
			served.Go(func() error {
				defer c.Close()
				_, err := io.Copy(c, c)
				return err
			})
		}
		return nil
	})
	var dials errgroup.Group
	for i := range many {
		dials.Go(func() error {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			c, err := b.Dial(ctx, "tcp", "a")
			if err != nil {
				return err
			}
			defer c.Close()
			if _, err := c.Write([]byte{byte(i)}); err != nil {
				return err
			}
			c.CloseWrite()
			got, err := io.ReadAll(c)
			if err == nil && (len(got) != 1 || got[0] != byte(i)) {
				err = errors.New("another connection's byte")
			}
			return err
		})
	}
	require.NoError(t, dials.Wait())
	require.NoError(t, served.Wait())
}

// TestBothDialEachOther shows that two nodes that listen and dial each other at
// the same moment both get through.
func TestBothDialEachOther(t *testing.T) {
	w := newWorld(t, 4*time.Millisecond)
	a := w.node(w.behind("a", "eim-apdf"), stunt.Config{ID: "a"})
	b := w.node(w.behind("b", "eim-apdf"), stunt.Config{ID: "b"})
	lnA, lnB := listen(t, a, 0), listen(t, b, 0)
	w.ready(a, b)
	for range 5 {
		var g errgroup.Group
		for _, d := range []struct {
			from *stunt.Node
			to   string
		}{{a, "b"}, {b, "a"}} {
			g.Go(func() error {
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				c, err := d.from.Dial(ctx, "tcp", d.to)
				if err == nil {
					c.Close()
				}
				return err
			})
		}
		require.NoError(t, g.Wait())
		accept(t, lnA).Close()
		accept(t, lnB).Close()
	}
}

// TestNoServer shows that an absent server is not mistaken for a peer that
// refuses, and that a wrong pin is final at once.
func TestNoServer(t *testing.T) {
	w := newWorld(t, 0)
	h := w.behind("b", "eim-apdf")
	absent := &stunt.Node{Config: stunt.Config{Server: w.host.AddrPort(4000).String(), OpenSocket: h.Do}}
	defer absent.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	_, err := absent.DialContext(ctx, "tcp", "a")
	require.ErrorIs(t, err, stunt.ErrNoServer)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NotErrorIs(t, err, syscall.ECONNREFUSED, "that is what a peer without a listener says")

	address, _, _ := strings.Cut(w.server.Address(), "#")
	other := &stunt.Node{Config: stunt.Config{OpenSocket: h.Do, Server: address + "#sha256:" + strings.Repeat("ab", 32)}}
	defer other.Close()
	_, err = other.DialContext(t.Context(), "tcp", "a") // no deadline: it must end by itself
	require.ErrorIs(t, err, rendezvous.ErrPin)
	var ne net.Error
	require.ErrorAs(t, err, &ne)
	require.False(t, ne.Timeout())
}

// TestServerRefusesBindings: a server that has no more connections for a source
// is not mistaken for a peer that refuses, either.
func TestServerRefusesBindings(t *testing.T) {
	w := newWorld(t, 0)
	w.noIPv6 = true
	require.NoError(t, w.server.Close())
	w.config.Limits = stuntd.Limits{ConnsPerSource: 4}
	w.serve()
	a := w.node(w.behind("a", "eim-apdf"), stunt.Config{ID: "a"})
	b := w.node(w.behind("b", "eim-apdf"), stunt.Config{Warm: -1})
	ln := listen(t, a, 0)
	go echoAll(ln) // until ln is closed, by listen's cleanup
	for range 5 {  // the session's port does for the first, each other has a connection of its own
		c, err := b.Dial(t.Context(), "tcp", "a")
		if err == nil {
			defer c.Close()
			continue
		}
		require.ErrorIs(t, err, stunt.ErrNoServer)
		require.NotErrorIs(t, err, syscall.ECONNREFUSED)
		require.ErrorContains(t, err, "stun "+w.host.AddrPort(3478).String(), "what was asked of whom")
		return
	}
	require.Fail(t, "more connections than the limit")
}
