package punch

import (
	"net/netip"
	"slices"
	"time"

	"github.com/gostunt/stunt/probe"
)

// Method names the way in which a path came about.
type Method string

const (
	Direct    Method = "direct"            // the other end is not behind a NAT
	Reversed  Method = "reversed"          // we are not, and the other end connected to us
	LAN       Method = "lan"               // both share a network
	Hairpin   Method = "hairpin"           // both share a NAT that loops packets back
	SimOpen   Method = "simultaneous-open" // a hole in each NAT or firewall, opened by crossing SYNs
	Predicted Method = "predicted-port"    // the same, at a port that a NAT was expected to give next
	Guessed   Method = "guessed-port"      // the same, at one of many ports tried at random
	Relay     Method = "relay"             // none of these: a relay carries the bytes
)

// Side is what is known of one end of a dial.
type Side struct {
	Candidates []Candidate
	Relays     []Leg
	Report     *probe.Report // nil: unknown
	Observed   netip.Addr    // where its server sees it; invalid: nowhere that we are told
}

// Attempt is one thing to try: connect from the punching port to an address;
// or to many ports of it; or from many ports.
type Attempt struct {
	To     netip.AddrPort
	Method Method
	Start  time.Duration // after the moment both ends were told
	Ports  []uint16      // of To's address, instead of its own port, in the order of their SYNs
	Fresh  int           // connect so many times, each from a local port of its own
	Prime  int           // before it is tried again: a SYN with this time to live, which opens only our own NAT
	Ticket []byte        // for the relay that is at To
	// Stranger says that only the other end itself has told that it is at To's
	// address: a little is tried, and nothing is guessed.
	Stranger bool
}

// same reports whether another attempt fires at the same addresses from the
// same port.
func (a Attempt) same(b Attempt) bool {
	return a.To == b.To && a.Fresh == b.Fresh && slices.Equal(a.Ports, b.Ports)
}

const (
	// rstLead is how much later the end without a RST-answering NAT fires. The
	// server tells both ends at once, so the SYNs cross in any case; this is
	// the margin for a queue on the way to the end that must be first.
	rstLead = 30 * time.Millisecond
	// hairpinLead lets a path inside the network win over one through the NAT,
	// which costs the router twice the packets.
	hairpinLead = 50 * time.Millisecond
	// relayLead is how long direct attempts are by themselves, so that the relay
	// hears of those dials only that need it: from the moment both are told, a
	// path proves itself after one and a half round trips between the ends, and
	// after 250 ms more if a second wave brings it. With 200 ms, which is across
	// an ocean, that is 550 ms.
	relayLead = 600 * time.Millisecond
)

// Meeting is what both ends know when they are told to start.
type Meeting struct {
	Mine, Theirs Side
	Prefixes     []netip.Prefix // of this host's interfaces
	Dialer       bool           // reports whether this end dials
	ID           [16]byte       // of the dial; decides what is random
	Hint         Method         // what has worked between ends like these; empty: not known
	Ticket       []byte         // this end's for the dial, at any relay; empty: none
}

// Plan maps what is known of both ends to the attempts of this one. It is
// pure, and both ends compute it with the sides exchanged. As a table, for
// each candidate of the other end, the first row that fits:
//
//	candidate                     where             start        method
//	any, of a family we lack      —                 not tried
//	mapped                        same public IP    hairpinLead  hairpin
//	mapped                        —                 0            direct
//	host, IPv6                    —                 0 + lead     direct or simultaneous open
//	host, equal to a public one   —                 not tried    (the public row has it)
//	host, IPv4                    same public IP    0            LAN
//	host, IPv4                    in our subnet     0            LAN
//	host, IPv4                    elsewhere         not tried    (somebody else's 192.168.1.2)
//	public, peer has no NAT       same public IP    0            LAN (one machine)
//	public                        same public IP    hairpinLead  hairpin
//	public, peer has no NAT       —                 0            direct
//	public, we have no NAT        —                 0            reversed
//	public                        —                 0 + lead     simultaneous open
//
// What is mapped is connected to from a port of its own, so that any number of
// connections can be, and beside what else is tried at the same address: a
// router that has lost the mapping still has the hole.
//
// And once, for the relay that is nearest to both ends, if they have one in common:
//
//	relay                         nothing can cross 0            relay
//	relay                         —                 relayLead    relay
//
// Where the other end's server has not seen it, it is a stranger: whatever kind of
// candidate that is, it is tried a few times only, and so are a few of them.
//
// lead is rstLead when the other end's NAT answers unsolicited SYNs with RST
// and ours does not: the end behind such a NAT must fire first, so that its
// hole is open by the time our SYN comes. What [Meeting.hard] adds for other
// NATs may wait for what the hint says does without. An end that tells no
// candidate wants none tried.
func (m Meeting) Plan() []Attempt {
	direct := m.direct()
	leg, ok := m.common()
	if !ok || len(m.Ticket) == 0 {
		return direct
	}
	a := Attempt{To: leg.Addr, Method: Relay, Start: relayLead, Ticket: m.Ticket}
	if m.Hint == Relay || m.hopeless(direct) {
		a.Start = 0
	}
	return append(direct, a)
}

