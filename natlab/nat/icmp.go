package nat

import "time"

// ICMP errors are translated by the packet that they are about (RFC 5508
// section 4): it was sent by the other side and came through here, so its
// endpoints name a session.

type icmpKind uint8

const (
	icmpOther icmpKind = iota // not for a NAT: dropped
	icmpRequest
	icmpReply
	icmpError
)

// icmp4 holds the types of RFC 792: echo, destination unreachable, source
// quench, time exceeded, parameter problem. Redirects are for one link only.
var icmp4 = [256]icmpKind{8: icmpRequest, 0: icmpReply, 3: icmpError, 4: icmpError, 11: icmpError, 12: icmpError}

// icmp6 holds those of RFC 4443: echo, destination unreachable, packet too big,
// time exceeded, parameter problem. Neighbour discovery is for one link only.
var icmp6 = [256]icmpKind{128: icmpRequest, 129: icmpReply, 1: icmpError, 2: icmpError, 3: icmpError, 4: icmpError}

// embedded returns the packet that an ICMP error is about. A damaged error is
// dropped (RFC 5508 REQ-3); the embedded packet is not checked, since routers
// embed it with the TTL counted down and the checksum as it came.
func (p *packet) embedded() (packet, bool) {
	if sumICMP(p) != 0 {
		return packet{}, false
	}
	e, ok := parseEmbedded(p.b[p.l4+8:])
	return e, ok && e.v6 == p.v6
}

// errorIn translates an error from the outside about a packet that the inside
// sent; false drops it.
func (n *NAT) errorIn(p *packet, now time.Time) bool {
	e, ok := p.embedded()
	if !ok || e.src.Addr() != p.dst.Addr() {
		return false
	}
	s := n.live(n.in[flow{e.proto, e.src, e.dst}], now)
	if s == nil {
		return false
	}
	if e.proto == protoTCP && s.state == HalfOpen && n.onError(n.c.OnICMP, s) == nil {
		return false
	}
	if p.v6 {
		return true
	}
	if e.proto == protoTCP {
		e.addSeq(-s.offset)
	}
	e.setSrc(s.m.inside)
	p.setDst(hostOf(s.m.inside))
	p.sealICMP()
	return true
}

// errorOut translates an error from the inside about a packet from the
// outside. Whichever inside router sent it, it comes from the mapping's public
// address (RFC 5508 REQ-5).
func (n *NAT) errorOut(p *packet, now time.Time) bool {
	e, ok := p.embedded()
	if !ok {
		return false
	}
	s := n.live(n.out[flow{e.proto, e.dst, e.src}], now)
	if s == nil {
		return false
	}
	if p.v6 {
		return true
	}
	if e.proto == protoTCP {
		e.addAck(s.offset)
	}
	e.setDst(s.m.public)
	p.setSrc(hostOf(s.m.public))
	p.sealICMP()
	return true
}
