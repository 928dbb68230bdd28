package rendezvous

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// newSilentServer returns a running client with something to say and the first
// connection it makes, to a server that answers nothing.
func newSilentServer(t *testing.T) (*Client, func() net.Conn) {
	cert, _ := serverCert(t)
	ln, err := tls.Listen("tcp", "127.0.0.1:0", ServerTLS(cert))
	require.NoError(t, err)
	c := NewClient(ClientConfig{Key: newKey(t), Servers: []ServerAddr{
		{Host: "127.0.0.1", Port: uint16(ln.Addr().(*net.TCPAddr).Port), Pin: PinOf(cert.Leaf)}}})
	require.NoError(t, c.Update(Info{Candidates: []byte("c")}))
	gate := make(chan struct{}) // closed by the returned func: Run starts when the caller reads
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { <-gate; ran <- c.Run(ctx) }()
	var conn net.Conn
	t.Cleanup(func() {
		cancel()
		ln.Close()
		<-ran
		if conn != nil {
			conn.Close()
		}
	})
	return c, func() net.Conn {
		if conn == nil {
			// Until the caller's Register is on the books.
			require.Eventually(t, func() bool {
				c.mu.Lock()
				defer c.mu.Unlock()
				return len(c.ids) > 0
			}, patience, time.Millisecond)
			close(gate)
			conn, err = ln.Accept()
			require.NoError(t, err)
			require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
		}
		return conn
	}
}

// finally waits for a client to give up for good.
func finally(t *testing.T, n *node, reason error) {
	t.Helper()
	err := receive(t, n.ended, "the end of Run")
	require.ErrorIs(t, err, reason)
	final, ok := errors.AsType[*FinalError](err)
	require.True(t, ok, "%v", err)
	require.NotEmpty(t, final.Error())
	_, err = n.Ready(t.Context())
	require.ErrorIs(t, err, reason, "callers learn why")
	require.ErrorIs(t, n.Register(t.Context(), "alice"), reason)
	_, err = n.Dial(t.Context(), DialRequest{Peer: "bob"})
	require.ErrorIs(t, err, reason)
}

func TestFinalAtOnce(t *testing.T) {
	h := serve(t, &Server{Admit: func(key ed25519.PublicKey, from netip.AddrPort) error { return errors.New("not in the list") }})

	t.Run("wrong pin", func(t *testing.T) {
		wrong := h.addr
		wrong.Pin[0]++
		finally(t, h.client(t, ClientConfig{Servers: []ServerAddr{wrong}}), ErrPin)
	})
	t.Run("untrusted certificate", func(t *testing.T) {
		bare := h.addr
		bare.Pin = Pin{}
		n := h.client(t, ClientConfig{Servers: []ServerAddr{bare}, RootCAs: x509.NewCertPool()})
		err := receive(t, n.ended, "the end of Run")
		unknown, ok := errors.AsType[x509.UnknownAuthorityError](err)
		require.True(t, ok, "%v", err)
		require.NotNil(t, unknown.Cert)
	})
	t.Run("key refused", func(t *testing.T) {
		n := h.client(t, ClientConfig{})
		finally(t, n, CodeNotAllowed)
		require.ErrorContains(t, receive(t, n.down, "OnDown"), "not in the list")
	})
	t.Run("no server", func(t *testing.T) {
		c := NewClient(ClientConfig{Key: newKey(t)})
		require.ErrorContains(t, c.Run(t.Context()), "no server")
	})
	t.Run("no key", func(t *testing.T) {
		c := NewClient(ClientConfig{Servers: []ServerAddr{h.addr}})
		require.ErrorContains(t, c.Run(t.Context()), "key")
	})
}

// foreign is a TLS server that says one thing to whoever comes.
func foreign(t *testing.T, alpn []string, word message) ServerAddr {
	cert, _ := serverCert(t)
	cfg := ServerTLS(cert)
	cfg.NextProtos = alpn
	ln, err := tls.Listen("tcp", "127.0.0.1:0", cfg)
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			if word != nil {
				l := newLink(c, c)
				l.finish(word)
				l.linger()
				l.wait()
			} else {
				c.(*tls.Conn).Handshake()
			}
			c.Close()
		}
	}()
	t.Cleanup(func() { ln.Close(); <-done })
	return ServerAddr{Host: "127.0.0.1", Port: uint16(ln.Addr().(*net.TCPAddr).Port), Pin: PinOf(cert.Leaf)}
}

func TestFinalVersionsAndProtocols(t *testing.T) {
	h := &host{}
	run := func(addr ServerAddr) *node { return h.client(t, ClientConfig{Servers: []ServerAddr{addr}}) }
	finally(t, run(foreign(t, []string{ALPN}, errorf(CodeVersion, "too old"))), CodeVersion)
	finally(t, run(foreign(t, []string{ALPN}, &Welcome{Version: MaxVersion + 1, Observed: netip.MustParseAddrPort("192.0.2.1:1")})), CodeVersion)
	finally(t, run(foreign(t, nil, &bye{})), ErrProtocol)
	// One with other protocols refuses ours by an alert.
	n := run(foreign(t, []string{"h2"}, nil))
	require.ErrorContains(t, receive(t, n.ended, "the end of Run"), "no application protocol")
}

