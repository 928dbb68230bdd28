package stuntd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"golang.org/x/net/netutil"

	"github.com/gostunt/stunt/internal/sock"
	"github.com/gostunt/stunt/stuntd/status"
)

// Admin is the listener for the operator: metrics, a page, profiles. None of it
// is on the port that strangers reach, not even the metrics: from outside they
// would tell an attacker which limits hold and which don't.
type Admin struct {
	// Listen is its TCP address, host:port. Empty: there is none.
	Listen string

	// TokenFile is a file with a token, 32 characters or more, that requests must
	// name. Without it only a loopback address is allowed. On any other address
	// the listener speaks TLS, with the server's certificate.
	TokenFile string
}

const (
	// minToken is what openssl rand -hex 16 prints.
	minToken = 32
	maxToken = 4096

	// adminConns is more than an operator's browsers and scrapers hold open.
	adminConns = 64
)

// check returns what is wrong with the configuration by itself.
func (a *Admin) check() error {
	switch {
	case a.Listen == "" && a.TokenFile != "":
		return errors.New("an admin token without an admin address")
	case a.Listen == "":
		return nil
	}
	if _, _, err := net.SplitHostPort(a.Listen); err != nil {
		return fmt.Errorf("admin address %q is not host:port", a.Listen)
	}
	if !a.local() && a.TokenFile == "" {
		return fmt.Errorf("others reach the admin address %s: it needs a token (-admin-token), or to be on 127.0.0.1", a.Listen)
	}
	return nil
}

// local reports whether only this machine reaches the address.
func (a *Admin) local() bool {
	host, _, _ := net.SplitHostPort(a.Listen)
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// token returns what requests must name; nothing if none is asked for.
func (a *Admin) token() (string, error) {
	if a.TokenFile == "" {
		return "", nil
	}
	b, err := os.ReadFile(a.TokenFile)
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(b))
	if len(token) < minToken || len(token) > maxToken {
		return "", fmt.Errorf("%s: a token of %d characters, %d or more are needed", a.TokenFile, len(token), minToken)
	}
	return token, nil
}

// openAdmin opens the admin listener, if there is to be one, and serves it until
// closeAdmin.
func (s *Server) openAdmin(ctx context.Context, network *sock.Net, a *Admin, cert getCertificate) error {
	if a.Listen == "" {
		return nil
	}
	token, err := a.token()
	if err != nil {
		return err
	}
	tl, err := network.ListenExclusive(ctx, a.Listen)
	if err != nil {
		return fmt.Errorf("the admin address: %w", err)
	}
	s.adminAddr = sock.AddrPort(tl.Addr())
	ln := netutil.LimitListener(tl, adminConns)
	if !a.local() {
		ln = tls.NewListener(ln, &tls.Config{GetCertificate: cert, NextProtos: []string{protoHTTP}, MinVersion: tls.VersionTLS13})
	}
	s.admin = newWebServer(s.board.Handler(token, s.log), s.log)
	s.admin.http.WriteTimeout = 2 * time.Minute // a profile of a minute, which is what most take
	s.admin.listener = ln
	s.mux.wg.Go(func() { s.board.Run(ctx) })
	go s.admin.run() // until closeAdmin, which waits
	s.log.Info("admin listening", "local", tl.Addr())
	return nil
}

// closeAdmin ends the admin listener and its connections.
func (s *Server) closeAdmin() {
	if s.admin != nil {
		s.admin.listener.Close()
		s.admin.end()
	}
}

// AdminAddr returns what the admin listener listens on; it is not valid if there
// is none.
func (s *Server) AdminAddr() netip.AddrPort { return s.adminAddr }

// newBoard makes what counts, for a server whose parts are there.
func (s *Server) newBoard(cert *certSource) {
	s.board = status.New(status.Config{
		Version: version(),
		Facts:   []status.Fact{{Name: "Address for nodes", Value: s.address}, {Name: "Listening on", Value: joined(s.Addrs())}},
		Meet:    s.meet,
		STUN:    s.stun,
		Relay:   s.relay,
		Port: func() status.Port {
			d := s.mux.door
			in := d.inside()
			p := status.Port{Conns: in.conns, HalfOpen: in.halfOpen, MaxConns: d.limits.Conns, Memory: inUse(), MaxMemory: d.memory.limit}
			if strain := d.memory.strain(); strain > calm {
				p.Refusing = strain.String()
			}
			return p
		},
		Expiry: func() time.Time {
			c, err := cert.get(nil)
			if cert.file == nil && cert.acme == nil || err != nil || c.Leaf == nil {
				return time.Time{}
			}
			return c.Leaf.NotAfter
		},
	})
	s.meet.Trace, s.mux.board = s.board.Trace(), s.board
}

func joined(addrs []netip.AddrPort) string {
	texts := make([]string, len(addrs))
	for i, a := range addrs {
		texts[i] = a.String()
	}
	return strings.Join(texts, ", ")
}
