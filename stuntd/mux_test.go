package stuntd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/gostunt/stunt/internal/sock"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// say answers a connection with what it was taken for and then echoes.
func say(what string, c net.Conn) {
	defer c.Close()
	io.WriteString(c, what+"\n")
	io.Copy(c, c)
}

// listen returns a loopback listener.
func listen(t *testing.T) *net.TCPListener {
	ln, err := new(sock.Net).ListenExclusive(t.Context(), "127.0.0.1:0")
	require.NoError(t, err)
	return ln
}

// startMux runs a mux whose handlers say which one got the connection.
func startMux(t *testing.T, l Limits) (*mux, string) {
	l, err := l.withDefaults()
	require.NoError(t, err)
	cert, err := selfSigned(t.TempDir())
	require.NoError(t, err)
	m := &mux{
		door:    newDoor(l, nil),
		quota:   newQuota(l),
		turns:   newTurns(),
		log:     slog.New(slog.DiscardHandler),
		tls:     &tls.Config{Certificates: []tls.Certificate{*cert}, MinVersion: tls.VersionTLS13, NextProtos: []string{protoSession, protoHTTP}},
		stun:    func(_ context.Context, c net.Conn) { say("stun", c) },
		session: func(_ context.Context, c *tls.Conn) { say("session", c) },
		web:     func(c *tls.Conn) { say("web", c) },
	}
	ln := listen(t)
	ctx, cancel := context.WithCancel(context.Background())
	m.run(ctx, ln)
	t.Cleanup(func() {
		cancel()
		ln.Close()
		m.wg.Wait()
		require.Zero(t, m.door.inside(), "every place is given back")
		require.Empty(t, m.door.sources, "no source is remembered")
	})
	return m, ln.Addr().String()
}

// dial connects to a mux; the test's end closes the connection first.
func dial(t *testing.T, addr string) net.Conn {
	c, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

// dialFrom connects from another source.
func dialFrom(t *testing.T, ip string, to netip.AddrPort) (net.Conn, error) {
	c, err := new(sock.Net).Dial(t.Context(), netip.AddrPortFrom(netip.MustParseAddr(ip), 0), to, 0)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { c.Close() })
	return c, nil
}

// dialTLS connects with TLS and the given ALPN protocols.
func dialTLS(t *testing.T, addr string, protos ...string) (*tls.Conn, error) {
	c := tls.Client(dial(t, addr), &tls.Config{InsecureSkipVerify: true, NextProtos: protos})
	return c, c.HandshakeContext(t.Context())
}

// tlsOver is dialTLS over a connection that is there.
func tlsOver(t *testing.T, raw net.Conn, protos ...string) *tls.Conn {
	c := tls.Client(raw, &tls.Config{InsecureSkipVerify: true, NextProtos: protos})
	require.NoError(t, c.HandshakeContext(t.Context()))
	return c
}

// heard returns the line that the handler of c said, and reads no further.
func heard(t *testing.T, c net.Conn) string {
	var line []byte
	for b := make([]byte, 1); ; line = append(line, b...) {
		_, err := io.ReadFull(c, b)
		require.NoError(t, err)
		if b[0] == '\n' {
			return string(line)
		}
	}
}

// closed waits until the other side closes c, with a FIN or a RST.
func closed(t *testing.T, c net.Conn) {
	_, err := c.Read(make([]byte, 1))
	require.Error(t, err)
	require.NotErrorIs(t, err, syscall.ETIMEDOUT)
}

// refused connects and requires that the server turns it away. The RST may
// come before connect has returned.
func refused(t *testing.T, addr string) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		require.Equal(t, sock.Reset, sock.Classify(err), "%v", err)
		return
	}
	defer c.Close()
	closed(t, c)
}

func TestMuxTellsProtocolsApart(t *testing.T) {
	_, addr := startMux(t, Limits{})

	for _, first := range []byte{0, 1} {
		c := dial(t, addr)
		_, err := c.Write([]byte{first})
		require.NoError(t, err)
		require.Equal(t, "stun", heard(t, c), "one byte is enough to know")
		_, err = c.Write([]byte{7})
		require.NoError(t, err)
		got := make([]byte, 2)
		_, err = io.ReadFull(c, got)
		require.NoError(t, err)
		require.Equal(t, []byte{first, 7}, got, "the handler reads the first byte too")
	}
	for _, tt := range []struct {
		alpn []string
		want string
	}{
		{[]string{protoSession}, "session"},
		{[]string{protoHTTP}, "web"},
		{[]string{"h2", protoHTTP}, "web"},
		{nil, "web"},
	} {
		c, err := dialTLS(t, addr, tt.alpn...)
		require.NoError(t, err)
		require.Equal(t, tt.want, heard(t, c))
	}

	_, err := dialTLS(t, addr, "imap")
	require.ErrorContains(t, err, "no application protocol")
	for _, garbage := range []string{"GET / HTTP/1.1\r\n\r\n", "\xff", "SSH-2.0-x\r\n", "\x16garbage that is no TLS record"} {
		c := dial(t, addr)
		_, err := io.WriteString(c, garbage)
		require.NoError(t, err)
		io.Copy(io.Discard, c) // an alert may come before the end
		closed(t, c)
	}
}