func TestVersionMismatchNamesBothRanges(t *testing.T) {
	h := serve(t, &Server{})
	p := h.raw(t, newKey(t))
	p.send(&hello{Min: 7, Max: 9}, &register{Ref: 1, ID: "alice"})
	e := p.refusal(CodeVersion)
	require.Contains(t, e.Text, "7 to 9")
	require.Contains(t, e.Text, "1 to 1")
	p.gone()
	for _, v := range []struct{ low, high uint16 }{{0, 1}, {1, 1}, {1, 9}} {
		got, err := negotiate(v.low, v.high)
		require.NoError(t, err)
		require.Equal(t, uint16(1), got)
	}
}

func TestServerWithCertificateAuthority(t *testing.T) {
	h := serve(t, &Server{Agent: "test server"})
	bare := h.addr
	bare.Pin = Pin{}
	n := h.client(t, ClientConfig{Servers: []ServerAddr{bare}, RootCAs: h.pool})
	w, err := n.Ready(within(t))
	require.NoError(t, err)
	require.Equal(t, "test server", w.Agent)
}

// A server that was killed comes back with nothing; its clients bring it all.
func TestServerKilledAndBack(t *testing.T) {
	h, a, b := pair(t, &Server{})
	call, err := a.Dial(within(t), DialRequest{Peer: "bob"})
	require.NoError(t, err)
	unanswered := receive(t, b.offers, "an Offer")
	talking, err := a.Dial(within(t), DialRequest{Peer: "bob"})
	require.NoError(t, err)
	answered := receive(t, b.offers, "an Offer")
	require.NoError(t, answered.Answer(Answer{}))
	receive(t, talking.Answer, "an Answer")

	h.stop()
	receive(t, call.Done, "a call without an answer ends with the session")
	cut := func(err error) bool { return errors.Is(err, ErrDisconnected) || errors.Is(err, CodePeerGone) }
	require.True(t, cut(call.Err()), "%v, by whichever session the server lost first", call.Err())
	receive(t, unanswered.Done, "and so does its offer")
	require.True(t, cut(unanswered.Err()), "%v", unanswered.Err())
	receive(t, a.down, "OnDown")
	receive(t, b.down, "OnDown")
	require.NoError(t, talking.Err(), "one with an answer goes on")
	require.NoError(t, answered.Err())
	talking.Conclude(Outcome{OK: true}) // nobody hears it, and nothing breaks

	receive(t, b.up, "the first session")
	h.start(t, &Server{}, h.addr.HostPort())
	receive(t, b.up, "the second session")
	require.NoError(t, b.Register(within(t), "bob"), "it stands or will")
	require.Eventually(t, func() bool {
		p, err := a.Lookup(within(t), "bob")
		return err == nil && string(p.Report) == "report b"
	}, patience, 10*time.Millisecond, "registered again, with its report")
	require.Empty(t, b.lost)
}

// A name that another key took while we were away is lost, and said to be.
func TestNameLostWhileAway(t *testing.T) {
	h := serve(t, &Server{})
	away := make(chan struct{}, 1) // one value lets one connection through
	away <- struct{}{}
	n := h.client(t, ClientConfig{Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
		select {
		case <-away:
			return (&net.Dialer{}).DialContext(ctx, network, addr)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}})
	require.NoError(t, n.Register(within(t), "bob"))
	h.stop()
	h.start(t, &Server{}, h.addr.HostPort())
	h.peer(t, newKey(t)).register("bob")
	away <- struct{}{}
	require.Equal(t, "bob", receive(t, n.lost, "OnLost"))
	require.ErrorIs(t, n.Register(within(t), "bob"), CodeIDTaken, "the session itself stands")
}

func TestSeveralServers(t *testing.T) {
	first, second := serve(t, &Server{}), serve(t, &Server{})
	untrusted := second.addr
	untrusted.Pin[5]++
	n := first.client(t, ClientConfig{Servers: []ServerAddr{untrusted, first.addr, second.addr}})
	require.NoError(t, n.Register(within(t), "alice"), "one that is refused for good leaves the others")
	require.ErrorIs(t, receive(t, n.down, "OnDown"), ErrPin)
	asker := second.join(t, newKey(t))
	_, err := asker.Lookup(within(t), "alice")
	require.ErrorIs(t, err, CodeUnknownPeer)
	first.stop()
	require.Eventually(t, func() bool {
		_, err := asker.Lookup(within(t), "alice")
		return err == nil
	}, patience, 10*time.Millisecond, "it goes on at the next")
}

// Shutdown sends everybody away, to where there is another server.
func TestDrain(t *testing.T) {
	first, second := serve(t, &Server{Drain: 50 * time.Millisecond}), serve(t, &Server{})
	n := first.client(t, ClientConfig{Servers: []ServerAddr{first.addr, second.addr}})
	require.NoError(t, n.Register(within(t), "alice"))
	require.NoError(t, first.server.Shutdown(within(t)))
	require.ErrorIs(t, receive(t, n.down, "OnDown"), errDrained)
	asker := second.join(t, newKey(t))
	require.Eventually(t, func() bool {
		_, err := asker.Lookup(within(t), "alice")
		return err == nil
	}, patience, 10*time.Millisecond)
	require.Zero(t, first.server.Sessions())
}

