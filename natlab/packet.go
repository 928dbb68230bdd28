package natlab

import (
	"encoding/binary"
	"net/netip"
	"sync"
)

const (
	protoTCP    = 6
	protoUDP    = 17
	protoICMP   = 1
	protoICMPv6 = 58

	// pooledSize holds every packet of the usual MTUs.
	pooledSize = 2048
)

// packet is an IP packet on its way. It has one owner at a time: whoever is
// given it passes it on or frees it.
type packet struct {
	b []byte // the packet; what lies before it in its array is not ours to use
}

var packets = sync.Pool{New: func() any { return &packet{b: make([]byte, pooledSize)} }}

// newPacket returns a packet of n bytes with unspecified contents.
func newPacket(n int) *packet {
	p := packets.Get().(*packet)
	if n > cap(p.b) {
		p.b = make([]byte, n)
	}
	p.b = p.b[:n]
	return p
}

func (p *packet) free() {
	if cap(p.b) == pooledSize {
		packets.Put(p)
	}
}

// valid reports whether the header of the packet is whole, so that the
// accessors below may be used. The kernels behind the TUN devices send
// nothing else, but a process in a host may own a raw socket.
func valid(b []byte) bool {
	if len(b) == 0 {
		return false
	}
	switch b[0] >> 4 {
	case 4:
		ihl := int(b[0]&15) * 4
		return len(b) >= 20 && ihl >= 20 && ihl <= len(b)
	case 6:
		return len(b) >= 40
	}
	return false
}

func is6(b []byte) bool { return b[0]>>4 == 6 }

func source(b []byte) netip.Addr {
	if is6(b) {
		return netip.AddrFrom16([16]byte(b[8:24]))
	}
	return netip.AddrFrom4([4]byte(b[12:16]))
}

func destination(b []byte) netip.Addr {
	if is6(b) {
		return netip.AddrFrom16([16]byte(b[24:40]))
	}
	return netip.AddrFrom4([4]byte(b[16:20]))
}

// transport returns the protocol and what follows the IP header; of a fragment
// that is not the first it returns nothing. IPv6 extension headers are not
// looked through: the hosts send none with TCP.
func transport(b []byte) (proto byte, payload []byte) {
	if is6(b) {
		return b[6], b[40:]
	}
	if binary.BigEndian.Uint16(b[6:])&0x1fff != 0 {
		return b[9], nil
	}
	return b[9], b[int(b[0]&15)*4:]
}

func ttl(b []byte) int {
	if is6(b) {
		return int(b[7])
	}
	return int(b[8])
}

// lowerTTL takes n off the TTL, which must be larger.
func lowerTTL(b []byte, n int) {
	if is6(b) {
		b[7] -= byte(n)
		return
	}
	b[8] -= byte(n)
	// The TTL is the high byte of its word: the sum falls by n<<8, so the
	// checksum rises by it, with the carry brought round (RFC 1624).
	sum := uint32(binary.BigEndian.Uint16(b[10:])) + uint32(n)<<8
	binary.BigEndian.PutUint16(b[10:], uint16(sum+sum>>16))
}

// dontFragment reports whether a router must answer a too large packet rather
// than cut it.
func dontFragment(b []byte) bool { return is6(b) || b[6]&0x40 != 0 }

// sum adds b to a ones' complement sum (RFC 1071).
func sum(b []byte, acc uint32) uint32 {
	for ; len(b) >= 2; b = b[2:] {
		acc += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		acc += uint32(b[0]) << 8
	}
	return acc
}

func fold(acc uint32) uint16 {
	for acc > 0xffff {
		acc = acc&0xffff + acc>>16
	}
	return ^uint16(acc)
}
