package nat

import (
	"math/bits"
	"net/netip"
)

// Rewriting with checksums updated by RFC 1624 equation 3, HC' = ~(~HC + ~m + m'),
// so that the cost does not depend on the length of the packet.

// change returns ~old + new folded to 16 bits: what a rewritten, 16-bit aligned
// field adds to the ones' complement sum.
func change(before, after uint32) uint16 {
	return fold(uint32(^before>>16) + uint32(uint16(^before)) + after>>16 + after&0xffff)
}

func fold(sum uint32) uint16 {
	sum = sum>>16 + sum&0xffff
	return uint16(sum>>16 + sum)
}

// apply returns the checksum hc after a change of the data.
func apply(hc, change uint16) uint16 { return ^fold(uint32(^hc) + uint32(change)) }

// setSrc rewrites the source endpoint of an IPv4 packet. IPv6 endpoints are
// never rewritten: to is then the source that it has.
func (p *packet) setSrc(to netip.AddrPort) {
	if p.src != to {
		p.setEndpoint(12, p.srcPort, to)
		p.src = to
	}
}

// setDst rewrites the destination endpoint; see setSrc.
func (p *packet) setDst(to netip.AddrPort) {
	if p.dst != to {
		p.setEndpoint(16, p.dstPort, to)
		p.dst = to
	}
}

func (p *packet) setEndpoint(addr, port int, to netip.AddrPort) {
	a := to.Addr().As4()
	d := change(be.Uint32(p.b[addr:]), be.Uint32(a[:]))
	copy(p.b[addr:], a[:])
	be.PutUint16(p.b[10:], apply(be.Uint16(p.b[10:]), d))
	if p.proto == protoICMP {
		d = 0 // no pseudo header
	}
	if port != 0 {
		d = fold(uint32(d) + uint32(change(uint32(be.Uint16(p.b[port:])), uint32(to.Port()))))
		be.PutUint16(p.b[port:], to.Port())
	}
	p.fixTransport(d)
}

// fixTransport updates the transport checksum, if the packet has one.
func (p *packet) fixTransport(change uint16) {
	if p.sum == 0 {
		return
	}
	hc := be.Uint16(p.b[p.sum:])
	if p.proto == protoUDP && hc == 0 {
		return // sent without (RFC 768)
	}
	hc = apply(hc, change)
	if p.proto == protoUDP && hc == 0 {
		hc = 0xffff
	}
	be.PutUint16(p.b[p.sum:], hc)
}

// put32 writes a field of the transport header.
func (p *packet) put32(off int, v uint32) {
	d := change(be.Uint32(p.b[off:]), v)
	if (off-p.l4)%2 != 0 {
		d = bits.ReverseBytes16(d) // RFC 1071 section 2 (B): the sum of swapped bytes is the swapped sum
	}
	be.PutUint32(p.b[off:], v)
	p.fixTransport(d)
}

// addSeq moves the sequence number of a TCP segment from the inside.
func (p *packet) addSeq(offset uint32) {
	if offset != 0 {
		p.put32(p.l4+4, be.Uint32(p.b[p.l4+4:])+offset)
	}
}

// addAck moves the acknowledgement of a TCP segment that is embedded in an ICMP
// error from the inside, if it was not cut off.
func (p *packet) addAck(offset uint32) {
	if offset != 0 && len(p.b) >= p.l4+14 && p.b[p.l4+13]&flagACK != 0 {
		p.put32(p.l4+8, be.Uint32(p.b[p.l4+8:])+offset)
	}
}

// subAck moves what a TCP segment from the outside acknowledges back into the
// inside's numbers: the acknowledgement and the SACK blocks (RFC 2018).
func (p *packet) subAck(offset uint32) {
	if offset == 0 || !p.tcp.has(flagACK) {
		return
	}
	p.put32(p.l4+8, be.Uint32(p.b[p.l4+8:])-offset)
	end := p.l4 + int(p.b[p.l4+12]>>4)*4
	for i := p.l4 + 20; i < end; {
		kind := p.b[i]
		if kind == 0 { // end of options
			return
		}
		if kind == 1 { // no operation
			i++
			continue
		}
		if i+1 >= end {
			return
		}
		n := int(p.b[i+1])
		if n < 2 || i+n > end {
			return
		}
		if kind == 5 {
			for edge := i + 2; edge+4 <= i+n; edge += 4 {
				p.put32(edge, be.Uint32(p.b[edge:])-offset)
			}
		}
		i += n
	}
}

// sumICMP returns the ones' complement of the sum over an ICMP message: 0 when
// its checksum is right.
func sumICMP(p *packet) uint16 {
	var seed uint32
	if p.v6 { // RFC 4443 section 2.3: with a pseudo header
		seed = uint32(len(p.b)-p.l4) + protoICMPv6 + sum(p.b[8:40])
	}
	return ^fold(seed + sum(p.b[p.l4:]))
}

// sealICMP computes the checksum of an IPv4 ICMP message whose contents were
// rewritten.
func (p *packet) sealICMP() {
	be.PutUint16(p.b[p.sum:], 0)
	be.PutUint16(p.b[p.sum:], sumICMP(p))
}

// sum adds up big-endian 16-bit words (RFC 1071). A packet is at most 64 KiB,
// so that 32 bits hold the sum.
func sum(b []byte) (s uint32) {
	for len(b) >= 2 {
		s += uint32(be.Uint16(b))
		b = b[2:]
	}
	if len(b) == 1 {
		s += uint32(b[0]) << 8
	}
	return s
}
