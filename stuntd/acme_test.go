package stuntd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt/rendezvous"
)

// nobody is an authority that is not there. What a real one does is shown in
// bench, which has one.
const nobody = "http://127.0.0.1:1/directory"

func TestNoCertificateYet(t *testing.T) {
	s := start(t, Config{ACME: ACME{Hosts: []string{"stunt.example.test"}, Directory: nobody}})
	require.Equal(t, "stunt.example.test", s.Address()[:len("stunt.example.test")])
	_, err := dialTLS(t, s.Addrs()[0].String(), protoSession)
	require.ErrorContains(t, err, "internal error", "told at once; nobody waits for the authority")
	_, err = dialTLS(t, s.Addrs()[0].String(), protoACME)
	require.Error(t, err, "nor is there a question")
}

func TestACMEConfigErrors(t *testing.T) {
	for want, cfg := range map[string]Config{
		"without a host":             {ACME: ACME{Email: "a@b"}},
		"one in a file":              {ACME: ACME{Hosts: []string{"a.b"}}, CertFile: "x", KeyFile: "y"},
		`"192.0.2.1" is not a full`:  {ACME: ACME{Hosts: []string{"192.0.2.1"}}},
		`"localhost" is not a full`:  {ACME: ACME{Hosts: []string{"localhost"}}},
		`"A.b" is not a full`:        {ACME: ACME{Hosts: []string{"A.b"}}},
		`"../a.b" is not a full`:     {ACME: ACME{Hosts: []string{"../a.b"}}},
		`"a..b" is not a full`:       {ACME: ACME{Hosts: []string{"a..b"}}},
		`"c.d" is none of the acme`:  {ACME: ACME{Hosts: []string{"a.b"}}, Public: []string{"c.d"}},
		"/nonexistent":               {ACME: ACME{Hosts: []string{"a.b"}, Directory: nobody, RootsFile: "/nonexistent"}},
		"acme_test.go holds no PEM":  {ACME: ACME{Hosts: []string{"a.b"}, Directory: nobody, RootsFile: "acme_test.go"}},
		"address already in use":     {ACME: ACME{Hosts: []string{"a.b"}, Directory: nobody, HTTP: start(t, Config{}).Addrs()[0].String()}},
		"the key of the acme accoun": {ACME: ACME{Hosts: []string{"a.b"}, Directory: nobody}, StateDir: "/dev/null/x"},
	} {
		if cfg.Listen = []string{"127.0.0.1:0"}; cfg.StateDir == "" {
			cfg.StateDir = t.TempDir()
		}
		_, err := Start(cfg)
		require.ErrorContains(t, err, want)
	}
	require.NoError(t, (&ACME{Hosts: []string{"a.b"}}).check(&Config{Public: []string{"a.b:443", "10.0.0.1=192.0.2.1"}}))
}

func TestRenewalIsInTime(t *testing.T) {
	from := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	c := &acmeCert{certs: map[string]*atomic.Pointer[tls.Certificate]{"a.b": new(atomic.Pointer[tls.Certificate])}}
	require.True(t, c.renewal("a.b").IsZero(), "at once, if there is none")
	c.certs["a.b"].Store(&tls.Certificate{Leaf: &x509.Certificate{NotBefore: from, NotAfter: from.Add(90 * 24 * time.Hour)}})
	require.Equal(t, from.Add(60*24*time.Hour), c.renewal("a.b"))
}

// toServer dials the server whatever the name that it has.
func toServer(s *Server) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, s.Addrs()[0].String())
	}
}

// A certificate that was kept is used only if it is one for the host.
func TestKeptCertificate(t *testing.T) {
	state := t.TempDir()
	cert, key := writeCert(t, t.TempDir(), time.Now()) // for no name
	var both []byte
	for _, path := range []string{key, cert} {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		both = append(both, text...)
	}
	require.NoError(t, keepFile(filepath.Join(state, "acme", "a.b.pem"), both))
	s := start(t, Config{StateDir: state, ACME: ACME{Hosts: []string{"a.b"}, Directory: nobody}})
	_, err := dialTLS(t, s.Addrs()[0].String(), protoSession)
	require.ErrorContains(t, err, "internal error")
	// The client does not take that for the end.
	ended := make(chan error, 16)
	client(t, s, rendezvous.ClientConfig{OnDown: func(err error) { ended <- err }, Dial: toServer(s)})
	for range 2 {
		require.ErrorContains(t, <-ended, "internal error")
	}
}
