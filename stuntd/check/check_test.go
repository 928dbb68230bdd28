package check_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/gostunt/stunt/internal/sock"
	"github.com/gostunt/stunt/probe"
	"github.com/gostunt/stunt/rendezvous"
	"github.com/gostunt/stunt/stuntd"
	"github.com/gostunt/stunt/stuntd/check"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start starts a server that ends with the test, and returns its address.
func start(t *testing.T, c stuntd.Config) rendezvous.ServerAddr {
	if c.Listen == nil {
		c.Listen = []string{"127.0.0.1:0"}
	}
	c.StateDir = t.TempDir()
	s, err := stuntd.Start(c)
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	return parse(t, s.Address())
}

func parse(t *testing.T, address string) rendezvous.ServerAddr {
	servers, err := rendezvous.ParseServers(address)
	require.NoError(t, err)
	return servers[0]
}

// look returns what a check of a server says, by what it is about, and its worst
// grade.
func look(t *testing.T, target check.Target) (check.Grade, map[string][]string) {
	t.Helper()
	var out bytes.Buffer
	r := &check.Report{W: &out}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	check.Remote(ctx, target, r)
	said := make(map[string][]string)
	for line := range strings.Lines(out.String()) {
		grade, rest, _ := strings.Cut(line, " ")
		about := strings.Fields(rest)[0]
		said[about] = append(said[about], grade+": "+strings.TrimSpace(rest))
	}
	t.Log(out.String())
	return r.Worst, said
}

// fourAddresses returns two ports on two loopback addresses.
func fourAddresses(t *testing.T) []string {
	var all []string
	for _, ip := range []string{"127.0.0.1", "127.0.0.2"} {
		for i := range 2 {
			at := ip + ":0"
			if ip == "127.0.0.2" {
				_, port, err := net.SplitHostPort(all[i])
				require.NoError(t, err)
				at = net.JoinHostPort(ip, port)
			}
			ln, err := new(sock.Net).ListenExclusive(t.Context(), at)
			if err != nil {
				t.Skip("no second loopback address, or its port is taken:", err)
			}
			all = append(all, ln.Addr().String())
			defer ln.Close()
		}
	}
	return all
}

func TestGoodDeployment(t *testing.T) {
	t.Parallel()
	worst, said := look(t, check.Target{Server: start(t, stuntd.Config{Listen: fourAddresses(t)})})
	require.Equal(t, check.OK, worst)
	for _, about := range []string{"port", "certificate", "health", "clock", "stun", "addresses", "dial-back", "session", "dial", "relay"} {
		require.Len(t, said[about], 1, "one line about the %s", about)
	}
}

// TestDeployments: each of these lacks something, and the check says what.
func TestDeployments(t *testing.T) {
	const token = "give one"
	for _, tt := range []struct {
		name   string
		config stuntd.Config
		change func(*rendezvous.ServerAddr)
		worst  check.Grade
		about  string
		says   string
	}{
		{name: "one address", worst: check.Warning, about: "addresses", says: "one address and one port"},
		{name: "one address, two ports", config: stuntd.Config{Listen: []string{"127.0.0.1:0", "127.0.0.1:0"}}, worst: check.Warning,
			about: "addresses", says: "one address: nodes"},
		{name: "no relay", config: stuntd.Config{Relay: stuntd.Relay{Off: true}}, worst: check.Warning, about: "relay", says: "there is none"},
		{name: "tokens", config: stuntd.Config{Access: stuntd.Access{Tokens: true}}, worst: check.Warning, about: "session", says: token},
		{name: "another key", change: func(a *rendezvous.ServerAddr) { a.Pin[0]++ }, worst: check.Wrong, about: "certificate", says: "another than the pinned"},
		{name: "no pin", change: func(a *rendezvous.ServerAddr) { a.Pin = rendezvous.Pin{} }, worst: check.Wrong, about: "certificate", says: "give nodes the address with its pin"},
		{name: "an address of last year", change: func(a *rendezvous.ServerAddr) { a.Other = netip.MustParseAddrPort("127.0.0.8:99") }, worst: check.Warning,
			about: "address", says: "that 127.0.0.8:99 answers STUN as well, the server itself says that there is none"},
		{name: "nobody listens", change: func(a *rendezvous.ServerAddr) { a.Port = 1 }, worst: check.Wrong, about: "port", says: "connection refused"},
		{name: "no such name", change: func(a *rendezvous.ServerAddr) { a.Host = "nowhere.invalid" }, worst: check.Wrong, about: "name", says: "not found"},
		{name: "relay elsewhere that is not there", config: stuntd.Config{Relay: stuntd.Relay{Off: true, At: []string{"127.0.0.1:1"}, SecretFile: secret(t)}},
			worst: check.Wrong, about: "relay", says: "does not relay"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			at := start(t, tt.config)
			if tt.change != nil {
				tt.change(&at)
			}
			worst, said := look(t, check.Target{Server: at})
			require.Equal(t, tt.worst, worst)
			require.Contains(t, strings.Join(said[tt.about], "\n"), tt.says)
		})
	}
}

