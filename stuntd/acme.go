package stuntd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/net/netutil"

	"github.com/gostunt/stunt/internal/sock"
)

// ACME has a certificate authority sign the server's certificate (RFC 8555).
// The zero value does not.
type ACME struct {
	// Hosts are the names to have certificates for, one each. With any, the
	// terms of service of the authority are accepted.
	Hosts []string

	// Directory is the URL of the authority; empty is Let's Encrypt.
	Directory string

	// RootsFile is a PEM file with the roots that Directory's own certificate is
	// verified by, for an authority in the house. Empty: those of the system.
	RootsFile string

	// Email is where the authority can reach the operator; it may be empty.
	Email string

	// HTTP is an address to listen on for the authority's question over HTTP
	// (http-01), which it asks at port 80. Empty: it asks over TLS (tls-alpn-01,
	// RFC 8737), at port 443, which has to reach one of Config.Listen.
	HTTP string
}

const (
	protoACME = acme.ALPNProto // RFC 8737

	// acmeRetry is the first wait after a failure, and what it doubles to.
	// Authorities count failures by the hour.
	acmeRetry, acmeRetryMost = time.Minute, time.Hour

	// acmeLook is how long the wait for a renewal lasts at most at a time: the
	// clock may be set, or the machine sleep.
	acmeLook = time.Hour

	// acmePatience is for one certificate. Authorities answer in seconds.
	acmePatience = 5 * time.Minute
)

// errNoCert ends the handshakes that come before the first certificate. The
// client sees an internal error of the server, and tries again.
var errNoCert = errors.New("the authority has not signed a certificate yet")

// acmeFlags adds the flags about it.
func (o *options) acmeFlags(fs *flag.FlagSet) {
	a := &o.ACME
	fs.Var(&list{p: &a.Hosts}, "acme-host", "`name` to get a certificate for, from an authority whose terms are accepted with this; repeat it for more")
	fs.StringVar(&a.Directory, "acme-directory", "", "`URL` of the authority (default Let's Encrypt)")
	fs.StringVar(&a.RootsFile, "acme-roots", "", "PEM `file` with the roots by which the authority itself is known (default those of the system)")
	fs.StringVar(&a.Email, "acme-email", "", "`address` at which the authority can reach the operator")
	fs.StringVar(&a.HTTP, "acme-http", "", "TCP `address`, :80 as the world sees it, at which the authority asks; without one, it asks at -listen, at port 443")
}

// check returns what is wrong with the configuration by itself.
func (a *ACME) check(c *Config) error {
	if len(a.Hosts) == 0 {
		if a.Directory != "" || a.RootsFile != "" || a.Email != "" || a.HTTP != "" {
			return errors.New("acme settings without a host")
		}
		return nil
	}
	if c.CertFile != "" {
		return errors.New("a certificate by acme, and one in a file")
	}
	for _, host := range a.Hosts {
		if _, err := netip.ParseAddr(host); err == nil || !fullName(host) {
			return fmt.Errorf("acme host %q is not a full name in lower case", host)
		}
	}
	for _, p := range c.Public {
		host, _, _ := strings.Cut(p, ":")
		if !strings.Contains(p, "=") && !slices.Contains(a.Hosts, host) {
			return fmt.Errorf("public host %q is none of the acme hosts", host)
		}
	}
	return nil
}

// fullName reports whether a name has two labels or more; it becomes the name
// of a file, too.
func fullName(host string) bool {
	labels := strings.Split(host, ".")
	for _, l := range labels {
		if l == "" || strings.Trim(l, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return false
		}
	}
	return len(labels) > 1
}

// acmeCert is the certificates that an authority has signed. No handshake waits
// for one.
type acmeCert struct {
	ACME
	dir    string // where they are kept, and the key of the account
	log    *slog.Logger
	client *acme.Client // owned by run
	web    *webServer   // for http-01; nil: none

	certs map[string]*atomic.Pointer[tls.Certificate] // by host; the map does not change

	mu     sync.Mutex                  // guards following
	byTLS  map[string]*tls.Certificate // answers to tls-alpn-01, by host
	byHTTP map[string]string           // answers to http-01, by path
}

// newACME reads the certificates that an earlier server has got.
func newACME(a ACME, state string, log *slog.Logger) (*acmeCert, error) {
	c := &acmeCert{ACME: a, dir: filepath.Join(state, "acme"), log: log, certs: make(map[string]*atomic.Pointer[tls.Certificate]),
		byTLS: make(map[string]*tls.Certificate), byHTTP: make(map[string]string)}
	directory := a.Directory
	if directory == "" {
		directory = acme.LetsEncryptURL
	}
	key, err := openKey(filepath.Join(c.dir, "account.key"))
	if err != nil {
		return nil, fmt.Errorf("the key of the acme account: %w", err)
	}
	through, err := a.transport()
	if err != nil {
		return nil, err
	}
	c.client = &acme.Client{Key: key, DirectoryURL: directory, UserAgent: "stuntd", HTTPClient: &http.Client{Transport: through}}
	for _, host := range a.Hosts {
		c.certs[host] = new(atomic.Pointer[tls.Certificate])
		if cert, err := readCert(c.path(host), host); err == nil {
			c.certs[host].Store(cert)
		}
	}
	if a.HTTP != "" {
		c.web = newWebServer(http.HandlerFunc(c.answer), log)
		c.web.http.SetKeepAlivesEnabled(false)
	}
	return c, nil
}

