package stuntd

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/gostunt/stunt/internal/sock"
	"github.com/gostunt/stunt/probe"
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

// address returns what clients are to be told: where the server is, which is
// the first that we listen on; the pin of its certificate, if there is one, unless
// they can verify it by name; and its other endpoints, which saves them asking.
// Without a certificate the host must be known.
func (p public) address(listen []netip.AddrPort, cert *tls.Certificate, own []netip.Prefix) (string, error) {
	host := p.host
	if host == "" {
		host = p.ownHost(listen[0].Addr(), cert, own)
	}
	port := p.port
	if port == "" {
		port = fmt.Sprint(listen[0].Port())
	}
	as, err := rendezvous.ParseServers(net.JoinHostPort(host, port))
	if err != nil {
		return "", err
	}
	if cert != nil && !verifies(cert, host) {
		as[0].Pin = rendezvous.PinOf(cert.Leaf)
	}
	as[0].Other, as[0].Other6 = p.others(listen, host)
	return as[0].String(), nil
}

// others returns what the STUN server tells those of its other endpoint who come
// to where the address leads them, over IPv4 and over IPv6.
func (p public) others(listen []netip.AddrPort, host string) (v4, v6 netip.AddrPort) {
	return p.other(listen, host, netip.IPv4Unspecified()), p.other(listen, host, netip.IPv6Unspecified())
}

// other does so for the family of the unspecified address same, which in the
// result stands for the address of the host itself.
func (p public) other(listen []netip.AddrPort, host string, same netip.Addr) netip.AddrPort {
	s := &probe.Server{Alternates: listen, Public: p.outside}
	ip, err := netip.ParseAddr(host)
	named := err != nil // and leads anywhere
	for _, l := range listen {
		in := l.Addr().Unmap()
		if in == netip.IPv6Unspecified() {
			in = same // listens for both families
		}
		out := in
		if o, ok := p.outside[in]; ok {
			out = o
		}
		here := named || out == ip || in == same && ip.Is4() == same.Is4()
		if in.Is4() != same.Is4() || !here {
			continue
		}
		o := s.Other(netip.AddrPortFrom(in, l.Port()))
		if o.Addr() == out {
			o = netip.AddrPortFrom(same, o.Port())
		}
		return o
	}
	return netip.AddrPort{}
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
