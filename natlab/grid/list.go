package grid

import (
	"fmt"
	"slices"
	"time"

	"github.com/gostunt/stunt/natlab"
)

// List is a number of pairs with something in common that no table of two
// sides shows.
type List struct {
	Name  string // for the command line
	Title string
	Cases []Case
}

// Results is what became of a list.
type Results struct {
	List    List
	Results []Result // in the order of the cases
}

// Lists returns all that there are.
func Lists() []List {
	return []List{
		{"shared", "Both behind", Shared()},
		{"links", "Over other links", Links()},
		{"far", "Far behind a NAT", Far()},
		{"orders", "In the orders of others", Compared()},
	}
}

// FindLists returns the lists with these names.
func FindLists(names ...string) ([]List, error) {
	all, found := Lists(), []List{}
	for _, name := range names {
		i := slices.IndexFunc(all, func(l List) bool { return l.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("there is no list %q", name)
		}
		found = append(found, all[i])
	}
	return found, nil
}

// Link is a path between hosts that is not that of the table: so much jitter at
// most, and that loss, on each of its two links.
type Link struct {
	RTT, Jitter time.Duration
	Loss        float64
}

// String returns the link in words.
func (l Link) String() string {
	return fmt.Sprintf("%v, %v jitter, %g %% loss", l.RTT, l.Jitter, 100*l.Loss)
}

// Links returns a sample of the pairs over links that lose and delay packets
// as wireless ones do, near, in one country and half round the world: each
// kind of method once, and those pairs that need the right moment.
func Links() []Case {
	var cases []Case
	for _, rtt := range []time.Duration{10 * time.Millisecond, 60 * time.Millisecond, 300 * time.Millisecond} {
		link := Link{RTT: rtt, Jitter: 5 * time.Millisecond, Loss: 0.01}
		for _, p := range [][2]string{
			{"none", "eim-apdf"}, {"eim-apdf", "eim-apdf"}, {"kernel", "kernel"}, {"eim-apdf", "eim-rst"}, {"eim-rst", "eim-rst"},
			{"apdm-delta1", "eim-apdf"}, {"apdm-delta1-busy20", "apdm-delta1"}, {"eim-apdf", "apdm-random"}, {"apdm-block512", "apdm-block512"},
		} {
			c := pairOf(p[0], p[1])
			c.Link, c.Name = link, c.sides()+", "+link.String()
			cases = append(cases, c)
		}
	}
	return cases
}

// farBehind is one way, and as much again at most.
const farBehind = 50 * time.Millisecond

// Far returns pairs whose listener is far behind its NAT, as in a carrier's
// network: the NAT answers several of the dialer's SYNs before the listener has
// opened it, and the listener's own SYN comes between two of them, to a NAT that
// may follow sequence numbers.
func Far() []Case {
	return []Case{far("eim-icmp", "kernel"), far("eim-rst", "kernel"), far("eim-rst", "eim-apdf"), far("eim-rst", "eim-rst")}
}

func far(listener, dialer string) Case {
	c := pairOf(listener, dialer)
	c.Link = Link{RTT: 40 * time.Millisecond}
	c.Name = fmt.Sprintf("%s, with the listener %v to %v behind its NAT", c.sides(), farBehind, 2*farBehind)
	c.place = func(l *natlab.Lab, link natlab.Link) (*natlab.Host, *natlab.Host) {
		router := l.NAT("nat-"+listenerHost, nil, profile(listener), link)
		d, err := Find(dialer)
		if err != nil {
			panic(err)
		}
		return l.Host(listenerHost, router, natlab.Link{Delay: farBehind, Jitter: farBehind}), d[0].attach(l, dialerHost, link)
	}
	return c
}

// comparedLink is the path that orders are compared over. On one that neither
// loses nor delays, SYNs that a server starts always cross, and the rules for
// when they do not are worth nothing.
var comparedLink = Link{RTT: 60 * time.Millisecond, Jitter: 5 * time.Millisecond, Loss: 0.01}

// Compared returns the pairs that nodes and the orders of others are held
// against each other on, first a node and then each order: pairs that any
// order should cross, and those that need more than one.
func Compared() []Case {
	var cases []Case
	for _, p := range [][2]string{
		{"eim-apdf", "eim-apdf"}, {"kernel", "kernel"}, {"eim-apdf", "eim-rst"}, {"eim-rst", "eim-apdf"}, {"eim-rst", "eim-rst"},
		{"eim-icmp", "eim-icmp"}, {"no-syn-in", "eim-apdf"}, {"apdm-delta1", "eim-apdf"}, {"apdm-delta1-busy20", "eim-apdf"},
		{"eim-apdf", "apdm-random"},
	} {
		for _, o := range slices.Concat([]*order{nil}, orders) {
			c := pairOf(p[0], p[1])
			c.Link, c.order, c.Name = comparedLink, o, c.sides()+", "+o.String()
			cases = append(cases, c)
		}
	}
	return cases
}

// pairOf is pair by name, of sides that exist.
func pairOf(listener, dialer string) Case {
	s, err := Find(listener, dialer)
	if err != nil {
		panic(err)
	}
	return pair(s[0], s[1])
}
