package stuntd

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/gostunt/stunt/internal/sock"
	"github.com/gostunt/stunt/rendezvous"
)

// public is how the outside sees the server.
type public struct {
	host    string                    // for clients to dial; empty if not said
	port    string                    // empty: the one we listen on
	outside map[netip.Addr]netip.Addr // by our own addresses: the ones a 1:1 NAT shows
}

// parsePublic reads Config.Public. own are the machine's addresses.
func parsePublic(entries []string, own []netip.Prefix) (public, error) {
	p := public{outside: make(map[netip.Addr]netip.Addr)}
	for _, e := range entries {
		in, out, pair := strings.Cut(e, "=")
		switch {
		case pair:
			a, aerr := netip.ParseAddr(in)
			b, berr := netip.ParseAddr(out)
			if aerr != nil || berr != nil || a.Is4() != b.Is4() {
				return p, fmt.Errorf("public address %q is not two IP addresses of one family", e)
			}
			p.outside[a] = b
		case p.host != "":
			return p, fmt.Errorf("%q is a second public host, after %q", e, p.host)
		default:
			as, err := rendezvous.ParseServers(e)
			if err != nil || len(as) != 1 || as[0].Pin != (rendezvous.Pin{}) {
				return p, fmt.Errorf("public host %q is not host or host:port", e)
			}
			p.host = as[0].Host
			if _, port, err := net.SplitHostPort(e); err == nil {
				p.port = port
			}
		}
	}
	p.guess(own)
	return p, nil
}

// guess fills in what a lone IP address says: if it is not the machine's own,
// then a NAT stands before it, which shows it for whatever address we have.
func (p *public) guess(own []netip.Prefix) {
	ip, err := netip.ParseAddr(p.host)
	if err != nil || len(p.outside) > 0 || ip.IsLoopback() {
		return
	}
	for _, o := range own {
		if o.Addr() == ip {
			clear(p.outside)
			return
		}
		if o.Addr().Is4() == ip.Is4() {
			p.outside[o.Addr()] = ip
		}
	}
}

// address returns what clients are to be told: where the server is, and the
// pin of its certificate, if there is one, unless they can verify it by name.
// Without one the host must be known.
func (p public) address(listen netip.AddrPort, cert *tls.Certificate, own []netip.Prefix) (string, error) {
	host := p.host
	if host == "" {
		host = p.ownHost(listen.Addr(), cert, own)
	}
	port := p.port
	if port == "" {
		port = fmt.Sprint(listen.Port())
	}
	as, err := rendezvous.ParseServers(net.JoinHostPort(host, port))
	if err != nil {
		return "", err
	}
	if cert != nil && !verifies(cert, host) {
		as[0].Pin = rendezvous.PinOf(cert.Leaf)
	}
	return as[0].String(), nil
}

// ownHost picks a host where none was given: what the certificate is for, the
// address that we listen on, or else the machine's most public one.
func (p public) ownHost(listen netip.Addr, cert *tls.Certificate, own []netip.Prefix) string {
	for _, name := range cert.Leaf.DNSNames {
		if !strings.HasPrefix(name, "*") {
			return name
		}
	}
	best := listen.Unmap()
	if best.IsUnspecified() {
		best = sock.Loopback(0).Addr()
		for _, o := range own {
			if rank(o.Addr()) > rank(best) {
				best = o.Addr()
			}
		}
	}
	if out, ok := p.outside[best]; ok {
		best = out
	}
	return best.String()
}

// rank says how many clients an address is good for: public before private,
// and IPv4 first, as not everybody has IPv6.
func rank(a netip.Addr) int {
	r := 0
	if !a.IsLoopback() {
		r += 4
	}
	if !a.IsLoopback() && !a.IsPrivate() {
		r += 2
	}
	if a.Is4() {
		r++
	}
	return r
}

// verifies reports whether a client with this machine's roots accepts the
// certificate for host.
func verifies(cert *tls.Certificate, host string) bool {
	between := x509.NewCertPool()
	for _, der := range cert.Certificate[1:] {
		if c, err := x509.ParseCertificate(der); err == nil {
			between.AddCert(c)
		}
	}
	_, err := cert.Leaf.Verify(x509.VerifyOptions{DNSName: host, Intermediates: between})
	return err == nil
}
