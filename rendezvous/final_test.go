package rendezvous

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

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
	h := serve(t, &Server{Admit: func(Applicant) (Pass, error) { return nil, errors.New("not in the list") }})

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

// foreign is a TLS server of another make: it does as it likes with whoever
// comes, one after the other.
func foreign(t *testing.T, alpn []string, talk func(net.Conn)) ServerAddr {
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
			c.SetDeadline(time.Now().Add(patience))
			talk(c)
			c.Close()
		}
	}()
	t.Cleanup(func() { ln.Close(); <-done })
	return ServerAddr{Host: "127.0.0.1", Port: uint16(ln.Addr().(*net.TCPAddr).Port), Pin: PinOf(cert.Leaf)}
}

// write sends one message; an error shows at the reader.
func write(c net.Conn, m message) {
	if frame, err := encode(m); err == nil {
		c.Write(frame)
	}
}

// lastWord is a foreign server that says one thing.
func lastWord(m message) func(net.Conn) {
	return func(c net.Conn) {
		write(c, m)
		closeWrite(c)
		io.Copy(io.Discard, c)
	}
}

func TestFinalVersionsAndProtocols(t *testing.T) {
	run := func(alpn string, m message) *node {
		return (&host{}).client(t, ClientConfig{Servers: []ServerAddr{foreign(t, []string{alpn}, lastWord(m))}})
	}
	finally(t, run(ALPN, errorf(CodeVersion, "too old")), CodeVersion)
	finally(t, run(ALPN, &Welcome{Version: MaxVersion + 1, Observed: netip.MustParseAddrPort("192.0.2.1:1")}), CodeVersion)
	// One with other protocols refuses ours by an alert; one with none says nothing.
	n := run("h2", &bye{})
	require.ErrorContains(t, receive(t, n.ended, "the end of Run"), "no application protocol")
	none := foreign(t, nil, lastWord(&bye{}))
	finally(t, (&host{}).client(t, ClientConfig{Servers: []ServerAddr{none}}), ErrProtocol)
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
