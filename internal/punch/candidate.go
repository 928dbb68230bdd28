package punch

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Kind says where a candidate comes from.
type Kind uint8

const (
	Host   Kind = 1 // an address of one of the peer's interfaces
	Public Kind = 2 // where the server saw the port: behind the peer's NATs, or the host itself
	Sample Kind = 3 // what the peer's NAT gave the newest mapping: the next come after it
	Mapped Kind = 4 // a port that the peer's router maps to the peer, which anybody can connect to
)

// String returns the kind in one word.
func (k Kind) String() string {
	switch k {
	case Host:
		return "host"
	case Public:
		return "public"
	case Sample:
		return "sample"
	case Mapped:
		return "mapped"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Candidate is an address at which a peer may be reached: one end of a path.
type Candidate struct {
	Kind Kind
	Addr netip.AddrPort
}

// MaxCandidates bounds what one peer may offer. A host with more interfaces
// than that leaves some out; a stranger cannot make us fire at more places.
const MaxCandidates = 24

// Wire layout of where an end may be reached, as it travels in Info, Dial,
// Offer, Ringing and Answer, opaque to the server:
//
//	1 byte    count of candidates
//	count times:
//	  1 byte  kind (unknown kinds are skipped by the receiver)
//	  1 byte  length of the address: 4 or 16
//	  4 or 16 bytes, the address
//	  2 bytes port, big endian
//	1 byte    count of legs to relays; may be left out, if it is 0
//	count times:
//	  8 bytes RelayID
//	  2 bytes round trip in units of 100 µs, big endian

// AppendCandidates appends the wire form of the first [MaxCandidates] of a
// side's candidates and the first [MaxLegs] of its legs.
func AppendCandidates(b []byte, s Side) []byte {
	cs, legs := s.Candidates[:min(len(s.Candidates), MaxCandidates)], s.Relays[:min(len(s.Relays), MaxLegs)]
	b = append(b, byte(len(cs)))
	for _, c := range cs {
		ip := c.Addr.Addr().Unmap().WithZone("").AsSlice()
		b = append(b, byte(c.Kind), byte(len(ip)))
		b = append(b, ip...)
		b = append(b, byte(c.Addr.Port()>>8), byte(c.Addr.Port()))
	}
	b = append(b, byte(len(legs)))
	for _, l := range legs {
		b = append(b, l.Relay[:]...)
		b = append(b, byte(l.ticks()>>8), byte(l.ticks()))
	}
	return b
}

var errCandidates = errors.New("malformed candidate list")

// ParseCandidates reads the wire form. It comes from another peer and is not
// to be trusted: addresses that nobody could be reached at, and ports below
// 1024, where a stranger could point us at somebody's services, are left out.
// An empty message is nothing at all. The side's report comes by itself.
func ParseCandidates(b []byte) (Side, error) {
	if len(b) == 0 {
		return Side{}, nil
	}
	n := int(b[0])
	if n > MaxCandidates {
		return Side{}, errCandidates
	}
	b = b[1:]
	var cs []Candidate
	for range n {
		if len(b) < 2 {
			return Side{}, errCandidates
		}
		kind, size := Kind(b[0]), int(b[1])
		if size != 4 && size != 16 || len(b) < 2+size+2 {
			return Side{}, errCandidates
		}
		ip, _ := netip.AddrFromSlice(b[2 : 2+size])
		port := uint16(b[2+size])<<8 | uint16(b[3+size])
		b = b[2+size+2:]
		if ip = ip.Unmap(); usable(ip) && port >= 1024 && kind >= Host && kind <= Mapped {
			cs = append(cs, Candidate{kind, netip.AddrPortFrom(ip, port)})
		}
	}
	legs, err := parseLegs(b)
	return Side{Candidates: cs, Relays: legs}, err
}

func parseLegs(b []byte) ([]Leg, error) {
	const size = len(RelayID{}) + 2
	if len(b) == 0 {
		return nil, nil
	}
	if n := int(b[0]); n > MaxLegs || len(b) != 1+n*size {
		return nil, errCandidates
	}
	var legs []Leg
	for leg := range slices.Chunk(b[1:], size) {
		rtt := time.Duration(leg[size-2])<<8 | time.Duration(leg[size-1])
		legs = append(legs, Leg{Relay: RelayID(leg), RTT: rtt * legUnit})
	}
	return legs, nil
}

// usable reports whether a peer can be at ip. Loopback is: two programs on one
// machine meet there, and nothing but a verified preface is ever believed.
func usable(ip netip.Addr) bool {
	return ip.IsGlobalUnicast() || ip.IsLoopback()
}
