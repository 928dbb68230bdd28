package punch

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/gostunt/stunt/internal/sock"
)

// A Port is a local port number that holes are punched from: it is bound once,
// for both address families, and listens for as long as it lives, so that a
// SYN finds somebody even between two attempts of our own (rule 2 of the
// traversal rules). Attempts and the session with the server share its number.
type Port struct {
	net    *sock.Net
	num    uint16
	v4, v6 *net.TCPListener // nil where the machine lacks the family
	wg     sync.WaitGroup   // the accept loops
}

// minPort is the lowest port to punch from: below it, application-level
// gateways rewrite what they take for SIP, FTP or RTSP.
const minPort = 32768

// OpenPort binds a fresh port and passes every connection that arrives to
// accept, on the goroutine of the accept loop: it must not block.
func OpenPort(ctx context.Context, n *sock.Net, accept func(*net.TCPConn)) (*Port, error) {
	var firstErr error
	for try := range 8 {
		p, err := listenBoth(ctx, n)
		if err != nil {
			if firstErr == nil {
				firstErr = err
			}
			continue
		}
		// An odd ip_local_port_range may never give a high one: take what it has.
		if p.num < minPort && try < 7 {
			p.closeListeners()
			continue
		}
		for _, ln := range []*net.TCPListener{p.v4, p.v6} {
			if ln != nil {
				p.wg.Go(func() { acceptLoop(ln, accept) })
			}
		}
		return p, nil
	}
	if firstErr == nil {
		firstErr = errors.New("no port above 32767 to be had")
	}
	return nil, firstErr
}

// listenBoth binds the same number for IPv4 and IPv6. The kernel picks it:
// unlike a number of our own choosing, it is never one that another program
// shares.
func listenBoth(ctx context.Context, n *sock.Net) (*Port, error) {
	p := &Port{net: n}
	v4, err4 := n.Listen(ctx, netip.AddrPortFrom(netip.IPv4Unspecified(), 0))
	if err4 == nil {
		p.v4, p.num = v4, sock.AddrPort(v4.Addr()).Port()
	}
	v6, err6 := n.Listen(ctx, netip.AddrPortFrom(netip.IPv6Unspecified(), p.num))
	switch {
	case err6 == nil:
		p.v6, p.num = v6, sock.AddrPort(v6.Addr()).Port()
	case err4 != nil:
		return nil, errors.Join(err4, err6)
	case sock.Classify(err6) == sock.AddrInUse:
		v4.Close()
		return nil, err6
	}
	return p, nil // a machine with one family has half a port, which will do
}

// acceptLoop runs until its listener is closed by Close, which waits for it.
func acceptLoop(ln *net.TCPListener, accept func(*net.TCPConn)) {
	for {
		c, err := ln.AcceptTCP()
		switch {
		case err == nil:
			accept(c)
		case errors.Is(err, net.ErrClosed):
			return
		default: // out of descriptors, or aborted before we came: neither is the end
			time.Sleep(5 * time.Millisecond)
		}
	}
}

// Number is the local port number.
func (p *Port) Number() uint16 { return p.num }

// Local is the wildcard address of the port in the family of like.
func (p *Port) Local(like netip.Addr) netip.AddrPort { return sock.Unspecified(like, p.num) }

// Has reports whether the port is bound for the family of ip.
func (p *Port) Has(ip netip.Addr) bool {
	if ip.Is4() {
		return p.v4 != nil
	}
	return p.v6 != nil
}

// Dial connects from the port to remote. See [sock.Net.Dial].
func (p *Port) Dial(ctx context.Context, remote netip.AddrPort) (*net.TCPConn, error) {
	return p.net.Dial(ctx, p.Local(remote.Addr()), remote, 0)
}

// HostCandidates lists the port at the machine's interface addresses.
func (p *Port) HostCandidates() []Candidate {
	prefixes, err := p.net.Prefixes()
	if err != nil {
		return nil // no candidates of this kind; the public one may do
	}
	var cs []Candidate
	for _, pre := range prefixes {
		if p.Has(pre.Addr()) {
			cs = append(cs, Candidate{Host, netip.AddrPortFrom(pre.Addr(), p.num)})
		}
	}
	return cs
}

// Close stops listening and waits for the accept loops. Connections live on.
func (p *Port) Close() {
	p.closeListeners()
	p.wg.Wait()
}

func (p *Port) closeListeners() {
	if p.v4 != nil {
		p.v4.Close()
	}
	if p.v6 != nil {
		p.v6.Close()
	}
}