// slowConn writes one byte at a time.
type slowConn struct{ net.Conn }

func (c slowConn) Write(b []byte) (int, error) {
	for i := range b {
		if _, err := c.Conn.Write(b[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(b), nil
}

func TestMuxOneByteAtATime(t *testing.T) {
	_, addr := startMux(t, Limits{})
	c := tls.Client(slowConn{dial(t, addr)}, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{protoSession}})
	require.NoError(t, c.HandshakeContext(t.Context()))
	require.Equal(t, "session", heard(t, c))
}

func TestMuxSilentClientsAreDropped(t *testing.T) {
	_, addr := startMux(t, Limits{Handshake: 20 * time.Millisecond})
	silent := dial(t, addr)
	halfway := dial(t, addr)
	_, err := halfway.Write([]byte{firstTLS})
	require.NoError(t, err)
	closed(t, silent)
	io.Copy(io.Discard, halfway)
	closed(t, halfway)
}

func TestMuxStopEndsHalfOpenAtOnce(t *testing.T) {
	ln := listen(t)
	l, _ := Limits{Handshake: time.Hour}.withDefaults()
	m := &mux{door: newDoor(l, nil), log: slog.New(slog.DiscardHandler)}
	ctx, cancel := context.WithCancel(t.Context())
	m.run(ctx, ln)
	c := dial(t, ln.Addr().String())
	require.Eventually(t, func() bool { return m.door.inside().halfOpen == 1 }, 5*time.Second, time.Millisecond)
	cancel()
	ln.Close()
	m.wg.Wait() // an hour, if the context did not end it
	closed(t, c)
}

// fakeTCP is a connection from an address of the test's choice.
type fakeTCP struct {
	net.Conn
	from netip.Addr
}

func (c fakeTCP) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(c.from, 1))
}

func from(t *testing.T, ip string) net.Conn {
	a, b := net.Pipe()
	t.Cleanup(func() { a.Close(); b.Close() })
	return fakeTCP{a, netip.MustParseAddr(ip)}
}

// Connections that are soon over take no place, and still their number in a
// second is limited.
func TestDoorRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, err := Limits{ConnsPerSource: minRate}.withDefaults()
		require.NoError(t, err)
		d := newDoor(l, nil)
		come := func(ip string) error {
			c, err := d.admit(from(t, ip))
			if err == nil {
				c.Close()
			}
			return err
		}
		for range 2 * minRate {
			require.NoError(t, come("192.0.2.1"))
		}
		require.ErrorIs(t, come("192.0.2.1"), errRateSource)
		require.NoError(t, come("192.0.2.2"), "another source is not concerned")
		time.Sleep(time.Second)
		for range minRate {
			require.NoError(t, come("192.0.2.1"))
		}
		require.ErrorIs(t, come("192.0.2.1"), errRateSource)
		for _, ip := range networks(siteHalfOpen) {
			for range 2 * minRate {
				require.NoError(t, come(ip))
			}
		}
		require.ErrorIs(t, come("2001:db8:0:ffff::1"), errRateSite)
		require.NoError(t, come("2001:db8:1::1"))
	})
}

// networks returns an address in each of n /64s of one /48.
func networks(n int) (ips []string) {
	for i := range n {
		ips = append(ips, fmt.Sprintf("2001:db8:0:%x::1", i))
	}
	return ips
}

