package stunt

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/gostunt/stunt/internal/punch"
	"github.com/gostunt/stunt/internal/sock"
	"github.com/gostunt/stunt/rendezvous"
)

// RelayPolicy says whether a node's connections may go over a relay.
type RelayPolicy uint8

const (
	// RelayAuto, the default, takes a relay where no direct path stands in the
	// first 600 ms, or at once where the two NATs leave nothing to hope for. In
	// Encrypted mode the connection moves to the direct path if one is found
	// within Config.Window; in Raw mode it can't, so Dial waits for that time first.
	RelayAuto RelayPolicy = iota
	// RelayNever takes none: such dials end with ErrNoPath.
	RelayNever
	// RelayOnly takes nothing else: the peer is told no address of this node.
	RelayOnly
)

// String returns "auto", "never" or "only".
func (p RelayPolicy) String() string {
	switch p {
	case RelayAuto:
		return "auto"
	case RelayNever:
		return "never"
	case RelayOnly:
		return "only"
	}
	return fmt.Sprintf("relay policy %d", uint8(p))
}

// relayTime bounds finding out how far a relay is: one lost SYN of a slow path.
const relayTime = 3 * time.Second

// way is how this node reaches a relay.
type way struct {
	name string // as the server calls it
	leg  punch.Leg
}

// meetRelays takes in the relays that the server of a new session names. The
// way to that server itself is known from the session's own connect.
func (n *Node) meetRelays(names []string, server *serverConn) {
	if n.Config.Relay == RelayNever {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	known := n.st.relays
	n.st.relays, n.st.relayNames = nil, nil
	var far []string
	for _, name := range names {
		name, here := strings.CutPrefix(name, rendezvous.RelayHere)
		n.st.relayNames = append(n.st.relayNames, name)
		i := slices.IndexFunc(known, func(w way) bool { return w.name == name })
		switch {
		case here:
			leg := punch.Leg{Relay: punch.RelayIDOf(name), RTT: server.rtt, Addr: sock.AddrPort(server.RemoteAddr())}
			n.st.relays = append(n.st.relays, way{name, leg})
			continue
		case i >= 0:
			n.st.relays = append(n.st.relays, known[i]) // until it is measured again
		}
		far = append(far, name)
	}
	if len(far) > 0 && !n.st.closed {
		n.wg.Go(func() { n.measureRelays(far) })
	}
}

// measureRelays finds the ways to relays elsewhere. They can be used as soon as
// their addresses are known; how far they are is measured when the probe of the
// NAT is over, whose counting a connection in between would disturb. Ends by
// itself, or with the node.
func (n *Node) measureRelays(names []string) {
	for _, name := range names {
		ctx, cancel := context.WithTimeout(n.life, relayTime)
		addrs, err := resolve(ctx, name)
		cancel()
		if err != nil {
			n.log.Debug("relay", "phase", "resolve", "remote", name, "err", err)
			continue
		}
		n.setWay(way{name, punch.Leg{Relay: punch.RelayIDOf(name), RTT: punch.Unmeasured, Addr: addrs[0]}}, false)
		n.wg.Go(func() { n.measureRelay(name, addrs) })
	}
	n.update()
}

// measureRelay connects to each address of a relay and keeps the nearest. A
// relay that can't be reached is taken out. Ends by itself, or with the node.
func (n *Node) measureRelay(name string, addrs []netip.AddrPort) {
	select {
	case <-n.st.probed:
	case <-n.life.Done():
		return
	}
	best := way{name: name, leg: punch.Leg{Relay: punch.RelayIDOf(name)}}
	for _, addr := range addrs[:min(len(addrs), maxRelayAddrs)] {
		ctx, cancel := context.WithTimeout(n.life, relayTime)
		began := time.Now()
		c, err := n.ports.net.Dial(ctx, sock.Unspecified(addr.Addr(), 0), addr, 0)
		rtt := time.Since(began)
		cancel()
		if err != nil {
			n.log.Debug("relay", "phase", "connect", "remote", addr, "err", err)
			continue
		}
		sock.Abort(c)
		if !best.leg.Addr.IsValid() || rtt < best.leg.RTT {
			best.leg.Addr, best.leg.RTT = addr, rtt
		}
	}
	n.setWay(best, true)
	n.update()
}

// maxRelayAddrs bounds the addresses of one relay that are tried.
const maxRelayAddrs = 4

// setWay records the way to a relay, if the server that we have by now has named
// it; one that was known stays unless this was measured. A way without an address
// is none.
func (n *Node) setWay(w way, measured bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	i := slices.IndexFunc(n.st.relays, func(x way) bool { return x.name == w.name })
	switch {
	case !slices.Contains(n.st.relayNames, w.name):
	case i >= 0 && !measured:
	case i >= 0 && !w.leg.Addr.IsValid():
		n.st.relays = slices.Delete(n.st.relays, i, i+1)
	case i >= 0:
		n.st.relays[i] = w
	case w.leg.Addr.IsValid():
		n.st.relays = append(n.st.relays, w)
	}
}

// legs are what a peer is told of the relays that this node reaches.
func (n *Node) legs() []punch.Leg {
	n.mu.Lock()
	defer n.mu.Unlock()
	var legs []punch.Leg
	for _, w := range n.st.relays {
		legs = append(legs, w.leg)
	}
	return legs
}

// relayAt returns the name of the relay at an address.
func (n *Node) relayAt(addr netip.AddrPort) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, w := range n.st.relays {
		if w.leg.Addr == addr {
			return w.name
		}
	}
	return addr.String() // the session with its server is another by now
}

// ticket is what this node meets the peer with at a relay; nil: it does not.
func (n *Node) ticket(t []byte) []byte {
	if n.Config.Relay == RelayNever {
		return nil
	}
	return t
}

// onRelay completes the path of a connection that goes over a relay.
func (n *Node) onRelay(p *Path, theirs punch.Side) {
	if p.Method != Relayed {
		return
	}
	p.Relay = n.relayAt(p.Remote)
	p.NoDirect = punch.Explain(n.known(), theirs.Report)
	switch {
	case n.Config.Relay == RelayOnly:
		p.NoDirect = "Config.Relay wants nothing else"
	case len(theirs.Candidates) == 0:
		p.NoDirect = "the peer wants nothing else"
	}
}

// noRelay says why a dial without a direct path had no relay either; empty: it
// is the attempt at one that tells.
func (n *Node) noRelay(theirs punch.Side, ticket []byte) string {
	switch {
	case n.Config.Relay == RelayNever:
		return "" // as was asked for
	case len(ticket) == 0:
		return "the server has no relay; "
	case len(theirs.Relays) == 0:
		return "the peer takes no relay, or reaches none; "
	case len(n.legs()) == 0:
		return "no relay can be reached from here; "
	}
	return ""
}
