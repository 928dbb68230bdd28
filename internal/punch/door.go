package punch

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/gostunt/stunt/internal/secure"
	"github.com/gostunt/stunt/internal/sock"
)

// What strangers may take of a node while it waits to hear whether a
// connection belongs to a dial.
const (
	maxUnheard          = 64 // connections of which nothing is known yet
	maxUnheardPerSource = 16 // of these, from one IPv4 address or IPv6 /64: a NAT full of honest peers
	// hearTimeout covers the peer's wait for our Answer through the server: a
	// dialer's connection may stand long before the dialer can prove itself.
	hearTimeout = 5 * time.Second
)

// A Door hears every connection that arrives on a node's ports and passes it
// to the race of the dial that its first bytes name. Whoever does not open
// with a live dial id is dropped without an answer.
type Door struct {
	mu      sync.Mutex // guards following
	closed  bool
	races   map[[16]byte]*Race
	unheard map[*net.TCPConn]netip.Addr
	sources map[netip.Addr]int
	visits  [maxVisits]Token // what the last strangers began with
	visit   int              // the oldest of these
	wg      sync.WaitGroup   // the hearing goroutines
}

// Token is what a server that was asked to try a port begins its connection
// with.
type Token [8]byte

// maxVisits is how many strangers are remembered: whoever asks whether one was
// here does so a round trip later.
const maxVisits = 64

// Saw reports whether one of the last strangers began with the token. A zero
// token is nobody's.
func (d *Door) Saw(t Token) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return t != Token{} && slices.Contains(d.visits[:], t)
}

// Knock takes a connection that was just accepted. It does not block.
func (d *Door) Knock(c *net.TCPConn) {
	src := source(sock.AddrPort(c.RemoteAddr()).Addr())
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed || len(d.unheard) >= maxUnheard || d.sources[src] >= maxUnheardPerSource {
		sock.Abort(c)
		return
	}
	if d.unheard == nil {
		d.unheard = make(map[*net.TCPConn]netip.Addr)
		d.sources = make(map[netip.Addr]int)
	}
	d.unheard[c] = src
	d.sources[src]++
	d.wg.Go(func() { d.hear(c) })
}

// hear ends when the header is read, its deadline passes or the door closes.
// What follows belongs to the race.
func (d *Door) hear(c *net.TCPConn) {
	c.SetReadDeadline(time.Now().Add(hearTimeout))
	var first bytes.Buffer
	h, err := secure.ReadHeader(io.TeeReader(c, &first))
	var t Token
	if n := copy(t[:], first.Bytes()); errors.Is(err, secure.ErrNotPreface) {
		io.ReadFull(c, t[n:]) // what does not come is no token
	}

	d.mu.Lock()
	if err != nil {
		d.visits[d.visit] = t
		d.visit = (d.visit + 1) % maxVisits
	}
	src := d.unheard[c]
	delete(d.unheard, c)
	if d.sources[src]--; d.sources[src] == 0 {
		delete(d.sources, src)
	}
	r := d.races[h.DialID]
	d.mu.Unlock()

	if err != nil || r == nil || !r.arrived(c, h) {
		sock.Abort(c)
	}
}

// add makes r known to arriving connections; false if the door is closed.
func (d *Door) add(r *Race) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return false
	}
	if d.races == nil {
		d.races = make(map[[16]byte]*Race)
	}
	if d.races[r.cfg.ID] != nil {
		return false // a replayed Offer: the first one stands
	}
	d.races[r.cfg.ID] = r
	return true
}

func (d *Door) remove(r *Race) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.races[r.cfg.ID] == r {
		delete(d.races, r.cfg.ID)
	}
}

// Close ends every race, drops every stranger, and waits for both.
func (d *Door) Close() {
	d.mu.Lock()
	d.closed = true
	for c := range d.unheard {
		sock.Abort(c)
	}
	races := make([]*Race, 0, len(d.races))
	for _, r := range d.races {
		races = append(races, r)
	}
	d.mu.Unlock()
	for _, r := range races {
		r.Stop()
		<-r.Done()
	}
	d.wg.Wait()
}

// source is what a limit counts by: an IPv4 address or an IPv6 /64.
func source(ip netip.Addr) netip.Addr {
	if ip.Is6() {
		p, _ := ip.Prefix(64)
		return p.Addr()
	}
	return ip
}
