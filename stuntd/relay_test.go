package stuntd

import (
	"context"
	"crypto/ed25519"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt/relay"
	"github.com/gostunt/stunt/rendezvous"
)

// introduced is a dial between two clients of a server, as far as the relay
// needs it.
type introduced struct {
	relays           []string
	dialer, listener []byte // tickets
}

func introduce(t *testing.T, s *Server) introduced { return introduceAs(t, s, nil) }

// introduceAs has the dialer be a key, if it is one.
func introduceAs(t *testing.T, s *Server, dialer ed25519.PrivateKey) introduced {
	offers, welcome := make(chan *rendezvous.Offer, 1), make(chan rendezvous.Welcome, 1)
	bob := client(t, s, rendezvous.ClientConfig{OnOffer: func(o *rendezvous.Offer) { offers <- o }})
	require.NoError(t, bob.Register(t.Context(), "bob"))
	alice := client(t, s, rendezvous.ClientConfig{Key: dialer, OnSession: func(w rendezvous.Welcome, _ net.Conn) { welcome <- w }})
	call, err := alice.Dial(t.Context(), rendezvous.DialRequest{Peer: "bob"})
	require.NoError(t, err)
	return introduced{(<-welcome).Relays, (<-call.Ringing).Ticket, (<-offers).Ticket}
}

// stream opens a stream at a relay.
func stream(t *testing.T, at string, ticket []byte) net.Conn {
	c, err := net.Dial("tcp", at)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	pre, err := relay.Preamble(ticket)
	require.NoError(t, err)
	_, err = c.Write(pre)
	require.NoError(t, err)
	return c
}

// TestRelay: two that a server has introduced meet at it, for as long as they
// like, and through a drain until its end.
func TestRelay(t *testing.T) {
	s := start(t, Config{Drain: time.Second})
	dial := introduce(t, s)
	require.Equal(t, []string{rendezvous.RelayHere + s.Addrs()[0].String()}, dial.relays)
	at := s.Addrs()[0].String()
	a, b := stream(t, at, dial.dialer), stream(t, at, dial.listener)
	require.NoError(t, relay.ReadStatus(a))
	require.NoError(t, relay.ReadStatus(b))
	require.Zero(t, s.mux.door.inside().halfOpen, "who has shown a ticket is no stranger")
	require.Equal(t, 1, s.RelayStats().Pairs)
	done := make(chan error, 1)
	go func() { done <- s.Shutdown(t.Context()) }()
	_, err := a.Write([]byte("x"))
	require.NoError(t, err)
	_, err = io.ReadFull(b, make([]byte, 1))
	require.NoError(t, err)
	_, err = b.Read(make([]byte, 1))
	require.ErrorIs(t, err, syscall.ECONNRESET)
	require.NoError(t, <-done)
}

// TestRelayOfTheDenied: what is relayed for a key ends when its session is denied.
func TestRelayOfTheDenied(t *testing.T) {
	key, id := newKey(t)
	b := newBook(t, "# nobody")
	s := b.start()
	at := s.Addrs()[0].String()
	pair := func(dialer ed25519.PrivateKey) (a, b net.Conn) {
		dial := introduceAs(t, s, dialer)
		a, b = stream(t, at, dial.dialer), stream(t, at, dial.listener)
		require.NoError(t, relay.ReadStatus(a))
		require.NoError(t, relay.ReadStatus(b))
		return a, b
	}
	denied, peer := pair(key)
	b.write("deny key " + id)
	s.Reload()
	for _, c := range []net.Conn{denied, peer} {
		_, err := c.Read(make([]byte, 1))
		require.ErrorIs(t, err, syscall.ECONNRESET)
	}
	b.waitLog("one of its keys is shut out")
}

// TestRelayElsewhere: a server that only relays takes the tickets of one that
// has the same secret, and no sessions.
func TestRelayElsewhere(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(secret, []byte(strings.Repeat("0123456789abcdef", 2)+"\n"), 0o600))
	other := start(t, Config{Relay: Relay{Only: true, SecretFile: secret}})
	at := other.Addrs()[0].String()
	s := start(t, Config{Relay: Relay{Off: true, SecretFile: secret, At: []string{at}}})
	dial := introduce(t, s)
	require.Equal(t, []string{at}, dial.relays)
	a, b := stream(t, at, dial.dialer), stream(t, at, dial.listener)
	require.NoError(t, relay.ReadStatus(a))
	require.NoError(t, relay.ReadStatus(b))

	c := stream(t, s.Addrs()[0].String(), dial.dialer)
	require.Error(t, relay.ReadStatus(c), "a server that does not relay drops it")

	servers, err := rendezvous.ParseServers(other.Address())
	require.NoError(t, err)
	_, key, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	down := make(chan error, 1)
	go rendezvous.NewClient(rendezvous.ClientConfig{Servers: servers, Key: key, OnDown: func(err error) { down <- err; cancel() }}).Run(ctx)
	require.ErrorContains(t, <-down, "no application protocol")
}

// TestSlowTicket: a client that does not finish its ticket is dropped in time,
// and is half-open until then.
func TestSlowTicket(t *testing.T) {
	s := start(t, Config{Limits: Limits{Handshake: time.Second}})
	c, err := net.Dial("tcp", s.Addrs()[0].String())
	require.NoError(t, err)
	defer c.Close()
	_, err = c.Write([]byte("rlay\x01"))
	require.NoError(t, err)
	require.Eventually(t, func() bool { return s.mux.door.inside().halfOpen == 1 }, 20*time.Second, time.Millisecond)
	c.SetDeadline(time.Now().Add(20 * time.Second))
	_, err = c.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
}
