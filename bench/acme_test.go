//go:build linux

package bench

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt/rendezvous"
	"github.com/gostunt/stunt/stuntd"
)

// authority runs Pebble, the ACME server that Let's Encrypt tests clients
// with. It asks at the ports of loopback, whatever name it asks for, and
// rejects some of the nonces that it gave out, as is its way.
func authority(t *testing.T, httpPort, tlsPort int) (at stuntd.ACME, roots *x509.CertPool) {
	t.Setenv("PEBBLE_VA_NOSLEEP", "1")
	t.Setenv("PEBBLE_AUTHZREUSE", "0") // every order is proved anew
	silent := log.New(io.Discard, "", 0)
	store := db.NewMemoryStore()
	signer := ca.New(silent, store, "", "ecdsa", 0, 1, map[string]ca.Profile{"default": {Description: "default"}})
	questioner := va.New(silent, httpPort, tlsPort, true, resolver(t), store)
	front := wfe.New(silent, store, questioner, signer, []string{"pebble.test"}, true, false, 0, 0)
	s := httptest.NewTLSServer(front.Handler())
	t.Cleanup(s.Close)
	roots = x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(signer.GetRootCert(0).PEM()))
	file := filepath.Join(t.TempDir(), "roots.pem")
	require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600))
	return stuntd.ACME{Directory: s.URL + wfe.DirectoryPath, RootsFile: file}, roots
}

// resolver answers every question for an IPv4 address with loopback.
func resolver(t *testing.T) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &dns.Server{Listener: ln, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		a := new(dns.Msg).SetReply(q)
		if q.Question[0].Qtype == dns.TypeA {
			a.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 1}, A: net.IPv4(127, 0, 0, 1)}}
		}
		w.WriteMsg(a)
	})}
	var wg sync.WaitGroup
	wg.Go(func() { s.ActivateAndServe() })
	t.Cleanup(func() { s.Shutdown(); wg.Wait() })
	return ln.Addr().String()
}

// freePort returns one that nobody listens on at this moment.
func freePort(t *testing.T) int {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port
}

// served returns the certificate that a server shows.
func served(addr string, hello *tls.Config) (*x509.Certificate, error) {
	c, err := tls.Dial("tcp", addr, hello)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0], nil
}

func TestACME(t *testing.T) {
	const host = "stunt.example.test"
	for _, kind := range []string{"tls-alpn-01", "http-01"} {
		t.Run(kind, func(t *testing.T) {
			port, httpPort := freePort(t), freePort(t)
			acme, roots := authority(t, httpPort, port)
			acme.Hosts, acme.Email = []string{host}, "operator@example.test"
			addr := (&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}).String()
			cfg := stuntd.Config{Listen: []string{addr}, StateDir: t.TempDir(), ACME: acme, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))}
			if kind == "http-01" {
				cfg.ACME.HTTP = (&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: httpPort}).String()
			}
			start := func() *stuntd.Server {
				s, err := stuntd.Start(cfg)
				require.NoError(t, err)
				t.Cleanup(func() { s.Close() })
				return s
			}
			s := start()
			require.True(t, strings.HasPrefix(s.Address(), host+":"), s.Address())
			require.NotContains(t, s.Address(), "#", "its name is all that a node needs")

			var first *x509.Certificate
			require.Eventually(t, func() bool {
				var err error
				first, err = served(addr, &tls.Config{ServerName: host, RootCAs: roots})
				return err == nil
			}, 30*time.Second, 200*time.Millisecond, "a certificate that verifies") // one source gets 20 handshakes a second, and the authority is at the same address
			other, err := served(addr, &tls.Config{InsecureSkipVerify: true})
			require.NoError(t, err)
			require.Equal(t, first.SerialNumber, other.SerialNumber, "who names no host gets it too")
			_, err = served(addr, &tls.Config{ServerName: host, RootCAs: roots, NextProtos: []string{"acme-tls/1"}})
			require.Error(t, err, "no question is open")

			session(t, s.Address(), addr, roots)

			require.NoError(t, s.Close())
			start()
			again, err := served(addr, &tls.Config{ServerName: host, RootCAs: roots})
			require.NoError(t, err, "at once, from what was kept")
			require.Equal(t, first.SerialNumber, again.SerialNumber)
			kept, err := filepath.Glob(filepath.Join(cfg.StateDir, "acme", "*"))
			require.NoError(t, err)
			require.Len(t, kept, 2, "the account's key and the certificate")
		})
	}
}

// session has a node come to the server by its name, which it knows it by.
func session(t *testing.T, address, addr string, roots *x509.CertPool) {
	servers, err := rendezvous.ParseServers(address)
	require.NoError(t, err)
	_, key, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	c := rendezvous.NewClient(rendezvous.ClientConfig{Servers: servers, Key: key, RootCAs: roots,
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, addr)
		}})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { c.Run(ctx) })
	defer wg.Wait()
	defer cancel()
	require.NoError(t, c.Register(t.Context(), "alice"))
}

// An authority that can't see us signs nothing; the server says so and goes on.
func TestACMEWithoutAWayIn(t *testing.T) {
	acme, _ := authority(t, freePort(t), freePort(t)) // which ask where nobody is
	acme.Hosts = []string{"stunt.example.test"}
	said := make(chan string, 16)
	s, err := stuntd.Start(stuntd.Config{Listen: []string{"127.0.0.1:0"}, StateDir: t.TempDir(), ACME: acme,
		Logger: slog.New(slog.NewTextHandler(lines(said), nil))})
	require.NoError(t, err)
	defer s.Close()
	for line := range said {
		if strings.Contains(line, "certificate not obtained") {
			require.Contains(t, line, "Failed to connect", "what the authority saw")
			break
		}
	}
	_, err = served(s.Addrs()[0].String(), &tls.Config{InsecureSkipVerify: true})
	require.ErrorContains(t, err, "internal error", "an alert that a node tries again after")
}

// lines is a writer of a log that a test reads.
type lines chan string

func (l lines) Write(b []byte) (int, error) {
	select {
	case l <- string(b):
	default: // nobody reads any more
	}
	return len(b), nil
}