// secret returns a file with a secret of relays.
func secret(t *testing.T) string {
	path := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(path, []byte(strings.Repeat("0123456789abcdef", 4)), 0o600))
	return path
}

// TestHiddenAddress: a server behind a NAT that sends nodes to where it is not.
func TestHiddenAddress(t *testing.T) {
	t.Parallel()
	at := start(t, stuntd.Config{Listen: fourAddresses(t), Public: []string{"127.0.0.2=127.0.0.9"}})
	worst, said := look(t, check.Target{Server: at})
	require.Equal(t, check.Wrong, worst)
	require.Contains(t, strings.Join(said["addresses"], "\n"), "sends nodes to 127.0.0.9:")
}

// chain makes a certificate for loopback, and who trusts it.
func chain(t *testing.T, until time.Time) (tls.Certificate, *x509.CertPool) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "server"}, NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: until,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	require.NoError(t, err)
	leaf, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, pool
}

func TestCertificates(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		left  time.Duration
		worst check.Grade // one address is a warning anyway
		says  string
	}{
		{-time.Hour, check.Wrong, "it has ended"},
		{3*24*time.Hour + time.Hour, check.Warning, "it ends in 3 days"},
		{60 * 24 * time.Hour, check.Warning, "it is good for 127.0.0.1"},
	} {
		cert, pool := chain(t, time.Now().Add(tt.left))
		key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
		require.NoError(t, err)
		dir := t.TempDir()
		c := stuntd.Config{CertFile: filepath.Join(dir, "cert"), KeyFile: filepath.Join(dir, "key")}
		require.NoError(t, os.WriteFile(c.CertFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}), 0o600))
		require.NoError(t, os.WriteFile(c.KeyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}), 0o600))
		at := start(t, c)
		at.Pin = rendezvous.Pin{} // as with an authority of one's own
		worst, said := look(t, check.Target{Server: at, RootCAs: pool})
		require.Equal(t, tt.worst, worst)
		require.Contains(t, said["certificate"][0], tt.says)
	}
}

// TestSomethingElse: a web server is no stuntd, and its clock is looked at all
// the same.
func TestSomethingElse(t *testing.T) {
	t.Parallel()
	cert, pool := chain(t, time.Now().Add(60*24*time.Hour))
	for _, tt := range []struct {
		off  time.Duration
		says string
	}{
		{-time.Hour, "wrong: clock        it differs from the one here by -"},
		{20 * time.Second, "warning: clock        it differs from the one here by "},
		{0, "ok: clock        it agrees"},
	} {
		ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
		require.NoError(t, err)
		s := &http.Server{ErrorLog: log.New(io.Discard, "", 0), Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Date", time.Now().Add(tt.off).UTC().Format(http.TimeFormat))
			io.WriteString(w, "hello")
		})}
		done := make(chan struct{})
		go func() { // until s is closed
			defer close(done)
			s.Serve(ln)
		}()
		at := netip.MustParseAddrPort(ln.Addr().String())
		worst, said := look(t, check.Target{Server: rendezvous.ServerAddr{Host: at.Addr().String(), Port: at.Port()}, RootCAs: pool})
		require.Equal(t, check.Wrong, worst)
		require.Contains(t, said["clock"][0], tt.says)
		require.Contains(t, said["health"][0], `answers 200 OK "hello"`)
		require.Contains(t, said["stun"][0], "wrong")
		require.Contains(t, said["session"][0], "wrong")
		s.Close()
		<-done
	}
}

// TestNoDialBack: a server that answers, and can't connect to anybody.
func TestNoDialBack(t *testing.T) {
	t.Parallel()
	ln, err := new(sock.Net).ListenExclusive(t.Context(), "127.0.0.1:0")
	require.NoError(t, err)
	s := &probe.Server{DialBacks: -1}
	ctx, stop := context.WithCancel(t.Context())
	var serving sync.WaitGroup
	serving.Go(func() { // until the listener is closed
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { s.ServeConn(ctx, c) })
		}
	})
	at := netip.MustParseAddrPort(ln.Addr().String())
	worst, said := look(t, check.Target{Server: rendezvous.ServerAddr{Host: at.Addr().String(), Port: at.Port()}})
	require.Equal(t, check.Wrong, worst)
	require.Contains(t, said["stun"][0], "ok: ")
	require.Contains(t, said["dial-back"][0], "did not connect to this host")
	require.Contains(t, said["tls"][0], "no TLS")
	stop()
	ln.Close()
	serving.Wait()
}
