// Package netwatch tells when the machine's place in the network may have
// changed: its addresses, the way to some destination, or that it slept.
//
// [Watch] says when to look, [Look] looks, and [Compare] says what differs
// between two looks. Nobody is asked over the network: all of it is what the
// kernel knows. A NAT or a provider that changes something further away is
// found out by whoever talks through it.
package netwatch

import (
	"net/netip"
	"slices"
	"time"

	"github.com/gostunt/stunt/internal/sock"
)

// State is what one look at the machine's network has shown.
type State struct {
	Addrs  []netip.Addr // global unicast ones of all interfaces, sorted
	Routes []Route      // to the destinations that were asked for, in that order
}

// Route is the way to a destination. Which of the machine's addresses it leaves
// from is not part of it: IPv6 has another one for that every day, and
// connections from the last one go on.
type Route struct {
	To      netip.Addr
	Link    int        // index of the interface; 0: there is no way, or it is not known
	Gateway netip.Addr // invalid: none, or not known (only Linux tells)
}

// Look returns the present state, with the ways to some destinations. On an
// error, which no system has been seen to give, the state has what could be
// found out.
func Look(n *sock.Net, to ...netip.Addr) (State, error) {
	var s State
	prefixes, err := n.Prefixes()
	for _, p := range prefixes {
		s.Addrs = append(s.Addrs, p.Addr())
	}
	slices.SortFunc(s.Addrs, netip.Addr.Compare)
	s.Addrs = slices.Compact(s.Addrs)
	for _, a := range to {
		s.Routes = append(s.Routes, route(n, a))
	}
	return s, err
}

// Change is what differs between two states.
type Change struct {
	Gone, New []netip.Addr // addresses of this machine
	Rerouted  []netip.Addr // destinations, of those in both states, that are reached another way
}

// None reports whether nothing differs.
func (c Change) None() bool { return len(c.Gone)+len(c.New)+len(c.Rerouted) == 0 }

// Compare returns what differs between two states. A destination that cannot
// be reached for a while has not changed its way: that shows when it can be
// reached again. So before should be the last state in which it could be.
func Compare(before, after State) Change {
	c := Change{Gone: missing(before.Addrs, after.Addrs), New: missing(after.Addrs, before.Addrs)}
	for _, r := range after.Routes {
		i := slices.IndexFunc(before.Routes, func(b Route) bool { return b.To == r.To })
		if i >= 0 && r.Link != 0 && before.Routes[i].Link != 0 && before.Routes[i] != r {
			c.Rerouted = append(c.Rerouted, r.To)
		}
	}
	return c
}

// Since returns after, and for destinations that it has no way to what before
// has: the state to compare the next one with.
func (after State) Since(before State) State {
	after.Routes = slices.Clone(after.Routes)
	for i, r := range after.Routes {
		j := slices.IndexFunc(before.Routes, func(b Route) bool { return b.To == r.To })
		if r.Link == 0 && j >= 0 {
			after.Routes[i] = before.Routes[j]
		}
	}
	return after
}

// missing returns what of a is not in b; both are sorted.
func missing(a, b []netip.Addr) (out []netip.Addr) {
	for _, x := range a {
		if _, found := slices.BinarySearchFunc(b, x, netip.Addr.Compare); !found {
			out = append(out, x)
		}
	}
	return out
}

// Config says what Watch watches.
type Config struct {
	// Net opens the kernel's channel for such news, and so decides whose
	// network it is. Nil: the process's own.
	Net *sock.Net

	// Wake is called when it is time to look, never twice at once, and with how
	// long the machine has slept since the last call: zero if it has not. It
	// must not wait for the end of Watch.
	Wake func(slept time.Duration)

	// Poll is the time between two calls of Wake where the kernel does not
	// tell. Zero: 10 s.
	Poll time.Duration
}

func (c *Config) poll() time.Duration {
	if c.Poll <= 0 {
		// Addresses change some times a day; a look takes two system calls.
		return 10 * time.Second
	}
	return c.Poll
}