func TestDoorLimits(t *testing.T) {
	admit := func(d *door, ip string) (*conn, error) { return d.admit(from(t, ip)) }
	for _, tt := range []struct {
		name   string
		limits Limits
		settle bool     // clients finish their handshake
		in     []string // those who come first
		full   string   // is refused
		err    error
		honest string // is still served; empty where nobody can be
	}{
		{"source", Limits{ConnsPerSource: 2}, true, []string{"192.0.2.1", "192.0.2.1"}, "192.0.2.1", errConnsSource, "192.0.2.2"},
		{"source v4 in v6", Limits{ConnsPerSource: 2}, true, []string{"192.0.2.1", "::ffff:192.0.2.1"}, "192.0.2.1", errConnsSource, "192.0.2.2"},
		{"source v6", Limits{ConnsPerSource: 2}, true, []string{"2001:db8::1", "2001:db8::2"}, "2001:db8::3", errConnsSource, "2001:db8:0:1::1"},
		{"site", Limits{ConnsPerSource: 1}, true, networks(siteConns), "2001:db8:0:ffff::1", errConnsSite, "2001:db8:1::1"},
		{"site half-open", Limits{HalfOpenPerSource: 1}, false, networks(siteHalfOpen), "2001:db8:0:ffff::1", errHalfOpenSite, "2001:db8:1::1"},
		{"source half-open", Limits{HalfOpenPerSource: 1}, false, []string{"192.0.2.1"}, "192.0.2.1", errHalfOpenSource, "192.0.2.2"},
		{"half-open", Limits{HalfOpen: 2}, false, []string{"192.0.2.1", "192.0.2.2"}, "192.0.2.3", errHalfOpen, ""},
		{"all", Limits{Conns: 2}, true, []string{"192.0.2.1", "192.0.2.2"}, "192.0.2.3", errConns, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l, err := tt.limits.withDefaults()
			require.NoError(t, err)
			d := newDoor(l, nil)
			var in []*conn
			for _, ip := range tt.in {
				c, err := admit(d, ip)
				require.NoError(t, err)
				if tt.settle {
					c.settle()
				}
				in = append(in, c)
			}
			_, err = admit(d, tt.full)
			require.ErrorIs(t, err, tt.err)
			if tt.honest != "" {
				c, err := admit(d, tt.honest)
				require.NoError(t, err, "one source's greed costs the others nothing")
				in = append(in, c)
			}
			in[0].Close()
			in[0].Close() // counts once
			c, err := admit(d, tt.full)
			require.NoError(t, err, "a place that was given back is free")
			for _, c := range append(in, c) {
				c.Close()
			}
			require.Zero(t, d.inside())
			require.Empty(t, d.sources)
		})
	}
}

func TestMuxRefusesAndServesAgain(t *testing.T) {
	m, addr := startMux(t, Limits{ConnsPerSource: 2})
	a, err := dialTLS(t, addr, protoSession)
	require.NoError(t, err)
	require.Equal(t, "session", heard(t, a))
	b, err := dialTLS(t, addr, protoSession)
	require.NoError(t, err)
	require.Equal(t, "session", heard(t, b))
	refused(t, addr)

	b.Close()
	require.Eventually(t, func() bool { return m.door.inside().conns == 1 }, 5*time.Second, time.Millisecond)
	c, err := dialTLS(t, addr, protoSession)
	require.NoError(t, err)
	require.Equal(t, "session", heard(t, c))
}

// starved is a listener that has no files for a while.
type starved struct {
	net.Listener
	left atomic.Int32 // how many more times
}

func (l *starved) Accept() (net.Conn, error) {
	if l.left.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: syscall.EMFILE}
	}
	return nil, net.ErrClosed
}

func (l *starved) Addr() net.Addr { return &net.TCPAddr{} }

// lines is a log handler that counts records.
type lines struct {
	slog.Handler
	n atomic.Int32
}

func (l *lines) Enabled(context.Context, slog.Level) bool { return true }
func (l *lines) Handle(context.Context, slog.Record) error {
	l.n.Add(1)
	return nil
}

func TestAcceptErrorsBackOffAndLogOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &lines{}
		ln := &starved{}
		ln.left.Store(20)
		m := &mux{log: slog.New(log)}
		began := time.Now()
		m.accept(t.Context(), ln)
		require.Equal(t, int32(1), log.n.Load(), "twenty errors, one line")
		require.Greater(t, time.Since(began), 10*time.Second, "the wait grows to a second")
	})
}

func TestAcceptErrorsEndWithContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := &starved{}
		ln.left.Store(1 << 30)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		(&mux{log: slog.New(slog.DiscardHandler)}).accept(ctx, ln)
		require.True(t, errors.Is(ctx.Err(), context.DeadlineExceeded))
	})
}

// A request that does not come to its end is dropped in time.
func TestSlowRequestsAreCut(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	for what, say := range map[string]string{
		"nothing":  "",
		"half":     "GET /healthz HTTP/1.1\r\nHost: x\r\n",
		"no body":  "GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n",
		"too long": "GET /healthz HTTP/1.1\r\nHost: " + strings.Repeat("x", 1<<16),
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			c := tls.Client(dial(t, s.Addrs()[0].String()), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{protoHTTP}})
			require.NoError(t, c.Handshake())
			c.SetDeadline(time.Now().Add(2 * patience))
			_, err := io.WriteString(c, say) // some of it may not be taken any more
			require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
			_, err = io.Copy(io.Discard, c)
			require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "it is cut")
		})
	}
}
