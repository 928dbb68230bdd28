package probe

import (
	"context"
	"io"
	"net/netip"
	"sync"
	"time"

	"github.com/gostunt/stunt/internal/sock"
)

// seen is what servers saw of one local endpoint. Those are invalid that had
// no server or no answer.
type seen struct {
	local  netip.AddrPort // the endpoint, as the socket says
	first  netip.AddrPort // at the server
	port   netip.AddrPort // at its other port
	addr   netip.AddrPort // at its other address
	repeat netip.AddrPort // at the server again, on a second connection
}

// mapping does tests 1 to 3 of RFC 5780 section 4.3 over TCP: one local
// endpoint, seen by the server, by its other port and by its other address,
// and once more by the server if those say that each destination is mapped
// for itself. The connections stay open until the end, so that no mapping is
// released meanwhile. It fails if the server cannot be reached.
func (p *prober) mapping(ctx context.Context, at time.Duration, f *facts) error {
	// A listener reserves the port: the connections share it.
	ln, err := p.net.Listen(ctx, netip.AddrPortFrom(p.from, 0))
	if err != nil {
		return err
	}
	defer ln.Close()
	local := netip.AddrPortFrom(p.from, sock.AddrPort(ln.Addr()).Port())

	e := elsewhere{p: p, local: local}
	defer e.close()
	if p.other.IsValid() {
		e.connect(ctx)
	}
	main, err := p.open(ctx, at, local, p.server)
	if err != nil {
		return err
	}
	defer sock.Abort(main.TCPConn)
	f.local, f.first = sock.AddrPort(main.LocalAddr()), main.mapped
	if f.first == f.local {
		return nil // no NAT: nothing to compare
	}
	if !p.other.IsValid() && main.other.IsValid() {
		p.other = main.other
		e.connect(ctx)
	}
	e.Wait()
	f.port, f.addr = e.port.mapped(), e.addr.mapped()
	if f.wantsRepeat() {
		f.repeat = p.again(ctx, main, local)
	}
	return nil
}

// elsewhere is the connections to the server's other endpoints.
type elsewhere struct {
	p     *prober
	local netip.AddrPort
	sync.WaitGroup
	port, addr remote // to be read after Wait
}

type remote struct{ s *stream }

func (r remote) mapped() netip.AddrPort {
	if r.s == nil {
		return netip.AddrPort{}
	}
	return r.s.answer.mapped
}

// connect starts those connections that the server has endpoints for.
func (e *elsewhere) connect(ctx context.Context) {
	server, other := e.p.server, e.p.other
	for _, t := range []struct {
		server netip.AddrPort
		r      *remote
	}{
		{netip.AddrPortFrom(server.Addr(), other.Port()), &e.port},
		{netip.AddrPortFrom(other.Addr(), server.Port()), &e.addr},
	} {
		if t.server == server || t.server.Addr().Is4() != server.Addr().Is4() {
			continue
		}
		at := e.p.reserve()
		e.Go(func() {
			s, err := e.p.open(ctx, at, e.local, t.server)
			if err != nil {
				e.p.log.Debug("no answer", "phase", "mapping", "remote", t.server, "err", err)
				return
			}
			t.r.s = s
		})
	}
}

func (e *elsewhere) close() {
	e.Wait()
	for _, r := range []remote{e.port, e.addr} {
		if r.s != nil {
			sock.Abort(r.s.TCPConn)
		}
	}
}

// wantsRepeat reports whether a second connection to the same server would
// tell more: not where the NAT was seen to reuse a mapping.
func (f *seen) wantsRepeat() bool {
	return f.port != f.first && f.addr != f.first
}

// again connects the same two endpoints a second time and returns what the
// server saw. The server closes the first connection, see attrClose; a RST of
// ours would make the NAT forget the mapping that we want to see again.
func (p *prober) again(ctx context.Context, main *stream, local netip.AddrPort) netip.AddrPort {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	if _, err := exchange(ctx, main, ask{close: true}); err != nil {
		return netip.AddrPort{}
	}
	main.SetReadDeadline(time.Now().Add(closeTimeout))
	if _, err := main.Read(make([]byte, 1)); err != io.EOF {
		return netip.AddrPort{} // a server that is not ours keeps it open
	}
	main.Close()
	for wait := closeRetry; ; wait *= 2 {
		s, err := p.open(ctx, p.reserve()+wait, local, p.server)
		switch {
		case err == nil:
			sock.Abort(s.TCPConn)
			return s.mapped
		case sock.Classify(err) != sock.AddrNotAvail:
			p.log.Debug("no answer", "phase", "mapping again", "remote", p.server, "err", err)
			return netip.AddrPort{}
		}
	}
}

const (
	closeTimeout = time.Second // from the server's answer to its FIN

	// The old connection is ours until the server's last ACK is here: half a
	// round trip to wait, and no event that tells.
	closeRetry = 5 * time.Millisecond
)

// judge says which kind of mapping explains what was seen. The
// note says what is left open.
func (f *seen) judge(preserving bool) (m Mapping, note string) {
	byPort, byAddr := f.port.IsValid(), f.addr.IsValid()
	switch {
	case !f.first.IsValid():
		return MappingUnknown, ""
	case f.first == f.local:
		return NoNAT, ""
	case byAddr && f.addr == f.first:
		if byPort && f.port != f.first {
			return APDM, "mapping depends on the port alone: neither ADM nor APDM"
		}
		return EIM, ""
	case byPort && f.port == f.first:
		if byAddr {
			return ADM, ""
		}
		return EIM, "mapping EIM or ADM: the server has one address"
	case !byPort && !byAddr && preserving:
		return EIM, "mapping EIM assumed, because ports are preserved: the server has one endpoint"
	case f.repeat.IsValid() && f.repeat != f.first:
		return SessionDependent, ""
	case !byPort && !byAddr:
		return MappingUnknown, "mapping EIM, ADM or APDM: the server has one endpoint"
	case !byPort:
		return APDM, "mapping ADM or APDM: the server has one port"
	case !f.repeat.IsValid():
		return APDM, "mapping APDM or session-dependent: no second connection could be made"
	}
	return APDM, ""
}
