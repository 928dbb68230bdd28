package cluster

import (
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/gostunt/stunt/rendezvous"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds what should happen soon. Reaching it is a failure.
const patience = 20 * time.Second

var secret = Secret{1}

// bus starts one; it ends with the test.
func bus(t *testing.T, cfg Config) *Bus {
	if cfg.Name == "" {
		cfg.Name = "test"
	}
	if cfg.Listen == "" && len(cfg.URLs) == 0 {
		cfg.Listen = "127.0.0.1:0"
	}
	if cfg.Secret == (Secret{}) {
		cfg.Secret = secret
	}
	b, err := Start(cfg, nil)
	require.NoError(t, err)
	t.Cleanup(b.Close)
	return b
}

// foreign starts a NATS server that is not ours, for clients with a password and, if
// it is secured, with a certificate.
func foreign(t *testing.T, secured *tls.Config) (address string) {
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, Username: "u", Password: "p", NoSigs: true, NoLog: true,
		TLS: secured != nil, TLSVerify: secured != nil, TLSConfig: secured, TLSTimeout: patience.Seconds()})
	require.NoError(t, err)
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	require.True(t, s.ReadyForConnections(patience))
	return (&url.URL{Scheme: "nats", User: url.UserPassword("u", "p"), Host: s.Addr().String()}).String()
}

// signed makes a certificate that vouches for itself, for a server and for clients.
func signed(t *testing.T) (cert, key string) {
	public, private, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(nil, tmpl, tmpl, public, private)
	require.NoError(t, err)
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert"), filepath.Join(dir, "key")
	require.NoError(t, os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	require.NoError(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600))
	return cert, key
}

// reached waits until b hears what a sends.
func reached(t *testing.T, a, b *Bus) {
	t.Helper()
	var heard atomic.Bool
	stop, err := b.Listen("reached", func([]byte, func([]byte)) { heard.Store(true) })
	require.NoError(t, err)
	defer stop()
	require.Eventually(t, func() bool { a.Send("reached", nil); return heard.Load() }, patience, time.Millisecond)
}

type answer struct {
	text string
	err  error
}

func ask(b *Bus, subject, text string, wait time.Duration) <-chan answer {
	got := make(chan answer, 2)
	b.Ask(subject, []byte(text), wait, func(m []byte, err error) { got <- answer{string(m), err} })
	return got
}

func take[T any](t *testing.T, ch <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-ch:
	case <-time.After(patience):
		require.FailNow(t, "nothing came")
	}
	return v
}

// What rendezvous asks of a Bus holds with a NATS server in each program, and
// with one for all.
func TestBus(t *testing.T) {
	for _, tt := range []struct {
		name string
		two  func(t *testing.T) (a, b *Bus)
	}{
		{"own", func(t *testing.T) (a, b *Bus) {
			a = bus(t, Config{})
			return a, bus(t, Config{Routes: []string{a.Addr().String()}})
		}},
		{"another's", func(t *testing.T) (a, b *Bus) {
			at := foreign(t, nil)
			a = bus(t, Config{URLs: []string{at}})
			require.Nil(t, a.Addr())
			return a, bus(t, Config{URLs: []string{at}})
		}},
		{"another's, with certificates", func(t *testing.T) (a, b *Bus) {
			cert, key := signed(t)
			pair, err := tls.LoadX509KeyPair(cert, key)
			require.NoError(t, err)
			known := x509.NewCertPool()
			known.AddCert(pair.Leaf)
			at := foreign(t, &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: known, ClientAuth: tls.RequireAndVerifyClientCert})
			cfg := Config{URLs: []string{at}, CAFile: cert, CertFile: cert, KeyFile: key}
			// Who has no certificate, or takes only those of the system, gets nowhere.
			lone := bus(t, Config{URLs: []string{at}, CAFile: cert})
			lost := bus(t, Config{URLs: []string{at}, CertFile: cert, KeyFile: key})
			a, b = bus(t, cfg), bus(t, cfg)
			reached(t, a, b)
			require.False(t, lone.conn.IsConnected())
			require.False(t, lost.conn.IsConnected())
			return a, b
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, b := tt.two(t)
			reached(t, a, b)
			reached(t, b, a)
			t.Run("in order", func(t *testing.T) { inOrder(t, a, b) })
			t.Run("asked", func(t *testing.T) { asked(t, a, b) })
		})
	}
}

func inOrder(t *testing.T, a, b *Bus) {
	const n = 1000
	heard := make(chan string, 2*n)
	for _, subject := range []string{"one", "two"} {
		stop, err := b.Listen(subject, func(m []byte, reply func([]byte)) {
			if reply == nil {
				heard <- string(m)
			}
		})
		require.NoError(t, err)
		defer stop()
		stop, err = a.Listen(subject, func([]byte, func([]byte)) { heard <- "by its sender" })
		require.NoError(t, err)
		defer stop()
	}
	for take(t, ask(a, "two", "", time.Millisecond)).err == rendezvous.ErrNobody { // not there yet
	}
	for i := range n {
		require.NoError(t, a.Send([]string{"one", "two"}[i%2], fmt.Append(nil, i)))
	}
	for i := range n {
		require.Equal(t, fmt.Sprint(i), take(t, heard))
	}
}

