package natlab

import (
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// maxQueued bounds the bytes on their way in one direction of a link: what a
// window of 16 MiB fills. More is dropped, as a router with a full queue does.
const maxQueued = 16 << 20

// wire is a link in its place: the upper end is a network, the lower end a
// host or the outside of a NAT.
type wire struct {
	up, down *pipe
	hops     []hop // all that it ever had, guarded by Lab.mu
}

// hop is a router on a link.
type hop struct{ v4, v6 netip.Addr }

// pipe is one direction of a wire.
type pipe struct {
	lab  *Lab
	name string
	far  func(*packet) // takes what arrives
	near func(*packet) // takes what the routers on the link answer to the sender

	link   atomic.Pointer[Link]
	hops   atomic.Pointer[[]hop] // in the order in which a packet meets them; one more than none
	queued atomic.Int64          // bytes on their way

	mu   sync.Mutex    // guards following
	rand *rand.Rand    // loss and jitter
	last time.Duration // the latest arrival so far
}

// newWire joins lower, which takes what comes down, with upper, which takes
// what goes up.
func (l *Lab) newWire(name string, link Link, lower, upper func(*packet)) *wire {
	w := &wire{
		up:   &pipe{lab: l, name: name + " up", far: upper, near: lower},
		down: &pipe{lab: l, name: name + " down", far: lower, near: upper},
	}
	for _, p := range []*pipe{w.up, w.down} {
		p.rand = newRand(l.config.Seed, p.name)
	}
	w.set(l, link)
	return w
}

// set changes the link; what is on its way arrives as it was going to.
func (w *wire) set(l *Lab, link Link) {
	link.Hops = max(link.Hops, 0)
	hops := l.hops(w, max(link.Hops, 1))
	reversed := make([]hop, len(hops))
	for i, h := range hops {
		reversed[len(hops)-1-i] = h
	}
	for _, d := range []struct {
		p    *pipe
		hops []hop
	}{{w.up, hops}, {w.down, reversed}} {
		d.p.hops.Store(&d.hops)
		d.p.link.Store(&link)
	}
}

func (w *wire) link() Link { return *w.up.link.Load() }

// send puts a packet on the link.
func (p *pipe) send(pk *packet) {
	link, hops := p.link.Load(), *p.hops.Load()
	switch {
	case link.Down:
		p.drop(pk, "drop: link down")
	case link.NoIPv6 && is6(pk.b):
		p.drop(pk, "drop: no IPv6")
	case len(pk.b) > link.mtu():
		p.tooBig(pk, link, hops)
	case ttl(pk.b) <= link.Hops:
		p.expire(pk, link, hops)
	default:
		if link.Hops > 0 {
			lowerTTL(pk.b, link.Hops)
		}
		p.carry(pk, link)
	}
}

// carry takes the packet to the far end, if it is not lost.
func (p *pipe) carry(pk *packet, link *Link) {
	if link.Delay <= 0 && link.Jitter <= 0 && link.Loss <= 0 && p.queued.Load() == 0 {
		p.far(pk) // a cable: on the goroutine that brought it
		return
	}
	size := int64(len(pk.b))
	if p.queued.Add(size) > maxQueued {
		p.queued.Add(-size)
		p.drop(pk, "drop: queue full")
		return
	}
	at, lost := p.schedule(link)
	if lost {
		p.queued.Add(-size)
		p.drop(pk, "drop: lost")
		return
	}
	p.lab.clock.at(at, pk, p.arrive)
}

// schedule draws when the next packet arrives, or that it is lost.
func (p *pipe) schedule(link *Link) (at time.Duration, lost bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if link.Loss > 0 && p.rand.Float64() < link.Loss {
		return 0, true
	}
	at = p.lab.clock.now() + link.Delay
	if link.Jitter > 0 {
		at += time.Duration(p.rand.Int64N(int64(link.Jitter)))
	}
	if !link.Reorder {
		at = max(at, p.last)
	}
	p.last = max(at, p.last)
	return at, false
}

func (p *pipe) arrive(pk *packet) {
	p.queued.Add(-int64(len(pk.b)))
	p.far(pk)
}

// expire ends a packet whose TTL does not last: the hop that finds it used up
// answers the sender.
func (p *pipe) expire(pk *packet, link *Link, hops []hop) {
	n := max(ttl(pk.b), 1) // the hop that ends it, counted from 1
	if n > 1 {
		lowerTTL(pk.b, n-1)
	}
	p.answer(timeExceeded, pk, hops[n-1], link.Delay*time.Duration(2*n)/time.Duration(link.Hops+1), 0)
	p.drop(pk, "drop: TTL")
}

// tooBig ends a packet that does not fit: the first router on the link
// answers, or where there is none an unseen one before it.
func (p *pipe) tooBig(pk *packet, link *Link, hops []hop) {
	if dontFragment(pk.b) {
		p.answer(packetTooBig, pk, hops[0], 0, uint32(link.mtu()))
	}
	p.drop(pk, "drop: larger than MTU")
}

// answer sends the near end an ICMP error from a hop.
func (p *pipe) answer(kind icmpKind, pk *packet, from hop, after time.Duration, value uint32) {
	addr := from.v4
	if is6(pk.b) {
		addr = from.v6
	}
	icmp := icmpError(kind, addr, pk.b, value)
	if icmp == nil {
		return
	}
	if after <= 0 {
		p.near(icmp)
		return
	}
	p.lab.clock.at(p.lab.clock.now()+after, icmp, p.near)
}

func (p *pipe) drop(pk *packet, why string) {
	p.lab.trace.record(p.name, why, pk.b)
	pk.free()
}