// direct is the plan without a relay.
func (m Meeting) direct() []Attempt {
	if len(m.Mine.Candidates) == 0 || len(m.Theirs.Candidates) == 0 {
		return nil
	}
	mine, theirs := m.Mine, m.Theirs
	lead := time.Duration(0)
	if answersRST(theirs.Report) && !answersRST(mine.Report) {
		lead = rstLead
	}
	sameNAT := sharePublicIP(mine.Candidates, theirs.Candidates)
	var plan []Attempt
	for _, c := range theirs.Candidates {
		ip := c.Addr.Addr()
		a := Attempt{To: c.Addr, Stranger: theirs.stranger(ip)}
		if c.Kind == Mapped {
			a.Fresh = 1
		}
		if c.Kind == Sample || !hasFamily(mine.Candidates, ip.Is4()) || slices.ContainsFunc(plan, a.same) {
			continue
		}
		switch {
		case c.Kind == Mapped && sameNAT && ip.Is4():
			a.Method, a.Start = Hairpin, hairpinLead
		case c.Kind == Mapped:
			a.Method = Direct
		case c.Kind == Host && ip.Is6():
			a.Method, a.Start = SimOpen, lead
		case c.Kind == Host && slices.Contains(theirs.Candidates, Candidate{Public, c.Addr}):
			continue
		case c.Kind == Host && (sameNAT || inside(m.Prefixes, ip)):
			a.Method = LAN
		case c.Kind == Host:
			continue
		case sameNAT && (isHost(theirs.Candidates, ip) || ip.IsLoopback()):
			a.Method = LAN // one machine, or one network without a NAT
		case sameNAT:
			a.Method, a.Start = Hairpin, hairpinLead
		case isHost(theirs.Candidates, ip):
			a.Method = Direct
		case public(mine.Candidates):
			a.Method = Reversed
		default:
			a.Method, a.Start = SimOpen, lead
			if !a.Stranger {
				a.Prime = m.primer()
			}
		}
		plan = append(plan, a)
	}
	return m.hinted(append(plan, m.hard(lead)...))
}

// primer is the time to live of SYNs that open our NAT and die before they
// reach the other's, which answers those that come too early and so closes
// what they opened. 0: of no use, or not known.
func (m Meeting) primer() int {
	r := m.Mine.Report
	if r == nil || !answersRST(m.Theirs.Report) || r.OnICMP == probe.Closes {
		return 0
	}
	return r.Path.TTL
}

// answersRST reports whether a SYN that comes too early is answered.
func answersRST(r *probe.Report) bool {
	return r != nil && (r.Unsolicited == probe.RST || r.Unsolicited == probe.ICMP) // either ends a SYN_SENT socket
}

// sharePublicIP reports whether the server saw both ends at one IPv4 address.
// IPv6 has no NAT to share, so it says nothing there.
func sharePublicIP(a, b []Candidate) bool {
	return slices.ContainsFunc(a, func(x Candidate) bool {
		return x.Kind == Public && x.Addr.Addr().Is4() && slices.ContainsFunc(b, func(y Candidate) bool {
			return y.Kind == Public && y.Addr.Addr() == x.Addr.Addr()
		})
	})
}

// public reports whether an end's public IPv4 address is its own.
func public(cs []Candidate) bool {
	return slices.ContainsFunc(cs, func(c Candidate) bool {
		return c.Kind == Public && c.Addr.Addr().Is4() && isHost(cs, c.Addr.Addr())
	})
}

func isHost(cs []Candidate, ip netip.Addr) bool {
	return slices.ContainsFunc(cs, func(c Candidate) bool { return c.Kind == Host && c.Addr.Addr() == ip })
}

func hasFamily(cs []Candidate, v4 bool) bool {
	return slices.ContainsFunc(cs, func(c Candidate) bool { return c.Addr.Addr().Is4() == v4 })
}

func inside(ps []netip.Prefix, ip netip.Addr) bool {
	return slices.ContainsFunc(ps, func(p netip.Prefix) bool { return p.Contains(ip) })
}
