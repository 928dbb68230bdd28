package nat

import (
	"net/netip"
	"time"
)

// Which public endpoint a new mapping gets.

// maxBusy bounds Config.Busy: a carrier's NAT with the whole port range per
// address sees less.
const maxBusy = 10_000

// assign chooses a free public endpoint for a flow from the inside. It reports
// false when there is none.
func (n *NAT) assign(proto uint8, inside, remote netip.AddrPort, now time.Time) (netip.AddrPort, bool) {
	if len(n.public) == 0 {
		return netip.AddrPort{}, false
	}
	addr := n.address(inside.Addr())
	free := func(port uint16) bool {
		if n.c.Parity && (port^inside.Port())&1 != 0 {
			return false
		}
		at := n.place(proto, netip.AddrPortFrom(addr, port), remote)
		return n.liveMapping(n.taken[at], now) == nil
	}
	var port uint16
	var ok bool
	switch n.c.Assignment {
	case Preserving:
		port = inside.Port()
		if ok = port >= n.ports.Lo && port <= n.ports.Hi && free(port); !ok {
			port, ok = n.random(free)
		}
	case Sequential:
		port, ok = n.sequential(free, now)
	case Random:
		port, ok = n.random(free)
	}
	if ok {
		n.owner[addr] = inside.Addr()
	}
	return netip.AddrPortFrom(addr, port), ok
}

// address chooses the public address for an inside host.
func (n *NAT) address(host netip.Addr) netip.Addr {
	if n.c.Pooling == Arbitrary {
		return n.public[n.rng.IntN(len(n.public))]
	}
	a, ok := n.pairs[host]
	if !ok {
		a = n.public[len(n.pairs)%len(n.public)]
		n.pairs[host] = a
	}
	return a
}

func (n *NAT) random(free func(uint16) bool) (uint16, bool) {
	span := n.span()
	for range 64 {
		if port := n.portAt(n.rng.IntN(span)); free(port) {
			return port, true
		}
	}
	// Nearly full: look at every one.
	start := n.rng.IntN(span)
	for i := range span {
		if port := n.portAt((start + i) % span); free(port) {
			return port, true
		}
	}
	return 0, false
}

func (n *NAT) sequential(free func(uint16) bool, now time.Time) (uint16, bool) {
	n.others(now)
	// By the delta first; if what it reaches is all taken, by one.
	for _, delta := range []int{n.c.delta(), 1} {
		for range n.span() {
			port := n.portAt(n.cursor)
			n.step(delta)
			if free(port) {
				return port, true
			}
		}
	}
	return 0, false
}

// others lets the other hosts behind the NAT make the mappings that they made
// since the last call. Their times depend on the seed only, not on when they
// are asked for.
func (n *NAT) others(now time.Time) {
	if n.c.Busy == 0 {
		return
	}
	if n.nextBusy.IsZero() {
		n.nextBusy = now.Add(n.gap())
	}
	// After a gap in which they went once round the range, where they stand is
	// as good as random, and cheaper.
	if now.Sub(n.nextBusy).Seconds()*n.c.Busy > float64(n.span()) {
		n.cursor = n.busy.IntN(n.span())
		n.nextBusy = now.Add(n.gap())
	}
	for !n.nextBusy.After(now) {
		n.step(n.c.delta())
		n.nextBusy = n.nextBusy.Add(n.gap())
	}
}

// gap draws the time until another host's next mapping.
func (n *NAT) gap() time.Duration {
	s := min(n.busy.ExpFloat64()/n.c.Busy, 1e9) // decades: what a Duration holds
	return time.Duration(s * float64(time.Second))
}

// step moves the cursor, round the range.
func (n *NAT) step(delta int) {
	span := n.span()
	n.cursor = ((n.cursor+delta)%span + span) % span
}

func (n *NAT) span() int { return int(n.ports.Hi) - int(n.ports.Lo) + 1 }

func (n *NAT) portAt(offset int) uint16 { return n.ports.Lo + uint16(offset) }
