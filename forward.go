package stunt

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/gostunt/stunt/internal/punch"
	"github.com/gostunt/stunt/portmap"
	"github.com/gostunt/stunt/probe"
)

// forward keeps the session's port mapped on the router, for one family: with
// IPv6 nothing is translated, and mapping is a hole in the firewall. Nothing
// waits for it: until it is there, and where no router does it, dials go without.
type forward struct {
	node *Node
	v6   bool
	wake chan struct{} // capacity 1: another session, port or network

	mu    sync.Mutex // guards following
	now   probe.PortMapping
	seen  netip.Addr    // where the server saw the session when that was found
	tried chan struct{} // closed when the first try is over
	once  bool          // it is closed

	// Owned by run:
	mapping *portmap.Mapping // nil: none
	local   netip.AddrPort   // what it is for
	gateway netip.Addr       // of the network that it is in, where the system tells
}

func newForward(n *Node, v6 bool) *forward {
	return &forward{node: n, v6: v6, wake: make(chan struct{}, 1), tried: make(chan struct{})}
}

// remap has the mappings made again or renewed, and tried.
func (n *Node) remap() {
	for _, f := range n.forwards {
		select {
		case f.wake <- struct{}{}:
		default:
		}
	}
}

// run ends with the node; the mapping then is removed, which takes a second at
// most.
func (f *forward) run() {
	defer f.drop()
	for {
		var changed <-chan struct{}
		if f.mapping != nil {
			changed = f.mapping.Changed()
		}
		select {
		case <-f.wake:
			f.update()
		case <-changed:
			f.verify()
		case <-f.node.life.Done():
			return
		}
	}
}

// update makes the mapping that is wanted now, and has it tried.
func (f *forward) update() {
	local, gateway := f.wanted(), f.node.ports.net.Gateway()
	switch {
	case f.mapping != nil && local == f.local && gateway == f.gateway:
		f.mapping.Refresh(f.node.life) // the router may have restarted
	case local.IsValid():
		if f.mapping != nil {
			f.drop()
			f.set(probe.PortMapping{})
		}
		m, err := portmap.Map(f.node.life, portmap.Config{Net: f.node.ports.net, Logger: f.node.log}, local)
		if err != nil {
			f.node.log.Debug("no port mapping", "phase", "portmap", "local", local, "err", err)
			f.set(probe.PortMapping{Protocol: probe.NoPortMapping})
			return
		}
		f.mapping, f.local, f.gateway = m, local, gateway
	default:
		f.drop()
		f.set(probe.PortMapping{})
		return
	}
	f.verify()
}

// wanted is the local endpoint that a router should map; invalid if none
// should: without a session, or without a NAT.
func (f *forward) wanted() netip.AddrPort {
	n := f.node
	port := n.ports.sessionNow()
	if port == nil {
		return netip.AddrPort{}
	}
	if f.v6 {
		ip := n.ports.net.Source(f.server().Addr()) // invalid if that has no IPv6
		if !ip.Is6() || !ip.IsGlobalUnicast() || !port.Has(ip) {
			return netip.AddrPort{}
		}
		return netip.AddrPortFrom(ip, port.Number())
	}
	public := n.public()
	prefixes, err := n.ports.net.Prefixes()
	own := slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Addr() == public })
	if err != nil || own || !public.Is4() || !public.IsGlobalUnicast() {
		return netip.AddrPort{}
	}
	return port.Local(public)
}

// server is whom to ask whether the mapping works.
func (f *forward) server() netip.AddrPort {
	f.node.mu.Lock()
	defer f.node.mu.Unlock()
	if f.v6 && f.node.st.server.Addr().Is4() {
		return f.node.st.server6
	}
	return f.node.st.server
}

const (
	// triesToReach is how often the server is asked to try the mapping while it
	// says that it has no time to.
	triesToReach = 3
	reachPause   = 5 * time.Second
)

// verify asks the server to connect through the mapping, tells it of what
// works, and drops what does not.
func (f *forward) verify() {
	external, now := f.mapping.External(), probe.PortMapping{Protocol: f.mapping.Protocol().String()}
	if !external.IsValid() { // lost: portmap goes on trying
		f.set(now)
		return
	}
	public, err := f.reach(external.Port())
	for try := 1; errors.Is(err, probe.ErrNotTried) && try < triesToReach && f.node.life.Err() == nil; try++ {
		select {
		case <-time.After(reachPause):
		case <-f.node.life.Done():
		}
		public, err = f.reach(external.Port())
	}
	if err != nil {
		f.node.log.Debug("port mapping does not work", "phase", "portmap", "method", now.Protocol, "local", f.local, "remote", external, "err", err)
		f.drop()
		f.set(now)
		return
	}
	now.Public = public
	f.node.log.Debug("port mapped", "phase", "portmap", "method", now.Protocol, "local", f.local, "remote", public)
	f.set(now)
}

var errSomebodyElse = errors.New("somebody else accepts there")

// reach returns the public endpoint at which a stranger gets to our port. It is
// where the world sees us: what the router says its address is does not count.
func (f *forward) reach(port uint16) (netip.AddrPort, error) {
	c := probe.VisitConfig{Net: f.node.ports.net, Server: f.server(), Port: port}
	if f.v6 {
		c.Local = f.local.Addr()
	}
	public, token, err := probe.Visit(f.node.life, c)
	switch {
	case err != nil:
		return netip.AddrPort{}, err
	case !f.node.door.Saw(token):
		return netip.AddrPort{}, errSomebodyElse
	}
	return public, nil
}

// drop removes the mapping.
func (f *forward) drop() {
	if f.mapping != nil {
		f.mapping.Close()
		f.mapping = nil
	}
}

// set notes what there is, and tells the server where strangers get in.
func (f *forward) set(now probe.PortMapping) {
	seen := f.node.public()
	f.mu.Lock()
	news := now.Public != f.now.Public || seen != f.seen
	f.now, f.seen = now, seen
	if !f.once {
		f.once = true
		close(f.tried)
	}
	f.mu.Unlock()
	if news && f.node.life.Err() == nil {
		f.node.update()
	}
}

func (f *forward) known() probe.PortMapping {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

// usable is where strangers get in; invalid if that was found in another
// network than the one that we are in now, which has yet to be asked.
func (f *forward) usable() netip.AddrPort {
	seen := f.node.public()
	f.mu.Lock()
	defer f.mu.Unlock()
	if seen != f.seen {
		return netip.AddrPort{}
	}
	return f.now.Public
}

// public is where the server sees the node.
func (n *Node) public() netip.Addr {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.st.public.Addr()
}

// mapped are the candidates that routers map to this node. They do for every
// dial, whatever port it has, as one door hears all ports.
func (n *Node) mapped() (cs []punch.Candidate) {
	for _, f := range n.forwards {
		if public := f.usable(); public.IsValid() {
			cs = append(cs, punch.Candidate{Kind: punch.Mapped, Addr: public})
		}
	}
	return cs
}

// PortMappings waits until the routers in front of this node were asked for a
// public port, and returns what has come of it for IPv4 and IPv6.
func (n *Node) PortMappings(ctx context.Context) (v4, v6 probe.PortMapping, err error) {
	if err := n.Up(ctx); err != nil {
		return v4, v6, err
	}
	for i, f := range n.forwards {
		select {
		case <-f.tried:
		case <-n.life.Done():
			return v4, v6, net.ErrClosed
		case <-ctx.Done():
			return v4, v6, ctx.Err()
		}
		if i == 0 {
			v4 = f.known()
		} else {
			v6 = f.known()
		}
	}
	return v4, v6, nil
}
