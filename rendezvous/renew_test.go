package rendezvous

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestReconnect(t *testing.T) {
	h := serve(t, &Server{})
	asker := h.join(t, newKey(t))
	n := h.join(t, newKey(t))
	require.NoError(t, n.Register(within(t), "alice"))
	receive(t, n.up, "the first session")

	n.Reconnect()
	require.ErrorIs(t, receive(t, n.down, "the end of a session that was well"), errReconnect)
	receive(t, n.up, "the next")
	require.Eventually(t, func() bool {
		p, err := asker.Lookup(within(t), "alice")
		return err == nil && p.Key.Equal(n.key.Public())
	}, patience, time.Millisecond, "registered again by itself")
	require.Empty(t, n.lost, "its own old session is nobody else")
}

// Whatever a client is doing when the network changes, it begins again.
func TestReconnectFromWhateverItDoes(t *testing.T) {
	tries := make(chan context.Context) // each of them fails when its ctx ends
	n := (&host{}).client(t, ClientConfig{Servers: []ServerAddr{{Host: "first"}, {Host: "second"}},
		Dial: func(ctx context.Context, _, addr string) (net.Conn, error) {
			if addr != "first:0" {
				return nil, io.ErrUnexpectedEOF
			}
			select {
			case tries <- ctx:
				<-ctx.Done()
			case <-ctx.Done():
			}
			return nil, ctx.Err()
		}})
	for range 20 {
		ctx := receive(t, tries, "a try at the first server")
		n.Reconnect()
		receive(t, ctx.Done(), "it is given up")
		require.ErrorIs(t, receive(t, n.down, "OnDown"), errReconnect)
	}
}

func TestReconnectBeforeAndAfterRun(t *testing.T) {
	c := NewClient(ClientConfig{Key: newKey(t)})
	c.Reconnect()
	c.Check()
	require.Error(t, c.Run(t.Context()), "there is no server")
	c.Reconnect()
	c.Check()
}

// mute is a server that says Welcome and then nothing, and asks for no ping
// within the time of a test.
func mute(t *testing.T) *node {
	addr := foreign(t, []string{ALPN}, func(c net.Conn) {
		write(c, &Welcome{Version: MaxVersion, Observed: netip.MustParseAddrPort("192.0.2.1:1"), Keepalive: time.Hour})
		io.Copy(io.Discard, c)
	})
	n := (&host{}).client(t, ClientConfig{Servers: []ServerAddr{addr}, Timeout: 2 * time.Second})
	_, err := n.Ready(within(t))
	require.NoError(t, err)
	return n
}

// A session whose path is gone says nothing. Whoever needs it finds that out.
func TestSilenceIsNoticed(t *testing.T) {
	t.Parallel()
	noticed := func(n *node) {
		t.Helper()
		var ne net.Error
		require.ErrorAs(t, receive(t, n.down, "OnDown"), &ne)
		require.True(t, ne.Timeout(), "%v", ne)
		receive(t, n.up, "the first session")
		receive(t, n.up, "another")
	}
	t.Run("when asked", func(t *testing.T) {
		t.Parallel()
		n := mute(t)
		n.Check()
		n.Check()
		noticed(n)
	})
	t.Run("by a dial", func(t *testing.T) {
		t.Parallel()
		n := mute(t)
		call, err := n.Dial(within(t), DialRequest{Peer: "bob"})
		require.NoError(t, err)
		receive(t, call.Done, "the end of the call")
		require.ErrorIs(t, call.Err(), ErrDisconnected)
		noticed(n)
	})
	t.Run("by a lookup", func(t *testing.T) {
		t.Parallel()
		n := mute(t)
		_, err := n.Lookup(within(t), "bob")
		require.ErrorIs(t, err, ErrDisconnected)
		noticed(n)
	})
}

// Two nodes that lost their server at different times are at the same one
// again, whichever of them is there.
func TestServersConverge(t *testing.T) {
	first, second := serve(t, &Server{}), serve(t, &Server{})
	servers := []ServerAddr{first.addr, second.addr}
	a := first.client(t, ClientConfig{Servers: servers, Return: 20 * time.Millisecond})
	require.NoError(t, a.Register(within(t), "alice"))
	first.stop()
	onSecond := second.join(t, newKey(t))
	found := func(asker *node, why string) {
		t.Helper()
		require.Eventually(t, func() bool {
			_, err := asker.Lookup(within(t), "alice")
			return err == nil
		}, patience, time.Millisecond, why)
	}
	found(onSecond, "it goes on at the second")
	first.start(t, &Server{}, first.addr.HostPort())
	onFirst := first.join(t, newKey(t))
	found(onFirst, "and comes back to the first")
	require.Eventually(t, func() bool {
		_, err := onSecond.Lookup(within(t), "alice")
		return err != nil
	}, patience, time.Millisecond, "where it stays")
}

// A preferred server that takes connections and no sessions is left alone.
func TestPreferredServerThatIsNoGood(t *testing.T) {
	visits := make(chan struct{}, 100)
	bad := foreign(t, []string{ALPN}, func(c net.Conn) {
		c.(*tls.Conn).Handshake()
		visits <- struct{}{}
	})
	h := serve(t, &Server{})
	n := h.client(t, ClientConfig{Servers: []ServerAddr{bad, h.addr}, Return: 2 * time.Millisecond})
	for range 3 {
		receive(t, visits, "a visit")
	}
	receive(t, n.up, "a session with the other one, in between")
	receive(t, n.up, "and after")
}
