package punch

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/gostunt/stunt/probe"
)

// Explain says in one sentence why no path was to be expected between two
// ends, and what would help; or, where one was, what else may be in the way.
func Explain(mine, theirs *probe.Report) string {
	const remedy = "IPv6 on both ends, or a public address or port mapping (UPnP, NAT-PMP or PCP) on one, would do"
	switch {
	case behindOne(mine, theirs):
		return "both ends are behind one NAT, in different networks, and it does not loop packets back; " + remedy
	case refusesSYN(mine) && refusesSYN(theirs):
		return "both NATs refuse SYNs even to where they sent one; " + remedy
	case perDestination(mine) && perDestination(theirs):
		return fmt.Sprintf("both NATs map per destination (yours %v, %v; theirs %v, %v), so each public port had to be guessed; %s",
			mine.Mapping, mine.Ports.Assignment, theirs.Mapping, theirs.Ports.Assignment, remedy)
	case perDestination(mine):
		return fmt.Sprintf("your NAT maps per destination (%v, %v), so the peer had to guess your public port; %s",
			mine.Mapping, mine.Ports.Assignment, remedy)
	case perDestination(theirs):
		return fmt.Sprintf("the peer's NAT maps per destination (%v, %v), so its public port had to be guessed; %s",
			theirs.Mapping, theirs.Ports.Assignment, remedy)
	case mine == nil || theirs == nil:
		return "one end has not probed its NAT yet; try again, or run \"stunt probe\" on both"
	}
	return "a firewall on one side may block outgoing connections to high ports; run \"stunt probe\" on both ends"
}

// behindOne reports whether a server sees both ends at one IPv4 address.
func behindOne(a, b *probe.Report) bool {
	return a != nil && b != nil && slices.ContainsFunc(a.Public, func(ip netip.Addr) bool { return slices.Contains(b.Public, ip) })
}

func perDestination(r *probe.Report) bool {
	return r != nil && r.Mapping >= probe.ADM
}

func refusesSYN(r *probe.Report) bool {
	return r != nil && r.Filtering == probe.NoSYNIn
}

// hopeless reports whether no method that is in the plan of a meeting could get
// its ends together but by what nobody foresaw: then it is not worth waiting
// for long.
func (m Meeting) hopeless(plan []Attempt) bool {
	if !slices.ContainsFunc(plan, func(a Attempt) bool { return a.Method != Relay }) {
		return true
	}
	if m.Mine.OpenToAll() || m.Theirs.OpenToAll() {
		return false
	}
	foreseen := false
	for _, a := range plan {
		switch {
		case a.Method == Relay:
			continue
		case a.To.Addr().Is6(), a.Method == LAN, a.Method == Hairpin, a.Method == Direct, a.Method == Reversed:
			return false // a way that no IPv4 NAT, or only one, is on
		case a.Method == Predicted, a.Method == Guessed:
			foreseen = true
		}
	}
	return refusesSYN(m.Mine.Report) && refusesSYN(m.Theirs.Report) ||
		m.Mine.numbering() != known && m.Theirs.numbering() != known && !foreseen
}

// unlikely reports whether all that a plan has, but a relay, is that both ends
// may be in one network, which shows at once: they are behind one NAT that does
// not loop packets back, as many of carriers are.
func (m Meeting) unlikely(plan []Attempt) bool {
	for _, a := range plan {
		switch {
		case a.Method == Relay, a.Method == LAN:
		case a.Method == Hairpin && m.Mine.Report != nil && m.Mine.Report.Hairpin == probe.No:
		default:
			return false
		}
	}
	return true
}