func TestDrainingServerTakesNobody(t *testing.T) {
	h := serve(t, &Server{Drain: time.Hour})
	stays := h.peer(t, newKey(t)) // does not leave when asked
	ctx, cancel := context.WithCancel(t.Context())
	down := make(chan error, 1)
	go func() { down <- h.server.Shutdown(ctx) }()
	read[*bye](stays)
	late := h.raw(t, newKey(t))
	late.send(&hello{Min: 1, Max: 1})
	late.refusal(CodeShuttingDown)
	late.gone()
	stays.send(&ping{}) // what stands goes on
	read[*pong](stays)
	cancel()
	require.ErrorIs(t, receive(t, down, "the end of Shutdown"), context.Canceled)
	stays.gone()
}

// Pings keep a session that has nothing to say.
func TestKeepalive(t *testing.T) {
	h := serve(t, &Server{Keepalive: 60 * time.Millisecond})
	n := h.join(t, newKey(t))
	silent := h.peer(t, newKey(t))
	silent.gone() // 2.5 keepalives later
	require.Empty(t, n.down, "the one that pings is still there")
	_, err := n.Lookup(within(t), "nobody")
	require.ErrorIs(t, err, CodeUnknownPeer)
}

// A server that stops answering is left, however alive its TCP looks.
func TestServerFallsSilent(t *testing.T) {
	mute := foreignMute(t)
	h := &host{}
	n := h.client(t, ClientConfig{Servers: []ServerAddr{mute}, Timeout: 200 * time.Millisecond})
	receive(t, n.up, "a session")
	err := receive(t, n.down, "its end")
	var timeout net.Error
	require.ErrorAs(t, err, &timeout)
	require.True(t, timeout.Timeout())
}

// foreignMute welcomes everybody and never speaks again.
func foreignMute(t *testing.T) ServerAddr {
	cert, _ := serverCert(t)
	ln, err := tls.Listen("tcp", "127.0.0.1:0", ServerTLS(cert))
	require.NoError(t, err)
	welcome, err := encode(&Welcome{Version: 1, Observed: netip.MustParseAddrPort("192.0.2.1:1"), Keepalive: minKeepalive})
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			c.Write(welcome)
			newLink(c, c).linger()
			c.Close()
		}
	}()
	t.Cleanup(func() { ln.Close(); <-done })
	return ServerAddr{Host: "127.0.0.1", Port: uint16(ln.Addr().(*net.TCPAddr).Port), Pin: PinOf(cert.Leaf)}
}

// The port that a session used can connect to the same server again at once.
func TestSamePortAgain(t *testing.T) {
	h := serve(t, &Server{})
	var local *net.TCPAddr
	key := newKey(t)
	for range 5 {
		n := h.client(t, ClientConfig{Key: key, Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			d := net.Dialer{}
			if local != nil {
				d.LocalAddr = local
			}
			return d.DialContext(ctx, network, addr)
		}})
		w, err := n.Ready(within(t))
		require.NoError(t, err)
		if local != nil {
			require.Equal(t, local.AddrPort(), w.Observed)
		}
		local = net.TCPAddrFromAddrPort(w.Observed)
		n.stop()
		require.Empty(t, n.down, "the port was free")
	}
}

// What is queued when a client is stopped still goes out.
func TestStopFlushes(t *testing.T) {
	verdicts := make(chan Verdict, 1)
	_, a, b := pair(t, &Server{OnOutcome: func(v Verdict) { verdicts <- v }})
	call, err := a.Dial(within(t), DialRequest{Peer: "bob"})
	require.NoError(t, err)
	require.NoError(t, receive(t, b.offers, "an Offer").Answer(Answer{}))
	receive(t, call.Answer, "an Answer")
	call.Conclude(Outcome{OK: true, Method: "direct"})
	a.stop()
	require.Equal(t, "direct", receive(t, verdicts, "the outcome").Outcome.Method)
}

func TestWrongClientCertificate(t *testing.T) {
	h := serve(t, &Server{})
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, curve.Public(), curve)
	require.NoError(t, err)
	conn, err := tls.Dial("tcp", h.addr.HostPort(), h.addr.tlsConfig(tls.Certificate{Certificate: [][]byte{der}, PrivateKey: curve}, nil))
	require.NoError(t, err)
	defer conn.Close()
	(&peer{t: t, conn: conn}).refusal(CodeBadKey)

	none := h.addr.tlsConfig(tls.Certificate{}, nil)
	none.Certificates = nil
	conn, err = tls.Dial("tcp", h.addr.HostPort(), none)
	require.NoError(t, err)
	defer conn.Close()
	_, err = conn.Read(make([]byte, 1))
	require.ErrorContains(t, err, "certificate required")
	require.NotNil(t, asFinal(h.addr, err))
}