// transport returns what the authority is talked to through. It holds no
// connection between two requests, which are few.
func (a *ACME) transport() (*http.Transport, error) {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.DisableKeepAlives = true
	if a.RootsFile == "" {
		return t, nil
	}
	text, err := readFile(a.RootsFile, 1<<20)
	if err != nil {
		return nil, err
	}
	t.TLSClientConfig = &tls.Config{RootCAs: x509.NewCertPool()}
	if !t.TLSClientConfig.RootCAs.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no PEM certificate", a.RootsFile)
	}
	return t, nil
}

func (c *acmeCert) path(host string) string { return filepath.Join(c.dir, host+".pem") }

// readCert reads a chain and its key from one file.
func readCert(path, host string) (*tls.Certificate, error) {
	text, err := readFile(path, 1<<20)
	if err != nil {
		return nil, err
	}
	cert, err := tls.X509KeyPair(text, text)
	if err != nil {
		return nil, err
	}
	return &cert, cert.Leaf.VerifyHostname(host)
}

// get is for handshakes. Clients that name no host, or another, get the first
// one's certificate, and so does who has no hello.
func (c *acmeCert) get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	name := c.Hosts[0]
	if hello != nil {
		name = strings.ToLower(hello.ServerName)
	}
	if hello != nil && asksACME(hello) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if cert := c.byTLS[name]; cert != nil {
			return cert, nil
		}
		return nil, errors.New("no such question is open")
	}
	p := c.certs[name]
	if p == nil {
		p = c.certs[c.Hosts[0]]
	}
	cert := p.Load()
	if cert == nil || time.Now().After(cert.Leaf.NotAfter) {
		return nil, errNoCert
	}
	return cert, nil
}

// asksACME reports whether an authority wants to see an answer to tls-alpn-01.
func asksACME(hello *tls.ClientHelloInfo) bool {
	return len(hello.SupportedProtos) == 1 && hello.SupportedProtos[0] == protoACME
}

// answer serves the answers to http-01, and nothing else.
func (c *acmeCert) answer(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	text, ok := c.byHTTP[r.URL.Path]
	c.mu.Unlock()
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream") // as in RFC 8555 section 8.3
	w.Write([]byte(text))
}

// run gets certificates, and new ones in time, until ctx ends.
func (c *acmeCert) run(ctx context.Context) {
	wait := acmeRetry
	for {
		next, failed := acmeLook, false
		for _, host := range c.Hosts {
			due := time.Until(c.renewal(host))
			if due <= 0 {
				if err := c.renew(ctx, host); err != nil {
					if ctx.Err() != nil {
						return
					}
					failed = true
					c.log.Warn("certificate not obtained", "host", host, "err", err, "again", wait)
				}
				due = time.Until(c.renewal(host))
			}
			next = min(next, max(due, acmeRetry))
		}
		if failed {
			next, wait = wait, min(2*wait, acmeRetryMost)
		} else {
			wait = acmeRetry
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(next):
		}
	}
}

// renewal returns when a host needs a new certificate: after two thirds of the
// life of the one that it has.
func (c *acmeCert) renewal(host string) time.Time {
	cert := c.certs[host].Load()
	if cert == nil {
		return time.Time{}
	}
	from, to := cert.Leaf.NotBefore, cert.Leaf.NotAfter
	return to.Add(-to.Sub(from) / 3)
}

// renew gets a certificate, uses and keeps it.
func (c *acmeCert) renew(ctx context.Context, host string) error {
	ctx, cancel := context.WithTimeout(ctx, acmePatience)
	defer cancel()
	text, err := c.obtain(ctx, host)
	if err != nil {
		return err
	}
	cert, err := tls.X509KeyPair(text, text)
	if err == nil {
		err = cert.Leaf.VerifyHostname(host)
	}
	if err != nil {
		return fmt.Errorf("what the authority signed: %w", err)
	}
	c.certs[host].Store(&cert)
	c.log.Info("certificate obtained", "host", host, "until", cert.Leaf.NotAfter)
	if err := keepFile(c.path(host), text); err != nil {
		c.log.Error("certificate not kept", "host", host, "err", err) // it is in use all the same
	}
	return nil
}

// maxQuestioners bounds the connections of the listener for http-01: an
// authority asks from a handful of places at once.
const maxQuestioners = 64

// startACME opens the listener for http-01, if there is to be one, and has the
// certificates got until ctx ends.
func (s *Server) startACME(ctx context.Context, network *sock.Net, c *acmeCert) error {
	if c.web != nil {
		ln, err := network.ListenExclusive(ctx, c.HTTP)
		if err != nil {
			return err
		}
		c.web.listener = netutil.LimitListener(ln, maxQuestioners)
		s.acme = c
		go c.web.run() // until closeACME, which waits
		s.log.Info("listening", "local", ln.Addr(), "phase", "http-01")
	}
	s.mux.wg.Go(func() { c.run(ctx) })
	return nil
}

// closeACME ends the listener for http-01 and its connections.
func (s *Server) closeACME() {
	if s.acme != nil {
		s.acme.web.listener.Close()
		s.acme.web.end()
	}
}
