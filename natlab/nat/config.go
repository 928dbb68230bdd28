package nat

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// MappingBehavior says when two flows from one inside endpoint share a public
// endpoint (RFC 4787 section 4.1, RFC 5382 REQ-1).
type MappingBehavior uint8

const (
	EIM              MappingBehavior = iota // endpoint-independent: one public endpoint for all destinations
	ADM                                     // address-dependent: one per destination address
	APDM                                    // address-and-port-dependent: one per destination endpoint
	SessionDependent                        // one per TCP connection, even between the same two endpoints; UDP as APDM
)

// PortAssignment says which port a new mapping gets (RFC 4787 section 4.2).
type PortAssignment uint8

const (
	Preserving PortAssignment = iota // the inside port; a random one where that is taken or outside Config.Ports
	Sequential                       // the last one plus Config.Delta, whatever protocol and address that was for
	Random                           // any free port of Config.Ports
)

// Pooling says which of several public addresses a mapping gets (RFC 4787
// section 4.1, "IP address pooling").
type Pooling uint8

const (
	Paired    Pooling = iota // an inside host keeps the public address of its first mapping
	Arbitrary                // any, for every mapping anew
)

// FilteringBehavior says which outside endpoints may start a session towards
// an inside endpoint (RFC 4787 section 5, RFC 5382 REQ-3).
type FilteringBehavior uint8

const (
	// APDF, address-and-port-dependent: those that the inside endpoint has a session with.
	APDF FilteringBehavior = iota
	// ADF, address-dependent: those at an address that it has a session with.
	ADF
	// EIF, endpoint-independent: all, as long as a mapping for the public endpoint lives.
	EIF
	// Open filters nothing: as EIF, and what comes to a public port without a
	// mapping is forwarded too, to the same port of the inside host that used
	// the public address last (a "DMZ host"). The discovery tests tell the two
	// apart by a SYN to a fresh port. An IPv6 firewall that is Open passes all.
	Open
)

// Answer is what an unsolicited SYN gets (RFC 5382 section 4.3).
type Answer uint8

const (
	Silence         Answer = iota // nothing
	RST                           // a TCP reset, as from a closed port
	PortUnreachable               // ICMP 3/3, ICMPv6 1/4; what REQ-4 asks for
	HostUnreachable               // ICMP 3/1, ICMPv6 1/3
	AdminProhibited               // ICMP 3/13, ICMPv6 1/1
	lastAnswer      = AdminProhibited
)

// Hairpinning says what becomes of a packet from the inside to one of the
// NAT's own public endpoints (RFC 5382 REQ-8, RFC 4787 REQ-9).
type Hairpinning uint8

const (
	NoHairpin       Hairpinning = iota // dropped
	HairpinExternal                    // translated, with the sender's public endpoint as source: what REQ-8 asks for
	HairpinInternal                    // translated, but the source stays the sender's inside endpoint
)

// Reaction is what an error from the outside does to the session it is for.
type Reaction struct {
	// Close removes the session, and with the last one the mapping, if it is
	// half-open. An ICMP error never ends an established one (RFC 5382
	// REQ-10); an RST always does.
	Close bool
	// Swallow keeps the error itself from the inside host.
	Swallow bool
}

// Ports is an inclusive range of public ports. The zero value is 1024 to 65535.
type Ports struct{ Lo, Hi uint16 }

// Timeouts are idle times after which a session is forgotten; a packet in
// either direction starts them anew. Zero means the default.
type Timeouts struct {
	HalfOpen    time.Duration // TCP before both SYNs are acknowledged; 4 min (RFC 5382 REQ-5)
	Established time.Duration // TCP; 2 h 4 min (RFC 5382 REQ-5)
	Transitory  time.Duration // TCP after an RST or both FINs; 4 min (RFC 5382 REQ-5)
	UDP         time.Duration // 5 min (RFC 4787 REQ-5)
	Echo        time.Duration // ICMP queries; 60 s (RFC 5508 REQ-1)
}

