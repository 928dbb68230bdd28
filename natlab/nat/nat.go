// Package nat translates raw IP packets as a network address translator of any
// behaviour would: every property that RFC 4787 and RFC 5382 name, and the bad
// habits that were measured in the field, can be set on its own in [Config].
//
// It is pure: no socket, goroutine or clock. Time is a parameter, randomness
// comes from a seed, so the same packets at the same times give the same
// result. Package natlab carries packets between it and real TCP stacks.
//
//   - IPv4: TCP, UDP, ICMP queries from the inside, and ICMP errors with the
//     packet they are about, are translated.
//   - IPv6: a stateful firewall with the same filtering rules; nothing is
//     rewritten, an inside endpoint is its own mapping. ICMPv6 as above.
//   - Dropped without a word: fragments (the lab's hosts do path MTU
//     discovery), IPv6 extension headers, other protocols, whatever does not
//     parse, and TCP segments that combine SYN with RST or FIN.
//   - The TTL is left alone: the lab's hops count it down, a NAT among them.
//   - Checksums are updated, not computed anew (RFC 1624), so a packet that
//     came damaged leaves damaged.
package nat

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"
)

// Dir is a side of the NAT.
type Dir uint8

// The two sides: a packet's Dir is the side that it is to be sent to.
const (
	Outside Dir = iota
	Inside
)

// Packet is a packet to send.
type Packet struct {
	Dir  Dir
	Data []byte
	// Delay, if not zero, is how long to wait before sending. When it is over
	// NAT.Due says whether the packet is still to be sent.
	Delay time.Duration

	held *held
}

// NAT is one translator with its state. It is not safe for concurrent use.
type NAT struct {
	c      Config
	seed   uint64
	public []netip.Addr
	ports  Ports

	rng  *rand.Rand // ports, pool addresses, sequence offsets
	busy *rand.Rand // other hosts, apart so that they keep their own times

	table
	held map[flow]*held
	sent []Packet // the result of the call under way

	// Port assignment:
	cursor   int                       // Sequential: offset of the next port from ports.Lo
	nextBusy time.Time                 // when another host makes its next mapping
	pairs    map[netip.Addr]netip.Addr // Paired: inside to public address
	owner    map[netip.Addr]netip.Addr // Open: public address to the inside host that used it last
}

// New returns a NAT with the public IPv4 addresses given; with none it is only
// an IPv6 firewall. c must pass [Config.Validate]. Equal seeds give equal NATs.
func New(c Config, public []netip.Addr, seed uint64) *NAT {
	c.Timeouts = c.Timeouts.orDefault()
	n := &NAT{
		c: c, seed: seed, public: slices.Clone(public), ports: c.ports(),
		rng:  rand.New(rand.NewPCG(seed, 1)),
		busy: rand.New(rand.NewPCG(seed, 2)),
	}
	n.forget()
	return n
}

// Reboot loses all state, as a power cut does. The random sources go on, so
// that a NAT does not repeat itself, and so do the other hosts behind it.
func (n *NAT) Reboot(now time.Time) {
	n.others(now)
	for _, h := range n.held {
		h.off = true
	}
	n.forget()
}

// Age removes what is half open or closing, as their timeouts would: minutes go
// by for the holes that nobody came through, and for nothing else.
func (n *NAT) Age(now time.Time) {
	for _, s := range n.in {
		if s.m.proto == protoTCP && s.state != Established {
			n.remove(s)
		}
	}
	n.sweep(now)
}

func (n *NAT) forget() {
	n.table = newTable()
	n.held = make(map[flow]*held)
	n.pairs = make(map[netip.Addr]netip.Addr)
	n.owner = make(map[netip.Addr]netip.Addr)
	n.cursor = 0
	if n.c.First != 0 {
		n.cursor = int(n.c.First - n.ports.Lo)
	}
}

// Outbound takes a packet from the inside and returns what to send: the packet
// to the outside, to the inside if it was hairpinned, an answer to a hairpinned
// one, or nothing.
//
// The packet is modified in place and what is returned may share its memory.
// The slice is valid until the next call; a packet with a Delay is its own.
//
// IPv6 packets between two inside hosts are not for a firewall: the caller
// routes them past it.
func (n *NAT) Outbound(pkt []byte, now time.Time) []Packet {
	n.sent = n.sent[:0]
	p, ok := parse(pkt)
	if !ok || n.isPublic(p.src.Addr()) {
		return nil
	}
	hairpin := n.isPublic(p.dst.Addr())
	if hairpin && n.c.Hairpin == NoHairpin {
		return nil
	}
	inside := p.src
	switch {
	case !n.translateOut(&p, now):
	case !hairpin:
		n.send(Outside, p.b)
	case n.translateIn(&p, now):
		if n.c.Hairpin == HairpinInternal {
			p.setSrc(inside)
		}
		n.send(Inside, p.b)
	}
	return n.sent
}

// Inbound takes a packet from the outside, to one of the public addresses or,
// for IPv6, to an inside address, and returns what to send: the packet to the
// inside, an answer to the outside, or nothing. Ownership is as in
// [NAT.Outbound].
func (n *NAT) Inbound(pkt []byte, now time.Time) []Packet {
	n.sent = n.sent[:0]
	p, ok := parse(pkt)
	if !ok || !p.v6 && !n.isPublic(p.dst.Addr()) || n.isPublic(p.src.Addr()) {
		return nil
	}
	if n.translateIn(&p, now) {
		n.send(Inside, p.b)
	}
	return n.sent
}

// Due reports whether a packet whose Delay is over is still to be sent. It must
// be called once for each such packet.
func (n *NAT) Due(p Packet) bool {
	if p.held == nil {
		return true
	}
	if p.held.off {
		return false
	}
	delete(n.held, p.held.key)
	return true
}

func (n *NAT) send(to Dir, b []byte) { n.sent = append(n.sent, Packet{Dir: to, Data: b}) }

func (n *NAT) isPublic(a netip.Addr) bool { return slices.Contains(n.public, a) }

// translateOut makes p leave the inside; false drops it.
func (n *NAT) translateOut(p *packet, now time.Time) bool {
	if p.isError {
		return n.errorOut(p, now)
	}
	s := n.admitOut(p, now)
	if s == nil {
		return false
	}
	if p.proto == protoTCP {
		if p.tcp.isSYN() {
			n.callOff(flow{protoTCP, s.m.public, s.remote})
		}
		p.addSeq(s.offset)
	}
	p.setSrc(s.m.public)
	return true
}

// translateIn makes p reach the inside; false drops it, and an answer to it may
// have been queued.
func (n *NAT) translateIn(p *packet, now time.Time) bool {
	if p.isError {
		return n.errorIn(p, now)
	}
	s := n.admitIn(p, now)
	if s == nil {
		return false
	}
	if p.proto == protoTCP {
		p.subAck(s.offset)
	}
	p.setDst(s.m.inside)
	return true
}
