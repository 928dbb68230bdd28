package stunt

import (
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/gostunt/stunt/internal/netwatch"
	"github.com/gostunt/stunt/internal/sock"
)

// What a node does when the network of its host changes.

// addressGrace is how long a connection outlives its local address. A laptop
// that wakes up, or changes access points, often has the same one again some
// seconds later, and its connections go on.
const addressGrace = 10 * time.Second

// NetworkChange is what a node saw happen to the network of its host.
type NetworkChange struct {
	Gone, New []netip.Addr  // addresses of the host
	Rerouted  bool          // the way to the server is another: another router or interface
	Slept     time.Duration // the host was suspended for so long; zero: it was not

	// Moved reports whether the node begins anew because of it: a session from
	// where it is now, another look at the NAT. Otherwise the session goes on,
	// and peers are told of the addresses.
	Moved bool
}

// host is what a node knows of the machine that it runs on, and the connections
// that it has there: those who need to know when that changes, and those that linger.
type host struct {
	closed lingering

	mu    sync.Mutex         // guards following
	begun []netwatch.Route   // the ways to a server when a session with it began; nil: known to look
	conns map[*Conn]struct{} // those that are open

	// Owned by Node.watch:
	looked bool
	seen   netwatch.State // with the routes to the server of the session
}

// watch looks at the host's network when something has happened there, until
// the node ends.
func (n *Node) watch() {
	netwatch.Watch(n.life, netwatch.Config{Net: n.ports.net, Wake: n.look})
}

func (n *Node) look(slept time.Duration) {
	h := &n.host
	h.mu.Lock()
	before := h.seen
	if h.begun != nil {
		before.Routes, h.begun = h.begun, nil
	}
	h.mu.Unlock()
	var to []netip.Addr
	for _, r := range before.Routes {
		to = append(to, r.To)
	}
	now, err := netwatch.Look(n.ports.net, to...)
	if err != nil {
		n.log.Debug("no look at the network", "phase", "network", "err", err)
		return // what is not seen is not gone
	}
	first := !h.looked
	h.looked, h.seen = true, now.Since(before)
	c := netwatch.Compare(before, now)
	if first {
		c.New = nil // they were there before
	}
	if !c.None() || slept > 0 {
		n.changed(c, slept)
	}
}

// changed decides what a change means. What in a node depends on the network
// hears of it here and in moved.
func (n *Node) changed(c netwatch.Change, slept time.Duration) {
	n.mu.Lock()
	server, server6, local, up := n.st.server.Addr(), n.st.server6.Addr(), n.st.local, n.st.up
	n.mu.Unlock()
	gone := slices.Contains(c.Gone, local)
	change := NetworkChange{Gone: c.Gone, New: c.New, Rerouted: slices.Contains(c.Rerouted, server), Slept: slept}
	change.Moved = gone || change.Rerouted || slept > 0
	n.log.Debug("network changed", "phase", "network", "gone", c.Gone, "new", c.New, "rerouted", c.Rerouted, "slept", slept, "moved", change.Moved)
	n.Config.Trace.network(change)
	switch {
	case change.Moved:
		n.moved(gone)
	case !up:
		n.client.Reconnect() // it may be what was missing
	default:
		if slices.Contains(c.Rerouted, server6) {
			n.probeAgain() // for what it says of IPv6
		}
		n.update()
	}
	n.host.resume(c.Gone, change.Moved)
	if len(n.host.from(c.Gone)) > 0 {
		n.wg.Go(func() { n.abandon(c.Gone) })
	}
}

// moved begins anew from where the node is now. The session is ended, as the
// kernel would go on for minutes to send from an address that is gone, or
// through a router that does not know the connection. gone: the address is.
func (n *Node) moved(gone bool) {
	n.mu.Lock()
	n.forgetNAT()
	n.st.public = netip.AddrPort{}
	n.mu.Unlock()
	n.ports.renew(gone)
	n.client.Reconnect() // and with the new session, remap
}

// probeAgain has the NAT probed though the session stands.
func (n *Node) probeAgain() {
	n.mu.Lock()
	n.forgetNAT()
	again := n.probesAgain()
	n.mu.Unlock()
	if again { // else the probe that was stopped begins again
		n.wg.Go(n.probe)
	}
}

// abandon ends the connections from addresses that are gone, unless they are
// back in time. It ends with that, or with the node.
func (n *Node) abandon(gone []netip.Addr) {
	grace := time.NewTimer(addressGrace)
	defer grace.Stop()
	select {
	case <-grace.C:
	case <-n.life.Done():
		return
	}
	now, err := netwatch.Look(n.ports.net)
	if err != nil {
		return
	}
	gone = slices.DeleteFunc(slices.Clone(gone), func(a netip.Addr) bool { return slices.Contains(now.Addrs, a) })
	for _, c := range n.host.from(gone) {
		c.lose(ErrAddressGone)
	}
}

// resume has the connections that can be resumed not wait for what may come:
// those from addresses that are gone look for another path now, and where the
// node has moved the others find out whether theirs still works.
func (h *host) resume(gone []netip.Addr, moved bool) {
	for _, c := range h.from(gone) {
		if c.resumption != nil {
			c.lose(ErrAddressGone)
		}
	}
	if !moved {
		return
	}
	for _, c := range h.list() {
		if c.resumption != nil {
			c.resumption.stream.Doubt()
		}
	}
}

// began notes the ways to the server that a session began with.
func (h *host) began(routes []netwatch.Route) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.begun = routes
}

// add has a connection hear when the address that it leaves from is gone,
// until it is closed.
func (h *host) add(c *Conn) {
	h.mu.Lock()
	if h.conns == nil {
		h.conns = make(map[*Conn]struct{})
	}
	h.conns[c] = struct{}{}
	h.mu.Unlock()
	c.whenClosed(func() { h.remove(c) })
}

func (h *host) remove(c *Conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.conns, c)
}

// list returns the open connections.
func (h *host) list() []*Conn {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Collect(maps.Keys(h.conns))
}

// from returns the open connections from some addresses.
func (h *host) from(addrs []netip.Addr) []*Conn {
	return slices.DeleteFunc(h.list(), func(c *Conn) bool {
		return !slices.Contains(addrs, sock.AddrPort(c.LocalAddr()).Addr()) // which changes when the connection moves
	})
}
