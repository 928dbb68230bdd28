package rendezvous

import (
	"errors"
	"maps"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// errDoor is returned for connections that are closed unheard: telling each
// why would cost more than they are owed.
var errDoor = errors.New("too many connections")

// A door counts who is inside, from the accepted connection to its end, and
// looks after those that are silent.
type door struct {
	handshakes int           // at most so many have not said Hello
	perSource  int           // at most so many of one source
	silence    time.Duration // a session not heard for so long is cut

	beat atomic.Uint32 // counts the parts of silence that have gone by

	mu       sync.Mutex  // guards following
	watch    *time.Timer // the next beat; nil: nobody is inside
	sources  map[netip.Prefix]int
	conns    map[*link]*session // nil until greeted
	greeting int
	draining bool
	closed   bool
	empty    chan struct{} // closed when draining and no connection is left
}

// enter counts a connection in. The error is errDoor if it is to be closed
// unheard. A source has twice its share of connections, but the second half
// only to be told, by full, that it is too much.
func (d *door) enter(source netip.Prefix, l *link) (full bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.sources[source]
	if d.greeting >= d.handshakes || n/2 >= d.perSource || d.closed {
		return false, errDoor
	}
	if d.sources == nil {
		d.sources, d.conns = make(map[netip.Prefix]int), make(map[*link]*session)
	}
	if d.watch == nil {
		d.watch = time.AfterFunc(d.interval(), d.tick)
	}
	d.sources[source]++
	d.greeting++
	d.conns[l] = nil
	return n >= d.perSource, nil
}

// greeted ends the handshake of a connection; s is nil if it came to nothing.
// It reports whether s is let in, which it is not when the server drains.
func (d *door) greeted(l *link, s *session) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.greeting--
	if s == nil || d.draining {
		return false
	}
	d.conns[l] = s
	return true
}

// leave counts a connection out.
func (d *door) leave(source netip.Prefix, l *link) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.sources[source]--; d.sources[source] == 0 {
		delete(d.sources, source)
	}
	delete(d.conns, l)
	if len(d.conns) == 0 {
		d.watch.Stop()
		d.watch = nil
	}
	if d.draining && len(d.conns) == 0 {
		d.closed = true
		close(d.empty)
	}
}

// drain lets nobody in any more but to be told so. It returns who is there, and
// a channel that is closed when the last connection is gone, from when on nobody
// is let in at all.
func (d *door) drain() (there map[*link]*session, empty <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.draining {
		d.draining, d.empty = true, make(chan struct{})
		if len(d.conns) == 0 {
			d.closed = true
			close(d.empty)
		}
	}
	return maps.Clone(d.conns), d.empty
}

// close lets nobody in any more, and returns who is there.
func (d *door) close() map[*link]*session {
	there, _ := d.drain()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	maps.Copy(there, d.conns) // who has come in between
	return there
}

// sourceOf returns what limits count as one source: an IPv6 host has at least
// a /64 to itself.
func sourceOf(ip netip.Addr) netip.Prefix {
	bits := 64
	if ip.Is4() {
		bits = 32
	}
	p, err := ip.WithZone("").Prefix(bits)
	if err != nil {
		return netip.Prefix{} // not an IP connection: all of these are one source
	}
	return p
}
