package rendezvous

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// The goroutine in which the runtime cleans up after package unique is no leak;
// goleak takes it for one when the collector has just run.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("runtime.runCleanups"))
}

// patience bounds everything that should happen at once. Reaching it is a
// failure of the test, never a part of it.
const patience = 20 * time.Second

func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// receive takes one value from ch, in time.
func receive[T any](t testing.TB, ch <-chan T, why string) (v T) {
	t.Helper()
	select {
	case v = <-ch:
	case <-time.After(patience):
		require.FailNow(t, "nothing came", why)
	}
	return v
}

func newKey(t testing.TB) ed25519.PrivateKey {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	return key
}

func fingerprintOf(key ed25519.PrivateKey) string {
	return Fingerprint(key.Public().(ed25519.PublicKey))
}

// serverCert is a certificate for 127.0.0.1 that only its own pool trusts.
func serverCert(t testing.TB) (tls.Certificate, *x509.CertPool) {
	key := newKey(t)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "server"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	leaf, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, pool
}

// A host is a running server on a port of the loopback.
type host struct {
	server *Server
	addr   ServerAddr // with pin
	cert   tls.Certificate
	pool   *x509.CertPool
	ended  chan error // why, of each connection; capacity for all

	ln    net.Listener
	conns sync.WaitGroup
	kill  context.CancelFunc
}

// serve starts srv; its end and the test's are one.
func serve(t testing.TB, srv *Server) *host {
	cert, pool := serverCert(t)
	h := &host{server: srv, cert: cert, pool: pool, addr: ServerAddr{Host: "127.0.0.1", Pin: PinOf(cert.Leaf)}}
	h.start(t, srv, "127.0.0.1:0")
	t.Cleanup(func() { h.stop() })
	return h
}

// start listens; a host that was stopped comes back on its port.
func (h *host) start(t testing.TB, srv *Server, addr string) {
	ln, err := tls.Listen("tcp", addr, ServerTLS(h.cert))
	require.NoError(t, err)
	h.server, h.ln, h.ended = srv, ln, make(chan error, 1000)
	h.addr.Port = uint16(ln.Addr().(*net.TCPAddr).Port)
	ended := h.ended // another's when the host comes back
	if srv.Trace == nil {
		srv.Trace = &Trace{}
	}
	srv.Trace.Ended = func(reason error) { ended <- reason }
	ctx, cancel := context.WithCancel(context.Background())
	h.kill = cancel
	h.conns.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			h.conns.Go(func() {
				if err := srv.ServeConn(ctx, c.(*tls.Conn)); err != nil {
					ended <- err
				}
			})
		}
	})
}

// stop cuts everything at once, as a crash would.
func (h *host) stop() {
	h.ln.Close()
	h.kill()
	h.conns.Wait()
	h.server.Close()
}

// A node is a running client.
type node struct {
	*Client
	key    ed25519.PrivateKey
	offers chan *Offer // capacity 100
	up     chan Welcome
	down   chan error
	lost   chan string
	stop   context.CancelFunc
	ended  chan error // what Run returned
}

func (n *node) fingerprint() string { return fingerprintOf(n.key) }

// join starts a client of the host. It ends with the test.
func (h *host) join(t testing.TB, key ed25519.PrivateKey) *node {
	n := h.client(t, ClientConfig{Key: key})
	_, err := n.Ready(within(t))
	require.NoError(t, err)
	return n
}

func (h *host) client(t testing.TB, cfg ClientConfig) *node {
	if cfg.Key == nil {
		cfg.Key = newKey(t)
	}
	if cfg.Servers == nil {
		cfg.Servers = []ServerAddr{h.addr}
	}
	n := &node{key: cfg.Key, offers: make(chan *Offer, 2000), up: make(chan Welcome, 100), down: make(chan error, 100),
		lost: make(chan string, 100), ended: make(chan error, 1)}
	cfg.OnOffer = func(o *Offer) { n.offers <- o }
	cfg.OnSession = func(w Welcome, _ net.Conn) { n.up <- w }
	cfg.OnDown = func(err error) { n.down <- err }
	cfg.OnLost = func(id string, err error) { n.lost <- id }
	n.Client = NewClient(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	n.stop = func() { cancel(); <-done }
	go func() {
		defer close(done)
		n.ended <- n.Run(ctx)
	}()
	t.Cleanup(n.stop)
	return n
}

// A peer speaks the protocol message by message, as no Client would.
type peer struct {
	t    testing.TB
	conn *tls.Conn
	key  ed25519.PrivateKey
}

// raw opens a TLS connection to the host and says nothing.
func (h *host) raw(t testing.TB, key ed25519.PrivateKey) *peer {
	cert, err := Certificate(key)
	require.NoError(t, err)
	conn, err := tls.Dial("tcp", h.addr.HostPort(), h.addr.tlsConfig(cert, nil))
	require.NoError(t, err)
	t.Cleanup(func() { conn.NetConn().Close() }) // without a last word that could block
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	return &peer{t: t, conn: conn, key: key}
}

// peer opens a session by hand.
func (h *host) peer(t testing.TB, key ed25519.PrivateKey) *peer {
	p := h.raw(t, key)
	p.send(&hello{Min: MinVersion, Max: MaxVersion})
	read[*Welcome](p)
	return p
}

func (p *peer) send(ms ...message) {
	p.t.Helper()
	for _, m := range ms {
		frame, err := encode(m)
		require.NoError(p.t, err)
		_, err = p.conn.Write(frame)
		require.NoError(p.t, err)
	}
}

// read reads one message, which must be an M.
func read[M message](p *peer) M {
	p.t.Helper()
	m, err := readMessage(p.conn, func() {})
	require.NoError(p.t, err)
	require.IsType(p.t, *new(M), m, "%+v", m)
	return m.(M)
}

// refusal reads an Error with the code.
func (p *peer) refusal(code Code) *Error {
	p.t.Helper()
	e := read[*Error](p)
	require.ErrorIs(p.t, e, code)
	return e
}

// gone reads to the end of the connection, which must come.
func (p *peer) gone() {
	p.t.Helper()
	for {
		if _, err := readMessage(p.conn, func() {}); err != nil {
			var ne net.Error
			require.False(p.t, errors.As(err, &ne) && ne.Timeout(), "the server must end the session")
			return
		}
	}
}

func (p *peer) register(id string) {
	p.t.Helper()
	p.send(&register{Ref: 1, ID: id})
	read[*registered](p)
}

var loopback = netip.MustParseAddr("127.0.0.1")
