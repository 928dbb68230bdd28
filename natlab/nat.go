package natlab

import (
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/gostunt/stunt/natlab/nat"
)

// NAT is a router that translates IPv4 and filters IPv6, by the engine of
// natlab/nat. It is one hop. Its inside is a [Place]. Its methods may be used
// concurrently.
type NAT struct {
	lab    *Lab
	name   string
	wire   *wire
	inside *network
	public []netip.Addr

	mu     sync.Mutex // guards following
	engine *nat.NAT
}

// NAT makes a NAT attached at a place, nil being the Internet. It panics if the
// configuration is not valid.
func (l *Lab) NAT(name string, at Place, c nat.Config, link Link) *NAT {
	if err := c.Validate(); err != nil {
		panic(fmt.Sprintf("natlab: %s: %v", name, err))
	}
	outer := l.place(name, at)
	n := &NAT{lab: l, name: name}
	n.wire = l.newWire(name, link, n.fromOutside, outer.fromBelow)
	n.inside = outer.inner(name, n.wire, n.fromInside)
	for range poolSize(c, link) {
		a, _ := outer.address(true)
		n.public = append(n.public, a)
	}
	n.engine = nat.New(c, n.public, derive(l.config.Seed, name))
	l.ages(n)
	for _, a := range n.public {
		outer.attach(a, n.wire)
	}
	l.log.Debug("NAT", "name", name, "at", outer.String(), "public", n.public, "inside", n.inside.String())
	return n
}

func poolSize(c nat.Config, link Link) int {
	switch {
	case link.Addresses > 0:
		return link.Addresses
	case c.Pooling == nat.Arbitrary:
		return 4 // of one address nothing is arbitrary
	}
	return 1
}

func (n *NAT) network() *network { return n.inside }

// Name returns the name that the NAT was made with.
func (n *NAT) Name() string { return n.name }

// Public returns the NAT's addresses on its outside.
func (n *NAT) Public() []netip.Addr { return append([]netip.Addr(nil), n.public...) }

// Private returns the IPv4 network on the inside.
func (n *NAT) Private() netip.Prefix { return n.inside.prefix4 }

// Public6 returns the IPv6 network on the inside, invalid where there is none.
func (n *NAT) Public6() netip.Prefix {
	if !n.inside.has6 {
		return netip.Prefix{}
	}
	return n.inside.prefix6
}

// SetLink changes the NAT's link while packets are on it.
func (n *NAT) SetLink(link Link) { n.wire.set(n.lab, link) }

// Reboot loses all mappings and sessions.
func (n *NAT) Reboot() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.engine.Reboot(time.Now())
	n.lab.log.Debug("reboot", "name", n.name)
}

// Age ends what is half open or closing, as the minutes of their timeouts do,
// and leaves established sessions alone: the next case in the same lab finds no
// holes of the last one. The error is nil, and there for [KernelNAT.Age].
func (n *NAT) Age() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.engine.Age(time.Now())
	return nil
}

// Inspect calls f with the engine while no packet passes. f must not keep it.
func (n *NAT) Inspect(f func(*nat.NAT)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f(n.engine)
}

// fromInside takes what the inside network has no host for.
func (n *NAT) fromInside(p *packet) {
	if to, self := destination(p.b), n.inside.router(); to == self.v4 || to == self.v6 {
		// Nothing runs on it, and it says nothing, the harder case.
		n.lab.trace.record(n.name, "drop: for the router itself", p.b)
		p.free()
		return
	}
	if n.expired(p, n.inside.fromGateway, n.inside.router()) {
		return
	}
	n.pass(p, n.engine.Outbound, "drop: not let out")
}

// fromOutside takes what comes down the link.
func (n *NAT) fromOutside(p *packet) {
	outer := hop{v4: n.public[0], v6: n.inside.router().v6}
	if n.expired(p, n.wire.up.send, outer) {
		return
	}
	n.pass(p, n.engine.Inbound, "drop: not let in")
}

// expired counts the TTL down, and if none is left answers the sender.
func (n *NAT) expired(p *packet, back func(*packet), from hop) bool {
	if ttl(p.b) > 1 {
		lowerTTL(p.b, 1)
		return false
	}
	n.lab.trace.record(n.name, "drop: TTL", p.b)
	a := from.v4
	if is6(p.b) {
		a = from.v6
	}
	if icmp := icmpError(timeExceeded, a, p.b, 0); icmp != nil {
		back(icmp)
	}
	p.free()
	return true
}

// pass gives a packet to the engine and sends what it makes of it.
func (n *NAT) pass(p *packet, translate func([]byte, time.Time) []nat.Packet, why string) {
	n.mu.Lock()
	var few [2]nat.Packet // the engine's slice lives only until its next call
	out := append(few[:0], translate(p.b, time.Now())...)
	n.mu.Unlock()

	if len(out) == 1 && out[0].Delay == 0 && &out[0].Data[0] == &p.b[0] {
		p.b = out[0].Data // the usual case: the same packet, rewritten
		n.send(out[0].Dir, p)
		return
	}
	if len(out) == 0 {
		n.lab.trace.record(n.name, why, p.b)
	}
	for _, o := range out {
		if o.Delay > 0 {
			n.sendLater(o)
			continue
		}
		c := newPacket(len(o.Data)) // it may share memory with p
		copy(c.b, o.Data)
		n.send(o.Dir, c)
	}
	p.free()
}

func (n *NAT) sendLater(o nat.Packet) {
	n.lab.clock.at(n.lab.clock.now()+o.Delay, &packet{b: o.Data}, func(p *packet) {
		n.mu.Lock()
		due := n.engine.Due(o)
		n.mu.Unlock()
		if due {
			n.send(o.Dir, p)
		}
	})
}

func (n *NAT) send(to nat.Dir, p *packet) {
	if to == nat.Outside {
		n.lab.trace.record(n.name, "out", p.b)
		n.wire.up.send(p)
		return
	}
	n.lab.trace.record(n.name, "in", p.b)
	n.inside.fromGateway(p)
}
