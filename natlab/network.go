package natlab

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
)

// The public addresses are those for benchmarks (RFC 2544), 198.18.0.0/15, and
// those for documentation (RFC 3849), 2001:db8::/32: nothing real has them.
var (
	firstHost = netip.MustParseAddr("198.18.0.0")
	firstPool = netip.MustParseAddr("198.18.128.0")
	firstHop  = netip.MustParseAddr("198.19.0.0")
)

// addr4 is the address i after base.
func addr4(base netip.Addr, i int) netip.Addr {
	b := base.As4()
	binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])+uint32(i))
	return netip.AddrFrom4(b)
}

// addr6 is host i of the public network n, 2001:db8:n::i.
func addr6(n, i int) netip.Addr {
	b := [16]byte{0x20, 0x01, 0x0d, 0xb8}
	binary.BigEndian.PutUint16(b[4:], uint16(n))
	binary.BigEndian.PutUint32(b[12:], uint32(i))
	return netip.AddrFrom16(b)
}

// network is the Internet or the inside of a NAT: it carries packets between
// what is attached to it, as a switch does, without counting down their TTL.
type network struct {
	lab     *Lab
	name    string
	parent  *network      // of the inside of a NAT
	uplink  *wire         // to parent
	gateway func(*packet) // takes what is for elsewhere; nil: there is no elsewhere
	prefix4 netip.Prefix  // of the inside of a NAT
	prefix6 netip.Prefix
	has6    bool // IPv6 reaches it
	depth   int  // NATs between it and the Internet
	split   atomic.Pointer[split]

	mu       sync.RWMutex // guards following
	last     int          // number of the last address given out
	routes   map[netip.Addr]*wire
	prefixes []route // the IPv6 networks behind the NATs attached here
}

type route struct {
	prefix netip.Prefix
	wire   *wire
}

func (n *network) network() *network { return n }

// fromBelow takes a packet from something attached to the network.
func (n *network) fromBelow(p *packet) {
	n.lab.trace.capture(p.b)
	if s := n.split.Load(); s != nil && s.parts(p.b) {
		n.lab.trace.record(n.name, "drop: split", p.b)
		p.free()
		return
	}
	if w := n.lookup(destination(p.b)); w != nil {
		w.down.send(p)
	} else if n.gateway != nil {
		n.gateway(p)
	} else {
		n.drop(p)
	}
}

// fromGateway takes a packet from the NAT that the network is the inside of.
func (n *network) fromGateway(p *packet) {
	n.lab.trace.capture(p.b)
	if w := n.lookup(destination(p.b)); w != nil {
		w.down.send(p)
	} else {
		n.drop(p)
	}
}

// drop ends a packet for an address that nobody has. The lab answers nothing,
// the harder case for whoever dials: real routers answer or not.
func (n *network) drop(p *packet) {
	n.lab.trace.record(n.name, "drop: no such address", p.b)
	p.free()
}

func (n *network) lookup(a netip.Addr) *wire {
	n.mu.RLock()
	defer n.mu.RUnlock()
	if w := n.routes[a]; w != nil {
		return w
	}
	for _, r := range n.prefixes {
		if r.prefix.Contains(a) {
			return r.wire
		}
	}
	return nil
}

func (n *network) attach(a netip.Addr, w *wire) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.routes[a] = w
}

func (n *network) detach(a netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.routes, a)
}

// prefix is a host's address as it stands on its device: a public one alone,
// a private one in its network.
func (n *network) prefix(a netip.Addr) netip.Prefix {
	bits := a.BitLen()
	if n.parent != nil {
		bits = n.prefix4.Bits()
		if a.Is6() {
			bits = n.prefix6.Bits()
		}
	}
	return netip.PrefixFrom(a, bits)
}

// via is whom the default routes of hosts here name as their router; zero:
// nobody, on the Internet.
func (n *network) via() hop {
	if n.parent == nil {
		return hop{}
	}
	return n.router()
}

// delegate routes an IPv6 network to w, here and in every network above.
func (n *network) delegate(p netip.Prefix, w *wire) {
	for ; n != nil; n, w = n.parent, n.uplink {
		n.mu.Lock()
		n.prefixes = append(n.prefixes, route{p, w})
		n.mu.Unlock()
	}
}

// address gives out the next free IPv4 address for a host or, on the Internet
// from a range of its own, for a NAT; the host's number is that of its IPv6
// address too.
func (n *network) address(pool bool) (a netip.Addr, number int) {
	if n.parent == nil {
		base, counter := firstHost, &n.lab.used.hosts
		if pool {
			base, counter = firstPool, &n.lab.used.pools
		}
		number = n.lab.next(counter)
		return addr4(base, number), number
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.last >= 253 {
		panic("natlab: " + n.name + ": more than 253 addresses in a private network")
	}
	n.last++
	return addr4(n.prefix4.Addr(), n.last+1), n.last + 1 // 1 is the gateway
}

// inner makes the network on the inside of a NAT called name.
func (n *network) inner(name string, uplink *wire, gateway func(*packet)) *network {
	i := n.lab.next(&n.lab.used.nats)
	p := netip.AddrFrom4([4]byte{10, byte(i), byte(i >> 8), 0})
	if n.lab.config.SamePrivate {
		p = netip.AddrFrom4([4]byte{192, 168, byte(n.depth + 1), 0})
	}
	in := &network{
		lab: n.lab, name: name, parent: n, uplink: uplink, gateway: gateway, depth: n.depth + 1,
		prefix4: netip.PrefixFrom(p, 24), prefix6: netip.PrefixFrom(addr6(i, 0), 64),
		has6: n.has6 && !uplink.link().NoIPv6, routes: map[netip.Addr]*wire{},
	}
	if in.has6 {
		n.delegate(in.prefix6, uplink)
	}
	return in
}

// router is the address of the NAT that the network is the inside of.
func (n *network) router() hop {
	return hop{v4: n.prefix4.Addr().Next(), v6: n.prefix6.Addr().Next()}
}

// String names the network as traces do.
func (n *network) String() string {
	if n.parent == nil {
		return n.name
	}
	return fmt.Sprintf("%s (%v, %v)", n.name, n.prefix4, n.prefix6)
}
