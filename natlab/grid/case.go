package grid

import (
	"strings"

	"github.com/gostunt/stunt/natlab"
	"github.com/gostunt/stunt/natlab/nat"
)

// Case is one pair to measure.
type Case struct {
	Name  string // of a case in a list; empty in the table
	About string // one line

	Listener, Dialer string // the sides in the table

	Link Link // zero: that of the Config

	order *order // of connecting, instead of a node's; nil: nodes dial
	ipv6  bool   // both have nothing but IPv6
	place func(l *natlab.Lab, link natlab.Link) (listener, dialer *natlab.Host)
}

// String names the case.
func (c Case) String() string {
	if c.Name != "" {
		return c.Name
	}
	return c.sides()
}

func (c Case) sides() string { return c.Listener + " from " + c.Dialer }

// file is the name in a form for files.
func (c Case) file() string {
	return strings.NewReplacer(" ", "-", ",", "", "%", "").Replace(c.String())
}

// pair is a cell of the table.
func pair(listener, dialer Side) Case {
	return Case{Listener: listener.Name, Dialer: dialer.Name, place: func(l *natlab.Lab, link natlab.Link) (*natlab.Host, *natlab.Host) {
		return listener.attach(l, listenerHost, link), dialer.attach(l, dialerHost, link)
	}}
}

// Shared returns the pairs that no table of two sides shows.
func Shared() []Case {
	return []Case{
		{Name: "same LAN", About: "both in one network behind one NAT", place: func(l *natlab.Lab, link natlab.Link) (*natlab.Host, *natlab.Host) {
			home := l.NAT("nat", nil, profile("eim-apdf"), link)
			return l.Host(listenerHost, home, natlab.Link{}), l.Host(dialerHost, home, natlab.Link{})
		}},
		nested("same NAT, hairpinning", "each behind a router of its own, both of these behind one NAT that hairpins", "hairpin"),
		nested("same NAT, hairpinning internal", "the same, and the NAT leaves the sender's inside address in the packet", "hairpin-internal"),
		nested("same NAT, no hairpinning", "the same, and the NAT drops what is for its own public address", "no-hairpin"),
		firewalls("IPv6, two firewalls", "no IPv4; both drop what is unsolicited", nat.Config{}, nat.Config{}),
		firewalls("IPv6, one rejecting", "the listener's answers with RST, and closes on one",
			profile("eim-rst"), nat.Config{}),
		firewalls("IPv6, both rejecting", "both answer with ICMP port unreachable, and close on it",
			profile("eim-icmp"), profile("eim-icmp")),
	}
}

// nested puts each host behind a home router, and both routers behind one NAT,
// half of the way to the core.
func nested(name, about, carrier string) Case {
	return Case{Name: name, About: about, place: func(l *natlab.Lab, link natlab.Link) (*natlab.Host, *natlab.Host) {
		link.Delay /= 2
		c := l.NAT("carrier", nil, profile(carrier), link)
		home := func(host string) *natlab.Host {
			return l.Host(host, l.NAT("nat-"+host, c, profile("eim-apdf"), link), natlab.Link{})
		}
		return home(listenerHost), home(dialerHost)
	}}
}

// firewalls puts each host behind an IPv6 firewall of its own. The boxes
// translate IPv4 as well, but nobody learns an address of that family.
func firewalls(name, about string, listener, dialer nat.Config) Case {
	return Case{Name: name, About: about, ipv6: true, place: func(l *natlab.Lab, link natlab.Link) (*natlab.Host, *natlab.Host) {
		return l.Host(listenerHost, l.NAT("nat-"+listenerHost, nil, listener, link), natlab.Link{}),
			l.Host(dialerHost, l.NAT("nat-"+dialerHost, nil, dialer, link), natlab.Link{})
	}}
}
