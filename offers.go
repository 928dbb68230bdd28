package stunt

import (
	"net/netip"
	"sync"
)

const (
	// maxOffers bounds the dials that a node answers at once; the server has a
	// bound of its own, this one holds against the server.
	maxOffers = 256
	// offersShare is what one source gets of these when half are taken: what is left
	// is for others than those who took it. A dial that finds no path has a place for
	// as long as the window is open, so one stranger could have them all.
	offersShare = maxOffers / 8
)

// offers are the dials that a node is answering. The zero value is ready for use.
type offers struct {
	mu  sync.Mutex // guards following
	all int
	of  map[netip.Prefix]int // by where the server sees the caller; all whom it does not show are one
}

// enter takes a place for a caller, and reports whether there was one.
func (o *offers) enter(from netip.Addr) bool {
	src := sourceOf(from)
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.all >= maxOffers || o.all >= maxOffers/2 && o.of[src] >= offersShare {
		return false
	}
	if o.of == nil {
		o.of = make(map[netip.Prefix]int)
	}
	o.all++
	o.of[src]++
	return true
}

// leave gives the place back.
func (o *offers) leave(from netip.Addr) {
	src := sourceOf(from)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.all--
	if o.of[src]--; o.of[src] == 0 {
		delete(o.of, src)
	}
}

// sourceOf is whom a limit counts an address as: an IPv4 address or an IPv6 /64.
func sourceOf(ip netip.Addr) netip.Prefix {
	bits := 64
	if ip.Is4() {
		bits = 32
	}
	p, _ := ip.Prefix(bits) // fails only for an invalid address, which is the zero Prefix
	return p
}