// Config is the behaviour of a NAT, each part independent of the others. The
// zero value is a well-behaved one: EIM, port-preserving, APDF, silent,
// accepting a simultaneous open, with the timeouts of the RFCs, no hairpinning.
//
// Of IPv6, which is filtered and not translated, only Filtering, RefuseSYNIn,
// RefuseSYNACKOut, Unsolicited, AnswerAfter, OnRST, OnICMP, Strict, PickUp and
// Timeouts are about.
type Config struct {
	Mapping    MappingBehavior
	Assignment PortAssignment
	Ports      Ports // where public ports are taken from
	Pooling    Pooling
	Filtering  FilteringBehavior
	Hairpin    Hairpinning

	// Delta is the step of Sequential; 0 means 1, below 0 counts down.
	Delta int
	// First is the first port that Sequential assigns; 0 means Ports.Lo.
	First uint16
	// Busy is how many mappings per second other hosts behind the NAT make, a
	// Poisson process in time: each moves Sequential on by a step. Other
	// assignments ignore it.
	Busy float64
	// Parity gives even inside ports even public ones and odd ones odd (RFC
	// 4787 section 4.2.2).
	Parity bool
	// Overload lets mappings to different destinations share a public port
	// ("port overloading"), as Linux does. Needs APDM and APDF.
	Overload bool

	// RefuseSYNIn treats an inbound SYN as unsolicited although an outbound
	// SYN to its source was seen, so that no simultaneous open is possible.
	RefuseSYNIn bool
	// RefuseSYNACKOut drops an outbound SYN-ACK that follows an outbound SYN
	// without an inbound one between them (the sequence of NATBlaster).
	RefuseSYNACKOut bool
	// Unsolicited is what an inbound SYN that is not let in gets.
	Unsolicited Answer
	// AnswerAfter delays that answer. An outbound SYN for the same connection
	// calls a waiting one off (RFC 5382 REQ-4, which asks for 6 s). Zero
	// answers at once.
	AnswerAfter time.Duration
	// OnRST and OnICMP are what an inbound RST and an inbound ICMP error do.
	OnRST, OnICMP Reaction

	// RewriteSeq adds a random offset to the sequence numbers of every
	// connection from the inside.
	RewriteSeq bool
	// Strict follows sequence numbers as Linux's connection tracking does: a
	// SYN-ACK must acknowledge the SYN and, after a SYN from the same side,
	// repeat its sequence number; an RST out of window does nothing. What
	// fails is dropped.
	Strict bool
	// PickUp lets an outbound ACK or data segment without a session make one
	// (Linux's nf_conntrack_tcp_loose), so that connections may survive a
	// reboot. Otherwise only a SYN does.
	PickUp bool

	Timeouts Timeouts
}

// Validate reports the first setting that is out of range or contradicts
// another one.
func (c Config) Validate() error {
	p := c.ports()
	switch {
	case c.Mapping > SessionDependent, c.Assignment > Random, c.Pooling > Arbitrary,
		c.Filtering > Open, c.Hairpin > HairpinInternal, c.Unsolicited > lastAnswer:
		return errors.New("nat: unknown behaviour")
	case p.Lo == 0 || p.Lo > p.Hi:
		return fmt.Errorf("nat: Ports %d to %d are no range", p.Lo, p.Hi)
	case c.First != 0 && (c.First < p.Lo || c.First > p.Hi):
		return fmt.Errorf("nat: First %d is outside Ports %d to %d", c.First, p.Lo, p.Hi)
	case c.Parity && p.Lo == p.Hi:
		return errors.New("nat: Parity needs more than one port")
	case !(c.Busy >= 0 && c.Busy <= maxBusy): // also refuses NaN
		return fmt.Errorf("nat: Busy %v is not within 0 and %v per second", c.Busy, float64(maxBusy))
	case c.Overload && (c.Mapping != APDM || c.Filtering != APDF):
		return errors.New("nat: Overload needs APDM mapping and APDF filtering")
	}
	for _, d := range []time.Duration{c.AnswerAfter, c.Timeouts.HalfOpen, c.Timeouts.Established,
		c.Timeouts.Transitory, c.Timeouts.UDP, c.Timeouts.Echo} {
		if d < 0 {
			return fmt.Errorf("nat: negative duration %v", d)
		}
	}
	return nil
}

func (c Config) ports() Ports {
	if c.Ports == (Ports{}) {
		return Ports{1024, 65535} // RFC 4787 REQ-3: leave the well-known ones alone
	}
	return c.Ports
}

func (c Config) delta() int {
	if c.Delta == 0 {
		return 1
	}
	return c.Delta
}

func (t Timeouts) orDefault() Timeouts {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&t.HalfOpen, 4*time.Minute)
	def(&t.Established, 2*time.Hour+4*time.Minute)
	def(&t.Transitory, 4*time.Minute)
	def(&t.UDP, 5*time.Minute)
	def(&t.Echo, time.Minute)
	return t
}

// scope returns the part of a remote endpoint that a mapping depends on.
func (m MappingBehavior) scope(remote netip.AddrPort) netip.AddrPort {
	switch m {
	case EIM:
		return netip.AddrPort{}
	case ADM:
		return netip.AddrPortFrom(remote.Addr(), 0)
	default:
		return remote
	}
}
