package nat

import (
	"net/netip"
	"time"
)

// Which packets pass, and the sessions that they make.

// admitOut returns the session that lets a packet out, nil if none does.
func (n *NAT) admitOut(p *packet, now time.Time) *session {
	s := n.live(n.out[flow{p.proto, p.src, p.dst}], now)
	if p.proto == protoTCP {
		return n.admitTCPOut(p, s, now)
	}
	if s == nil && p.srcPort != 0 { // an ICMP reply makes no session
		s = n.start(p.proto, p.src, p.dst, now)
	}
	return n.touch(s, now)
}

// admitIn returns the session that lets a packet in, nil if none does.
func (n *NAT) admitIn(p *packet, now time.Time) *session {
	s := n.live(n.in[flow{p.proto, p.dst, p.src}], now)
	if p.proto == protoTCP {
		return n.admitTCPIn(p, s, now)
	}
	if s == nil && p.dstPort != 0 { // nor does an ICMP query from the outside
		s = n.accept(p, now)
	}
	return n.touch(s, now)
}

// start makes a session from the inside, in the mapping that the behaviour
// asks for.
func (n *NAT) start(proto uint8, inside, remote netip.AddrPort, now time.Time) *session {
	m := n.liveMapping(n.inUse[n.use(proto, inside, remote)], now)
	if m == nil || n.c.Mapping == SessionDependent && proto == protoTCP && !isV6(inside) {
		public, ok := inside, true
		if !isV6(inside) {
			public, ok = n.assign(proto, inside, remote, now)
		}
		if !ok {
			return nil
		}
		m = n.newMapping(flow{proto, inside, remote}, public)
		n.addMapping(m, false, now)
	}
	return n.addSession(m, remote, now)
}

// accept makes a session from the outside, if the filter allows it.
func (n *NAT) accept(p *packet, now time.Time) *session {
	m := n.liveMapping(n.taken[n.place(p.proto, p.dst, p.src)], now)
	switch {
	case m == nil:
		if m = n.openMapping(p, now); m == nil {
			return nil
		}
	case !n.filterAllows(m, p.src, now):
		return nil
	}
	if n.live(n.out[flow{p.proto, m.inside, p.src}], now) != nil {
		// The inside already talks to it from another public port, where its
		// reply would leave from too.
		n.removeIfUnused(m)
		return nil
	}
	return n.addSession(m, p.src, now)
}

// filterAllows reports whether remote, which has no session that lets it in,
// may make one.
func (n *NAT) filterAllows(m *mapping, remote netip.AddrPort, now time.Time) bool {
	switch n.c.Filtering {
	case EIF, Open:
		return true
	case ADF:
		for r, s := range m.sessions {
			if r.Addr() == remote.Addr() && s.state != Closing && n.live(s, now) != nil {
				return true
			}
		}
	}
	return false
}

// openMapping makes a mapping for a public endpoint that has none, if the NAT
// is open and knows an inside host.
func (n *NAT) openMapping(p *packet, now time.Time) *mapping {
	if n.c.Filtering != Open {
		return nil
	}
	inside := p.dst
	if !p.v6 {
		host, ok := n.owner[p.dst.Addr()]
		if !ok {
			return nil
		}
		inside = netip.AddrPortFrom(host, p.dst.Port())
	}
	m := n.newMapping(flow{p.proto, inside, p.src}, p.dst)
	n.addMapping(m, true, now)
	return m
}

func (n *NAT) newMapping(f flow, public netip.AddrPort) *mapping {
	return &mapping{
		proto: f.proto, inside: f.local, public: public,
		use:   n.use(f.proto, f.local, f.remote),
		place: n.place(f.proto, public, f.remote),
	}
}

// use returns the key under which a flow from the inside finds its mapping.
func (n *NAT) use(proto uint8, inside, remote netip.AddrPort) flow {
	if isV6(inside) {
		return flow{proto: proto, local: inside}
	}
	return flow{proto, inside, n.c.Mapping.scope(remote)}
}

// place returns the key under which a public endpoint is taken.
func (n *NAT) place(proto uint8, public, remote netip.AddrPort) place {
	if n.c.Overload && !isV6(public) {
		return place{proto, public, remote}
	}
	return place{proto: proto, public: public}
}

// touch starts the session's idle time anew. It takes nil.
func (n *NAT) touch(s *session, now time.Time) *session {
	if s == nil {
		return nil
	}
	t := &n.c.Timeouts
	d := t.UDP
	switch {
	case s.m.proto == protoICMP || s.m.proto == protoICMPv6:
		d = t.Echo
	case s.m.proto == protoUDP:
	case s.state == HalfOpen:
		d = t.HalfOpen
	case s.state == Closing:
		d = t.Transitory
	default:
		d = t.Established
	}
	s.expires = now.Add(d)
	return s
}

func isV6(a netip.AddrPort) bool { return a.Addr().Is6() }
