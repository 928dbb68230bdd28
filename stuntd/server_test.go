package stuntd

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt/probe"
	"github.com/gostunt/stunt/rendezvous"
)

// start starts a server on loopback that ends with the test.
func start(t *testing.T, cfg Config) *Server {
	if len(cfg.Listen) == 0 {
		cfg.Listen = []string{"127.0.0.1:0"}
	}
	if cfg.StateDir == "" {
		cfg.StateDir = t.TempDir()
	}
	s, err := Start(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// client returns a running client of s that ends with the test.
func client(t *testing.T, s *Server, cfg rendezvous.ClientConfig) *rendezvous.Client {
	servers, err := rendezvous.ParseServers(s.Address())
	require.NoError(t, err, "the printed address is one that a node takes")
	if cfg.Servers = servers; cfg.Key == nil {
		_, cfg.Key, err = ed25519.GenerateKey(nil)
		require.NoError(t, err)
	}
	c := rendezvous.NewClient(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { c.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	return c
}

// web returns an HTTP client that trusts every certificate, and forgets its
// connections with the test.
func web(t *testing.T) *http.Client {
	tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

func TestServerSpeaksAllOnOnePort(t *testing.T) {
	s := start(t, Config{})
	addr := s.Addrs()[0]

	b, err := probe.Bind(t.Context(), probe.BindConfig{Server: addr})
	require.NoError(t, err)
	defer b.Close()
	require.Equal(t, b.Local().Port(), b.Public().Port(), "no NAT on loopback")

	c := client(t, s, rendezvous.ClientConfig{})
	require.NoError(t, c.Register(t.Context(), "alice"))

	resp, err := web(t).Get("https://" + addr.String() + "/healthz")
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, "ok\n", string(body))
	require.Equal(t, http.StatusOK, resp.StatusCode)
}

func TestServerOpensItsSocketsThroughOpen(t *testing.T) {
	var opened atomic.Int32
	s := start(t, Config{
		Listen: []string{"127.0.0.1:0", "127.0.0.1:0"},
		Open:   func(open func() error) error { opened.Add(1); return open() },
	})
	require.Equal(t, int32(3), opened.Load(), "two listeners, and a look at the machine's addresses")
	_, err := probe.Run(t.Context(), probe.Config{Server: s.Addrs()[0]})
	require.NoError(t, err)
	require.Greater(t, opened.Load(), int32(3), "dials back leave from there too")
}

func TestServerRefusesSecondStart(t *testing.T) {
	s := start(t, Config{})
	_, err := Start(Config{Listen: []string{s.Addrs()[0].String()}, StateDir: t.TempDir()})
	require.ErrorIs(t, err, syscall.EADDRINUSE)
	require.ErrorContains(t, err, "another stuntd")
	_, err = Start(Config{Listen: []string{"127.0.0.1:0", s.Addrs()[0].String()}, StateDir: t.TempDir()})
	require.ErrorIs(t, err, syscall.EADDRINUSE, "one bad address of several is an error too")
}

func TestServerRestartsAtOnceOnItsPort(t *testing.T) {
	dir := t.TempDir()
	s := start(t, Config{StateDir: dir})
	client(t, s, rendezvous.ClientConfig{}).Register(t.Context(), "alice")
	addr := s.Addrs()[0].String()
	require.NoError(t, s.Close(), "connections of the old server are in TIME_WAIT now")
	again := start(t, Config{StateDir: dir, Listen: []string{addr}})
	require.Equal(t, s.Address(), again.Address(), "same port, same pin")
}

func TestServerMappingTests(t *testing.T) {
	// Two addresses and two ports, as a server with two IPs has them. The
	// second port is whatever the first listener on it got.
	one := start(t, Config{})
	p := netip.AddrPortFrom(one.Addrs()[0].Addr(), one.Addrs()[0].Port()).String()
	two := start(t, Config{})
	q := two.Addrs()[0].String()
	one.Close()
	two.Close()
	other := func(hostport string) string { return "127.0.0.2" + hostport[len("127.0.0.1"):] }
	s, err := Start(Config{Listen: []string{p, q, other(p), other(q)}, StateDir: t.TempDir()})
	if err != nil {
		t.Skip("this system has no second loopback address:", err)
	}
	defer s.Close()
	r, err := probe.Run(t.Context(), probe.Config{Server: s.Addrs()[0]})
	require.NoError(t, err)
	require.Equal(t, "none", r.Mapping.String(), "another address and another port answered")
	require.Equal(t, "open", r.Filtering.String(), "the server could dial back from its own listening ports")
}

func TestServerLimitsLeaveOthersServed(t *testing.T) {
	s := start(t, Config{Limits: Limits{HalfOpenPerSource: 4, ConnsPerSource: 16, Handshake: time.Minute}})
	var stalled []io.Closer
	for range 4 { // the whole share of one source, in silence
		stalled = append(stalled, dial(t, s.Addrs()[0].String()))
	}
	require.Eventually(t, func() bool { return s.mux.door.inside().halfOpen == 4 }, 5*time.Second, time.Millisecond)
	refused(t, s.Addrs()[0].String())

	honest, err := dialFrom(t, "127.0.0.2", s.Addrs()[0])
	if err != nil {
		t.Skip("this system has no second loopback address:", err)
	}
	b := tls.Client(honest, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{protoHTTP}})
	require.NoError(t, b.HandshakeContext(t.Context()), "another source is served while one stalls")

	for _, c := range stalled {
		c.Close()
	}
	require.Eventually(t, func() bool { return s.mux.door.inside().halfOpen == 0 }, 5*time.Second, time.Millisecond)
	require.NoError(t, client(t, s, rendezvous.ClientConfig{}).Register(t.Context(), "alice"))
}

func TestServerTellsNodeThatIsOneTooMany(t *testing.T) {
	s := start(t, Config{Limits: Limits{ConnsPerSource: 4}})
	for _, id := range []string{"a", "b", "c"} { // three quarters
		require.NoError(t, client(t, s, rendezvous.ClientConfig{}).Register(t.Context(), id))
	}
	t.Run("fourth", func(t *testing.T) { // its end is the client's
		told := make(chan error, 1)
		client(t, s, rendezvous.ClientConfig{OnDown: func(err error) {
			select {
			case told <- err:
			default:
			}
		}})
		require.ErrorIs(t, <-told, rendezvous.CodeLimit, "not just a closed connection")
	})
	require.Eventually(t, func() bool { return s.mux.door.inside().conns == 3 }, 5*time.Second, time.Millisecond)
	b, err := probe.Bind(t.Context(), probe.BindConfig{Server: s.Addrs()[0]})
	require.NoError(t, err, "room for STUN is left")
	b.Close()
}

func TestServerIDsPerKey(t *testing.T) {
	s := start(t, Config{Limits: Limits{IDsPerKey: 2}})
	c := client(t, s, rendezvous.ClientConfig{})
	require.NoError(t, c.Register(t.Context(), "a"))
	require.NoError(t, c.Register(t.Context(), "b"))
	require.ErrorIs(t, c.Register(t.Context(), "c"), rendezvous.CodeLimit)
	require.NoError(t, client(t, s, rendezvous.ClientConfig{}).Register(t.Context(), "c"), "another key is served")
}

func TestShutdownSaysGoodbye(t *testing.T) {
	s := start(t, Config{Drain: time.Second})
	ended := make(chan error, 8)
	c := client(t, s, rendezvous.ClientConfig{OnDown: func(err error) { ended <- err }})
	require.NoError(t, c.Register(t.Context(), "alice"))
	require.NoError(t, s.Shutdown(t.Context()))
	<-ended
	require.Zero(t, s.mux.door.inside(), "nothing is left")
	require.NoError(t, s.Shutdown(t.Context()), "again is harmless")
}

func TestShutdownIsBounded(t *testing.T) {
	s := start(t, Config{Drain: time.Hour})
	b, err := probe.Bind(t.Context(), probe.BindConfig{Server: s.Addrs()[0]})
	require.NoError(t, err)
	defer b.Close()
	raw, err := dialTLS(t, s.Addrs()[0].String(), protoHTTP)
	require.NoError(t, err)
	stays := client(t, s, rendezvous.ClientConfig{})
	require.NoError(t, stays.Register(t.Context(), "alice"))

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Shutdown(ctx); err != nil { // nil if the session ended before it was asked to
		require.ErrorIs(t, err, context.Canceled)
	}
	<-b.Done()
	closed(t, raw)
	require.Zero(t, s.mux.door.inside())
}

func TestConfigErrors(t *testing.T) {
	for _, tt := range []struct {
		name string
		cfg  Config
		want string
	}{
		{"limit", Config{Limits: Limits{Conns: -1}}, "Conns is negative"},
		{"handshake", Config{Limits: Limits{Handshake: -1}}, "Handshake is negative"},
		{"address", Config{Listen: []string{"nowhere"}}, "missing port"},
		{"half a certificate", Config{CertFile: "x"}, "its certificate"},
		{"no such file", Config{CertFile: "/nonexistent/c", KeyFile: "/nonexistent/k"}, "/nonexistent/c"},
		{"state", Config{StateDir: "/dev/null/x"}, "the server's key"},
		{"public", Config{Public: []string{"a b"}}, "not host or host:port"},
		{"two hosts", Config{Public: []string{"a", "b"}}, "second public host"},
		{"pair", Config{Public: []string{"10.0.0.1=::1"}}, "one family"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.cfg.Listen == nil {
				tt.cfg.Listen = []string{"127.0.0.1:0"}
			}
			if tt.cfg.StateDir == "" {
				tt.cfg.StateDir = t.TempDir()
			}
			_, err := Start(tt.cfg)
			require.ErrorContains(t, err, tt.want)
		})
	}
}

func TestRefusalsAreOneLine(t *testing.T) {
	var log bytes.Buffer
	mu := &sync.Mutex{}
	s := start(t, Config{Limits: Limits{ConnsPerSource: 1}, Logger: slog.New(slog.NewTextHandler(lockedWriter{mu, &log}, nil))})
	keep := dial(t, s.Addrs()[0].String())
	defer keep.Close()
	require.Eventually(t, func() bool { return s.mux.door.inside().conns == 1 }, 5*time.Second, time.Millisecond)
	for range 20 {
		refused(t, s.Addrs()[0].String())
	}
	mu.Lock()
	defer mu.Unlock()
	require.Equal(t, 1, bytes.Count(log.Bytes(), []byte("too many connections")), "%s", log.String())
}

type lockedWriter struct {
	mu *sync.Mutex // guards w
	w  io.Writer
}

func (l lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}
