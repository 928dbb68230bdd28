package probe

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt/internal/sock"
)

func TestBinding(t *testing.T) {
	at := start(t, new(Server), "127.0.0.1:0")
	b, err := Bind(t.Context(), BindConfig{Local: sock.Loopback(0), Server: at[0]})
	require.NoError(t, err)
	require.Equal(t, b.Local(), b.Public(), "no NAT on the way")
	require.NotZero(t, b.Local().Port())
	require.NoError(t, b.Err())

	// The port is shared: a listener and a second binding of it fit beside.
	ln, err := new(sock.Net).Listen(t.Context(), b.Local())
	require.NoError(t, err)
	ln.Close()

	local := b.Local()
	require.NoError(t, b.Close())
	require.NoError(t, b.Close(), "may be repeated")
	<-b.Done()
	require.ErrorIs(t, b.Err(), net.ErrClosed)

	// No TIME_WAIT: the same port binds at the same server at once.
	b, err = Bind(t.Context(), BindConfig{Local: local, Server: at[0]})
	require.NoError(t, err)
	require.Equal(t, local, b.Local())
	b.Close()
}

func TestBindingLost(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ln, err := new(sock.Net).Listen(ctx, sock.Loopback(0))
	require.NoError(t, err)
	var wg sync.WaitGroup
	wg.Go(func() { serve(ctx, new(Server).ServeConn, ln) })
	b, err := Bind(ctx, BindConfig{Server: sock.AddrPort(ln.Addr())})
	require.NoError(t, err)
	stop() // the server hangs up
	<-b.Done()
	require.ErrorIs(t, b.Err(), io.EOF)
	b.Close()
	ln.Close()
	wg.Wait()
}

func TestBindFails(t *testing.T) {
	_, err := Bind(t.Context(), BindConfig{})
	require.ErrorContains(t, err, "BindConfig.Server is not set")

	// A server that accepts and says nothing.
	ln, err := new(sock.Net).Listen(t.Context(), sock.Loopback(0))
	require.NoError(t, err)
	defer ln.Close()
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	go func() {
		if c, err := ln.Accept(); err == nil {
			cancel(why)
			c.Close()
		}
	}()
	_, err = Bind(ctx, BindConfig{Server: sock.AddrPort(ln.Addr())})
	require.Error(t, err, "cancelled or hung up on, whichever it sees first")
	require.ErrorContains(t, err, "stun "+ln.Addr().String())

	// One that isn't there; a server that is full resets what it has accepted, which may be in the middle of connect.
	require.NoError(t, ln.Close())
	_, err = Bind(t.Context(), BindConfig{Server: sock.AddrPort(ln.Addr())})
	require.ErrorContains(t, err, "stun "+ln.Addr().String(), "what was asked of whom")
	require.Equal(t, sock.Refused, sock.Classify(err))
}

// addressed is a pipe's end that says it is TCP.
type addressed struct {
	net.Conn
	mu            sync.Mutex // guards following
	local, remote netip.AddrPort
}

func (c *addressed) LocalAddr() net.Addr { return net.TCPAddrFromAddrPort(c.local) }
func (c *addressed) RemoteAddr() net.Addr {
	c.mu.Lock()
	defer c.mu.Unlock()
	return net.TCPAddrFromAddrPort(c.remote)
}

// pair returns the two ends of a connection through a NAT that shows here as
// seen.
func pair(seen string) (client, server *addressed) {
	here, there := netip.MustParseAddrPort("192.168.1.5:40000"), netip.MustParseAddrPort("192.0.2.1:3478")
	a, b := net.Pipe()
	return &addressed{Conn: a, local: here, remote: there},
		&addressed{Conn: b, local: there, remote: netip.MustParseAddrPort(seen)}
}

// count counts reads of whole messages by what is written.
type count struct {
	net.Conn
	writes int
}

func (c *count) Write(b []byte) (int, error) { c.writes++; return c.Conn.Write(b) }

// A binding and its server hold each other for as long as both live, and no
// request is ever late.
func TestBindingIsHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := pair("203.0.113.7:50000")
		go new(Server).ServeConn(t.Context(), server)
		c := &count{Conn: client}
		b, err := bind(t.Context(), c, nil)
		require.NoError(t, err)
		require.Equal(t, "203.0.113.7:50000", b.Public().String())
		require.Equal(t, "192.168.1.5:40000", b.Local().String())

		time.Sleep(time.Hour)
		synctest.Wait()
		require.NoError(t, b.Err())
		require.GreaterOrEqual(t, c.writes, int(time.Hour/refreshInterval))
		require.LessOrEqual(t, c.writes, int(time.Hour/refreshInterval)*10/9+2)
		b.Close()
		synctest.Wait()
	})
}

func TestBindingNoticesAnotherMapping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := pair("203.0.113.7:50000")
		b, err := func() (*Binding, error) {
			go mapTwice(server)
			return bind(t.Context(), client, nil)
		}()
		require.NoError(t, err)
		<-b.Done()
		require.ErrorIs(t, b.Err(), ErrMappingChanged)
		b.Close()
	})
}

// mapTwice answers one request, and then as if the NAT had another port.
func mapTwice(c *addressed) {
	defer c.Close()
	s := new(Server)
	for _, seen := range []string{"203.0.113.7:50000", "203.0.113.7:50001"} {
		c.remote = netip.MustParseAddrPort(seen)
		one := &once{Conn: c}
		s.ServeConn(context.Background(), one)
	}
}

// once is a connection that ends after one answer, for its server only.
type once struct {
	net.Conn
	answered bool
}

func (o *once) Read(b []byte) (int, error) {
	if o.answered {
		return 0, io.EOF
	}
	return o.Conn.Read(b)
}
func (o *once) Write(b []byte) (int, error) { o.answered = true; return o.Conn.Write(b) }
func (o *once) Close() error                { return nil }

// A server that no longer answers is a lost binding, within a refresh.
func TestBindingOfASilentServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := pair("203.0.113.7:50000")
		go new(Server).ServeConn(context.Background(), &once{Conn: server})
		b, err := bind(t.Context(), client, nil)
		require.NoError(t, err)
		start := time.Now()
		<-b.Done()
		require.LessOrEqual(t, time.Since(start), refreshInterval+refreshTimeout)
		var ne net.Error
		require.ErrorAs(t, b.Err(), &ne)
		require.True(t, ne.Timeout())
		b.Close()
	})
}

// The server drops whom it does not hear from, and waits for ctx no longer.
func TestServerEndsIdleConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := pair("203.0.113.7:50000")
		start := time.Now()
		go new(Server).ServeConn(t.Context(), server)
		_, err := client.Read(make([]byte, 1))
		require.ErrorIs(t, err, io.EOF)
		require.Equal(t, defaultIdle, time.Since(start))

		client, server = pair("203.0.113.7:50000")
		ctx, cancel := context.WithCancel(t.Context())
		go new(Server).ServeConn(ctx, server)
		synctest.Wait()
		cancel()
		_, err = client.Read(make([]byte, 1))
		require.ErrorIs(t, err, io.EOF)
	})
}

// A flood is read at the rate of the server, not of the sender.
func TestServerSlowsAFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := pair("203.0.113.7:50000")
		go new(Server).ServeConn(t.Context(), server)
		start := time.Now()
		for range burst + 40 {
			_, err := exchange(t.Context(), client, ask{})
			require.NoError(t, err)
		}
		require.Equal(t, 10*time.Second, time.Since(start).Round(time.Second), "40 messages at 4 a second")
		client.Close()
	})
}
