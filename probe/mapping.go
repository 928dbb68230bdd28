package probe

import (
	"context"
	"io"
	"net"
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

// mappings is one local endpoint and its connections to the server, kept open
// so that no mapping is released while others are compared with it.
type mappings struct {
	p     *prober
	local netip.AddrPort
	ln    *net.TCPListener // reserves the port: the connections share it
	main  *stream

	cancel     context.CancelFunc // ends connecting to port and addr
	wg         sync.WaitGroup     // both
	port, addr *stream            // to the server's other port and address; nil: none, or no answer
}

// mappings does tests 1 to 3 of RFC 5780 section 4.3 over TCP: one local
// endpoint, seen by the server, by its other port and by its other address. It
// fails if the server cannot be reached; the caller closes the result.
func (p *prober) mappings(ctx context.Context, at time.Duration) (*mappings, error) {
	ln, err := p.net.Listen(ctx, netip.AddrPortFrom(p.from, 0))
	if err != nil {
		return nil, err
	}
	m := &mappings{p: p, ln: ln, cancel: func() {}, local: netip.AddrPortFrom(p.from, sock.AddrPort(ln.Addr()).Port())}
	m.connect(ctx)
	if m.main, err = p.open(ctx, call{at: at, local: m.local, server: p.server}); err != nil {
		m.close()
		return nil, err
	}
	local := sock.AddrPort(m.main.LocalAddr())
	p.note(func(f *facts) { f.local, f.first, f.rtt = local, m.main.mapped, m.main.rtt })
	if m.main.mapped == local {
		if p.other.IsValid() {
			p.other = m.main.other // whatever was said of it
		}
		return m, nil // no NAT: nothing to compare
	}
	if o := m.main.other; o != p.other {
		m.hangUp() // on those that it was said to have
		p.other = o
		m.connect(ctx)
	}
	late := time.AfterFunc(straggle+3*m.main.rtt, m.cancel)
	m.wg.Wait()
	late.Stop()
	p.note(func(f *facts) {
		f.port, f.addr = mappedBy(m.port), mappedBy(m.addr)
		if m.addr != nil {
			f.far.rtt, f.far.hops = m.addr.rtt, m.addr.hops()
		}
	})
	return m, nil
}

// straggle is how long the server's other endpoints may take longer than its first:
// a SYN that was lost is repeated after a second. Who does not answer that one
// either has them behind a firewall, or nowhere, and what is known waits for it.
const straggle = time.Second + grace

func mappedBy(s *stream) netip.AddrPort {
	if s == nil {
		return netip.AddrPort{}
	}
	return s.mapped
}

// connect starts the connections to those other endpoints that the server has,
// as far as is known.
func (m *mappings) connect(ctx context.Context) {
	server, other := m.p.server, m.p.other
	if !other.IsValid() {
		return
	}
	ctx, m.cancel = context.WithCancel(ctx)
	for _, t := range []struct {
		server netip.AddrPort
		s      **stream
	}{
		{netip.AddrPortFrom(server.Addr(), other.Port()), &m.port},
		{netip.AddrPortFrom(other.Addr(), server.Port()), &m.addr},
	} {
		if t.server == server || t.server.Addr().Is4() != server.Addr().Is4() {
			continue
		}
		c := call{at: m.p.reserve(), local: m.local, server: t.server, first: ask{syn: true}}
		m.wg.Go(func() {
			s, err := m.p.open(ctx, c)
			if err != nil {
				m.p.log.Debug("no answer", "phase", "mapping", "remote", t.server, "err", err)
				return
			}
			*t.s = s
		})
	}
}

// hangUp ends the connections to the server's other endpoints.
func (m *mappings) hangUp() {
	m.cancel()
	m.wg.Wait()
	for _, s := range []**stream{&m.port, &m.addr} {
		if *s != nil {
			sock.Abort((*s).TCPConn)
			*s = nil
		}
	}
}

func (m *mappings) close() {
	m.hangUp()
	if m.main != nil {
		sock.Abort(m.main.TCPConn)
	}
	m.ln.Close()
}

// wantsRepeat reports whether a second connection to the same server would
// tell more: not where the NAT was seen to reuse a mapping.
func (f *seen) wantsRepeat() bool {
	return f.port != f.first && f.addr != f.first
}

// again connects the same two endpoints a second time, if that tells more, and
// notes what the server saw. The server closes the first connection, see
// attrClose; a RST of ours would make the NAT forget the mapping that we want
// to see again.
func (m *mappings) again(ctx context.Context) {
	f := m.p.known()
	if f.first == f.local || !f.wantsRepeat() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	if _, err := exchange(ctx, m.main, ask{close: true}); err != nil {
		return
	}
	m.main.SetReadDeadline(time.Now().Add(closeTimeout))
	if _, err := m.main.Read(make([]byte, 1)); err != io.EOF {
		return // a server that is not ours keeps it open
	}
	m.main.Close()
	for wait := closeRetry; ; wait *= 2 {
		s, err := m.p.open(ctx, call{at: m.p.reserve() + wait, local: m.local, server: m.p.server})
		switch {
		case err == nil:
			sock.Abort(s.TCPConn)
			m.p.note(func(f *facts) { f.repeat = s.mapped })
			return
		case sock.Classify(err) != sock.AddrNotAvail:
			m.p.log.Debug("no answer", "phase", "mapping again", "remote", m.p.server, "err", err)
			return
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
