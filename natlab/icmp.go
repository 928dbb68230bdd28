package natlab

import (
	"encoding/binary"
	"net/netip"
)

// icmpKind is an error that a router of the lab sends, in both families.
type icmpKind struct{ type4, code4, type6, code6 byte }

var (
	timeExceeded = icmpKind{11, 0, 3, 0} // RFC 792, RFC 4443 section 3.3
	packetTooBig = icmpKind{3, 4, 2, 0}  // RFC 1191, RFC 4443 section 3.2
)

// icmpError returns the error of that kind about the packet, from a router's
// address to the packet's source, or nil where none may be sent (RFC 1122
// section 3.2.2, RFC 4443 section 2.4). value is the MTU of a packet that was
// too big. The packet is quoted as it is, so its owner lowers the TTL before.
func icmpError(kind icmpKind, from netip.Addr, about []byte, value uint32) *packet {
	proto, payload := transport(about)
	if !from.IsValid() || payload == nil || isICMPError(proto, payload) || destination(about).IsMulticast() {
		return nil
	}
	if is6(about) {
		return icmpError6(kind, from, about, value)
	}
	quote := about[:min(len(about), 548)] // 576 in all, RFC 1812 section 4.3.2.3
	p := newPacket(28 + len(quote))
	b := p.b
	clear(b[:28])
	b[0], b[8], b[9] = 0x45, 64, protoICMP
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	copy(b[12:], from.AsSlice())
	copy(b[16:], about[12:16])
	binary.BigEndian.PutUint16(b[10:], fold(sum(b[:20], 0)))
	b[20], b[21] = kind.type4, kind.code4
	binary.BigEndian.PutUint16(b[26:], uint16(value))
	copy(b[28:], quote)
	binary.BigEndian.PutUint16(b[22:], fold(sum(b[20:], 0)))
	return p
}

func icmpError6(kind icmpKind, from netip.Addr, about []byte, value uint32) *packet {
	quote := about[:min(len(about), 1280-48)] // no larger than the least MTU
	p := newPacket(48 + len(quote))
	b := p.b
	clear(b[:48])
	b[0], b[6], b[7] = 0x60, protoICMPv6, 64
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40))
	copy(b[8:], from.AsSlice())
	copy(b[24:], about[8:24])
	b[40], b[41] = kind.type6, kind.code6
	binary.BigEndian.PutUint32(b[44:], value)
	copy(b[48:], quote)
	acc := sum(b[8:40], uint32(len(b)-40)+protoICMPv6) // pseudo header
	binary.BigEndian.PutUint16(b[42:], fold(sum(b[40:], acc)))
	return p
}

// isICMPError reports whether the payload is an ICMP error of either family.
func isICMPError(proto byte, payload []byte) bool {
	if len(payload) < 1 {
		return false
	}
	switch proto {
	case protoICMP:
		t := payload[0]
		return t == 3 || t == 4 || t == 5 || t == 11 || t == 12
	case protoICMPv6:
		return payload[0] < 128
	}
	return false
}

// quoted returns the packet that an ICMP error is about, as far as the error
// quotes it, or nil.
func quoted(proto byte, payload []byte) []byte {
	if !isICMPError(proto, payload) || len(payload) < 8 || !valid(payload[8:]) {
		return nil
	}
	return payload[8:]
}
