package nat

import (
	"net/netip"
	"time"
)

// What an unsolicited SYN gets.

// maxHeld bounds the answers that wait for their time.
const maxHeld = 4096

// held is an answer that waits; an outbound SYN for the connection calls it off.
type held struct {
	key flow
	off bool
}

// unsolicited answers a SYN that was not let in. With AnswerAfter there is one
// answer per connection at a time, however often the SYN is sent again.
func (n *NAT) unsolicited(p *packet, now time.Time) {
	if n.c.Unsolicited == Silence {
		return
	}
	key := flow{protoTCP, p.dst, p.src}
	if n.held[key] != nil || len(n.held) >= maxHeld {
		return
	}
	a := Packet{Dir: Outside, Data: n.answer(p), Delay: n.c.AnswerAfter}
	if n.isPublic(p.src.Addr()) { // the SYN was hairpinned
		r, ok := parse(a.Data)
		if !ok || !n.translateIn(&r, now) {
			return
		}
		a.Dir = Inside
	}
	if a.Delay > 0 {
		a.held = &held{key: key}
		n.held[key] = a.held
	}
	n.sent = append(n.sent, a)
}

// callOff drops the answer that waits for the connection, if any: "the NAT MUST
// silently drop the original unsolicited inbound SYN" (RFC 5382 REQ-4).
func (n *NAT) callOff(key flow) {
	if h := n.held[key]; h != nil {
		h.off = true
		delete(n.held, key)
	}
}

// answer returns the packet that Unsolicited asks for.
func (n *NAT) answer(p *packet) []byte {
	if n.c.Unsolicited == RST {
		return reset(p)
	}
	if p.v6 {
		code := map[Answer]byte{PortUnreachable: 4, HostUnreachable: 3, AdminProhibited: 1}[n.c.Unsolicited]
		return unreachable(p, 1, code)
	}
	code := map[Answer]byte{PortUnreachable: 3, HostUnreachable: 1, AdminProhibited: 13}[n.c.Unsolicited]
	return unreachable(p, 3, code)
}

// reset returns the answer of a closed port to a SYN (RFC 9293 section 3.10.7.1).
func reset(p *packet) []byte {
	b, l4 := header(p, protoTCP, 20)
	t := b[l4:]
	be.PutUint16(t, p.dst.Port())
	be.PutUint16(t[2:], p.src.Port())
	data := len(p.b) - p.l4 - int(p.b[p.l4+12]>>4)*4
	be.PutUint32(t[8:], p.tcp.seq+uint32(data)+1)
	t[12], t[13] = 5<<4, flagRST|flagACK
	addrs := b[12:20]
	if p.v6 {
		addrs = b[8:40]
	}
	be.PutUint16(t[16:], ^fold(sum(addrs)+protoTCP+20+sum(t)))
	return b
}

// unreachable returns an ICMP error about p, with as much of it as fits the
// smallest datagram that every host takes (RFC 1812 section 4.3.2.3, RFC 4443
// section 3.1).
func unreachable(p *packet, typ, code byte) []byte {
	proto, limit := byte(protoICMP), 576
	if p.v6 {
		proto, limit = protoICMPv6, 1280
	}
	body := p.b[:min(len(p.b), limit-p.headerLen()-8)]
	b, l4 := header(p, proto, 8+len(body))
	b[l4], b[l4+1] = typ, code
	copy(b[l4+8:], body)
	r := packet{b: b, v6: p.v6, l4: l4, sum: l4 + 2}
	be.PutUint16(b[r.sum:], sumICMP(&r))
	return b
}

func (p *packet) headerLen() int {
	if p.v6 {
		return 40
	}
	return 20
}

// header returns a new packet from p's destination to its source with n bytes
// of payload, and the offset of the payload.
func header(p *packet, proto byte, n int) ([]byte, int) {
	l4 := p.headerLen()
	b := make([]byte, l4+n)
	if p.v6 {
		b[0] = 6 << 4
		be.PutUint16(b[4:], uint16(n))
		b[6], b[7] = proto, 64
		copy(b[8:], p.dst.Addr().AsSlice())
		copy(b[24:], p.src.Addr().AsSlice())
		return b, l4
	}
	b[0] = 4<<4 | 5
	be.PutUint16(b[2:], uint16(len(b)))
	b[6] = 0x40 // don't fragment, so that the ID may be 0 (RFC 6864)
	b[8], b[9] = 64, proto
	copy(b[12:], p.dst.Addr().AsSlice())
	copy(b[16:], p.src.Addr().AsSlice())
	be.PutUint16(b[10:], ^fold(sum(b[:20])))
	return b, l4
}

// hostOf returns an endpoint's address as ICMP knows it, without a port.
func hostOf(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr(), 0) }
