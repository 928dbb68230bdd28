package nat

import (
	"encoding/binary"
	"net/netip"
)

var be = binary.BigEndian

// IP protocol numbers.
const (
	protoICMP   = 1
	protoTCP    = 6
	protoUDP    = 17
	protoICMPv6 = 58
)

// TCP flags (RFC 9293 section 3.1).
const (
	flagFIN = 1 << iota
	flagSYN
	flagRST
	_
	flagACK
)

// segment is what the NAT looks at in a TCP header.
type segment struct {
	flags    uint8
	seq, ack uint32
}

func (t segment) has(flag uint8) bool { return t.flags&flag != 0 }

// isSYN reports whether the segment opens a connection; a SYN-ACK does not.
func (t segment) isSYN() bool { return t.flags&(flagSYN|flagACK) == flagSYN }

func (t segment) isSYNACK() bool { return t.flags&(flagSYN|flagACK) == flagSYN|flagACK }

// packet is a parsed view of an IP packet. Its setters write through to b and
// keep the checksums right.
//
// An ICMP query has the identifier as the port of the host that asks and 0 as
// that of the host that answers (RFC 5508 section 3.1).
type packet struct {
	b        []byte // cut at the length that the IP header states
	v6       bool
	proto    uint8
	isError  bool // an ICMP error; its ports are 0
	l4       int  // offset of the transport header
	sum      int  // offset of the transport checksum; 0: not there
	srcPort  int  // offset of the source port; 0: has none
	dstPort  int
	src, dst netip.AddrPort
	tcp      segment
}

// parse reads a whole packet. It reports false for what the NAT drops unheard.
func parse(b []byte) (packet, bool) {
	p := packet{}
	if !p.parseIP(b) || p.l4 > len(p.b) {
		return p, false
	}
	ok := len(b) >= p.length() && p.parseTransport(len(p.b)-p.l4)
	if ok && p.proto == protoTCP {
		ok = p.parseTCP()
	}
	return p, ok
}

// parseEmbedded reads the packet inside an ICMP error, which may be cut after
// 8 bytes of transport header (RFC 792; RFC 5508 REQ-4).
func parseEmbedded(b []byte) (packet, bool) {
	p := packet{}
	if !p.parseIP(b) || len(p.b) < p.l4+8 || !p.parseTransport(len(p.b)-p.l4) || p.isError {
		return p, false
	}
	return p, true
}

// length returns the length that the IP header states.
func (p *packet) length() int {
	if p.v6 {
		return 40 + int(be.Uint16(p.b[4:]))
	}
	return int(be.Uint16(p.b[2:]))
}

func (p *packet) parseIP(b []byte) bool {
	p.b = b
	switch {
	case len(b) >= 20 && b[0]>>4 == 4:
		p.l4 = int(b[0]&15) * 4
		if p.l4 < 20 || be.Uint16(b[6:])&0x3fff != 0 { // more fragments, or an offset
			return false
		}
		p.proto = b[9]
		p.src = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[12:])), 0)
		p.dst = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[16:])), 0)
	case len(b) >= 40 && b[0]>>4 == 6:
		p.v6 = true
		p.l4 = 40
		p.proto = b[6]
		p.src = netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[8:])), 0)
		p.dst = netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[24:])), 0)
	default:
		return false
	}
	if n := p.length(); n < len(b) {
		p.b = b[:n]
	}
	return true
}

// parseTransport reads ports and checksum offset from a transport header of
// which there are n bytes.
func (p *packet) parseTransport(n int) bool {
	if n < 8 {
		return false
	}
	switch {
	case p.proto == protoTCP:
		p.srcPort, p.dstPort = p.l4, p.l4+2
		if n >= 18 {
			p.sum = p.l4 + 16
		}
	case p.proto == protoUDP:
		p.srcPort, p.dstPort, p.sum = p.l4, p.l4+2, p.l4+6
	case p.proto == protoICMP && !p.v6, p.proto == protoICMPv6 && p.v6:
		p.sum = p.l4 + 2
		return p.parseICMP(p.b[p.l4])
	default:
		return false
	}
	src, dst := be.Uint16(p.b[p.srcPort:]), be.Uint16(p.b[p.dstPort:])
	p.src = netip.AddrPortFrom(p.src.Addr(), src)
	p.dst = netip.AddrPortFrom(p.dst.Addr(), dst)
	return src != 0 && dst != 0
}

func (p *packet) parseICMP(typ uint8) bool {
	kind := icmp4[typ]
	if p.v6 {
		kind = icmp6[typ]
	}
	switch kind {
	case icmpRequest:
		p.srcPort = p.l4 + 4
		p.src = netip.AddrPortFrom(p.src.Addr(), be.Uint16(p.b[p.srcPort:]))
	case icmpReply:
		p.dstPort = p.l4 + 4
		p.dst = netip.AddrPortFrom(p.dst.Addr(), be.Uint16(p.b[p.dstPort:]))
	case icmpError:
		p.isError = true
	default:
		return false
	}
	return true
}

func (p *packet) parseTCP() bool {
	h := p.b[p.l4:]
	if len(h) < 20 {
		return false
	}
	if off := int(h[12]>>4) * 4; off < 20 || off > len(h) {
		return false
	}
	p.tcp = segment{flags: h[13], seq: be.Uint32(h[4:]), ack: be.Uint32(h[8:])}
	return !(p.tcp.has(flagSYN) && p.tcp.has(flagRST|flagFIN))
}