func asked(t *testing.T, a, b *Bus) {
	require.ErrorIs(t, take(t, ask(a, "nobody", "", time.Hour)).err, rendezvous.ErrNobody)
	stop, err := b.Listen("echo", func(m []byte, reply func([]byte)) {
		reply(m)
		reply([]byte("again"))
	})
	require.NoError(t, err)
	silent, err := b.Listen("silent", func([]byte, func([]byte)) {})
	require.NoError(t, err)
	defer silent()
	reached(t, a, b) // with it, what b listens to has come to a
	got := ask(a, "echo", "hello", time.Hour)
	require.Equal(t, answer{text: "hello"}, take(t, got))
	require.ErrorIs(t, take(t, ask(a, "silent", "", time.Millisecond)).err, errUnanswered)
	stop()
	for take(t, ask(a, "echo", "", 10*time.Millisecond)).err != rendezvous.ErrNobody { // until it is known that nobody listens
	}
	require.Empty(t, got, "an answer is one")
}

// A Bus that is closed calls nobody, and says so.
func TestClosed(t *testing.T) {
	a := bus(t, Config{})
	got := ask(a, "x", "", time.Hour)
	a.Close()
	a.Close()
	require.Error(t, a.Send("x", nil))
	_, err := a.Listen("x", nil)
	require.Error(t, err)
	later := ask(a, "x", "", time.Millisecond)
	require.LessOrEqual(t, len(got), 1)
	require.Empty(t, later)
}

// A NATS server that is not there yet, or is no more, is waited for.
func TestServerComesLate(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	at := ln.Addr().(*net.TCPAddr)
	ln.Close()
	a := bus(t, Config{URLs: []string{"nats://" + at.String()}})
	b := bus(t, Config{URLs: []string{"nats://" + at.String()}})
	require.Error(t, take(t, ask(a, "x", "", time.Hour)).err, "at once")
	for range 2 {
		s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: at.Port, NoSigs: true, NoLog: true})
		require.NoError(t, err)
		s.Start()
		require.True(t, s.ReadyForConnections(patience))
		reached(t, a, b)
		s.Shutdown()
		s.WaitForShutdown()
	}
}

func TestConfig(t *testing.T) {
	for _, tt := range []struct {
		cfg  Config
		want string
	}{
		{Config{}, "name"},
		{Config{Name: "a.b"}, "a.b"},
		{Config{Name: "a", Routes: []string{"host"}}, "host"},
		{Config{Name: "a", URLs: []string{"http://secret@host"}}, "nats://"},
		{Config{Name: "a", URLs: []string{"nats://host"}, Routes: []string{"a:1"}}, "not both"},
		{Config{Name: "a", URLs: []string{"nats://host"}, CertFile: "c"}, "its key"},
		{Config{Name: "a", CAFile: "c"}, "no address"},
		{Config{Name: "a", URLs: []string{"tls://host"}, CAFile: os.DevNull}, "certificate"},
	} {
		_, err := Start(tt.cfg, nil)
		require.ErrorContains(t, err, tt.want)
		require.NotContains(t, err.Error(), "secret")
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	_, err = Start(Config{Name: "a", Listen: ln.Addr().String()}, nil)
	require.ErrorContains(t, err, "address already in use")
	_, err = Start(Config{Name: "a", URLs: []string{"nats://127.0.0.1:1"}, Credentials: os.DevNull + "/x"}, nil)
	require.Error(t, err)

	_, err = ParseSecret([]byte("short"))
	require.Error(t, err)
	one, err := ParseSecret([]byte("0123456789abcdef0123456789abcdef"))
	require.NoError(t, err)
	two, err := ParseSecret([]byte("\n 0123456789abcdef0123456789abcdef\r\n"))
	require.NoError(t, err)
	require.Equal(t, one, two, "space at the ends does not count")
	require.NotEqual(t, one.Derive("a"), one.Derive("b"))
	require.NotEqual(t, [32]byte(one), one.Derive("a"))
}

// Two servers of one secret, and of two clusters, do not meet; nor do they on one
// NATS server.
func TestClustersApart(t *testing.T) {
	at := foreign(t, nil)
	a, b := bus(t, Config{URLs: []string{at}}), bus(t, Config{Name: "other", URLs: []string{at}})
	stop, err := b.Listen("x", func([]byte, func([]byte)) { t.Error("heard in another cluster") })
	require.NoError(t, err)
	defer stop()
	c := bus(t, Config{Name: "other", URLs: []string{at}})
	reached(t, c, b)
	require.ErrorIs(t, take(t, ask(a, "x", "", time.Hour)).err, rendezvous.ErrNobody)
}
