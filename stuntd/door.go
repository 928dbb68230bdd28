package stuntd

import (
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/gostunt/stunt/internal/keyrate"
)

// Why a connection is refused. They reach nobody but the log: the client sees
// a RST, which costs the server neither a packet more nor a TIME_WAIT.
var (
	errConns          = &overLimit{"connections", "connections in all"}
	errConnsSource    = &overLimit{"connections_per_source", "connections of one source"}
	errConnsSite      = &overLimit{"connections_per_site", "connections of one IPv6 /48"}
	errHalfOpenSite   = &overLimit{"half_open_per_site", "half-open connections of one IPv6 /48"}
	errRateSource     = &overLimit{"connection_rate", "connections per second of one source"}
	errRateSite       = &overLimit{"connection_rate_of_site", "connections per second of one IPv6 /48"}
	errHalfOpen       = &overLimit{"half_open", "half-open connections in all"}
	errHalfOpenSource = &overLimit{"half_open_per_source", "half-open connections of one source"}
	errHandshakes     = &overLimit{"handshakes_per_source", "handshakes of one source per second"}
)

// overLimit is why a connection is refused: a limit, as it is counted and in
// words.
type overLimit struct{ name, text string }

func (o *overLimit) Error() string { return o.text }

// A door counts the connections inside and lets in those that are within the
// limits. Its memory is bounded by them too: a source is forgotten when its
// last connection leaves.
//
// A source is an IPv4 address or an IPv6 /64, which is what one subscriber
// gets; a single IPv6 host could otherwise be 2^64 sources. Of these in turn
// anybody may have 65,536: a /48 is what a site is given (RFC 6177), by a tunnel
// broker for instance to whoever asks. So a site has limits of its own.
type door struct {
	limits Limits
	memory *memory // nil: there is always enough

	mu      sync.Mutex // guards following
	all     tally
	sources map[netip.Prefix]tally // and, by their own prefixes, sites

	// A handshake costs us more than the client, and one that is soon over takes
	// no place for long: so how fast they come is limited, too. A source may begin
	// as many a second as it may have, in bursts of twice that; a site what
	// siteHalfOpen sources may.
	rate, siteRate keyrate.Limiter[netip.Prefix]
}

// A site gets the connections of so many sources, and the half-open ones of so
// many: of the first an eighth of all by default, because the /64s of a mobile
// network's customers are next to each other; of the second a quarter of all.
const (
	siteConns    = 16
	siteHalfOpen = 4
)

// siteOf returns the site that a source is in. There is none around an IPv4
// address, which costs something.
func siteOf(src netip.Prefix) (netip.Prefix, bool) {
	if !src.Addr().Is6() {
		return netip.Prefix{}, false
	}
	p, err := src.Addr().Prefix(48)
	return p, err == nil
}

// tally counts connections; halfOpen are those of conns whose client has not
// yet shown what it wants.
type tally struct{ conns, halfOpen int }

func (t tally) plus(conns, halfOpen int) tally {
	return tally{t.conns + conns, t.halfOpen + halfOpen}
}

// minRate is the least that a source may begin in a second: a node that comes
// begins with a dozen.
const minRate = 32

func newDoor(l Limits, m *memory) *door {
	d := &door{limits: l, memory: m, sources: make(map[netip.Prefix]tally)}
	perSecond := max(l.ConnsPerSource, minRate)
	d.rate.Rate, d.rate.Burst = rate.Limit(perSecond), 2*perSecond
	d.siteRate.Rate, d.siteRate.Burst = siteHalfOpen*d.rate.Rate, siteHalfOpen*d.rate.Burst
	return d
}

// admit lets nc in, half-open, or says which limit it is over; it then still
// belongs to the caller.
func (d *door) admit(nc net.Conn) (*conn, error) {
	c := &conn{Conn: nc, door: d, source: source(nc.RemoteAddr()), halfOpen: true}
	halfOpen := d.limits.HalfOpen
	switch strain := d.memory.strain(); {
	case strain >= nothing:
		return nil, errMemory
	case strain >= fewHandshakes:
		halfOpen /= fewer
	}
	now := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	of := d.sources[c.source]
	var around tally
	site, inSite := siteOf(c.source)
	if inSite {
		around = d.sources[site]
	}
	// The source's own limits come first: who is over them should not be
	// told, by the log, that the server is full.
	switch {
	case of.conns >= d.limits.ConnsPerSource:
		return nil, errConnsSource
	case of.halfOpen >= d.limits.HalfOpenPerSource:
		return nil, errHalfOpenSource
	case around.conns >= siteConns*d.limits.ConnsPerSource:
		return nil, errConnsSite
	case around.halfOpen >= siteHalfOpen*d.limits.HalfOpenPerSource:
		return nil, errHalfOpenSite
	case d.all.conns >= d.limits.Conns:
		return nil, errConns
	case d.all.halfOpen >= d.limits.HalfOpen:
		return nil, errHalfOpen
	case d.all.halfOpen >= halfOpen:
		return nil, errMemory
	case !d.rate.Allow(c.source, now): // last, as it counts
		return nil, errRateSource
	case inSite && !d.siteRate.Allow(site, now):
		return nil, errRateSite
	}
	d.count(c.source, 1, 1)
	return c, nil
}

// count changes the tallies; d.mu is held.
func (d *door) count(src netip.Prefix, conns, halfOpen int) {
	d.all = d.all.plus(conns, halfOpen)
	d.countOf(src, conns, halfOpen)
	if site, ok := siteOf(src); ok {
		d.countOf(site, conns, halfOpen)
	}
}

func (d *door) countOf(p netip.Prefix, conns, halfOpen int) {
	of := d.sources[p].plus(conns, halfOpen)
	if of == (tally{}) {
		delete(d.sources, p)
		return
	}
	d.sources[p] = of
}

// inside returns how many connections are inside.
func (d *door) inside() tally {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.all
}

// A conn is a connection that a door let in. Closing it gives its place back.
// Like every protocol on this port it has one reader at a time.
type conn struct {
	net.Conn
	door   *door
	source netip.Prefix

	// Owned by the reader: the byte that told the protocols apart, until it
	// is read again.
	first   byte
	unread  bool
	records *records // what TLS reads through while it shakes hands; nil: nothing is between
	turns   turns    // has one, which a read gives away while it waits; nil: none

	halfOpen, gone bool // guarded by door.mu
}

// peek waits for the first byte, which the next Read returns again.
func (c *conn) peek() (byte, error) {
	var b [1]byte
	if _, err := c.Conn.Read(b[:]); err != nil {
		return 0, err
	}
	c.first, c.unread = b[0], true
	return c.first, nil
}

// NetConn returns the connection underneath, from whose socket the STUN server
// reads the SYN that it began with.
func (c *conn) NetConn() net.Conn { return c.Conn }

// Read reads what the client sent, the first byte included.
func (c *conn) Read(b []byte) (int, error) {
	if c.unread && len(b) > 0 {
		b[0], c.unread = c.first, false
		return 1, nil // more may not have come yet: do not wait for it
	}
	for c.records != nil && len(b) > 0 {
		if n := c.records.next(b); n > 0 {
			return n, nil
		}
		if c.turns == nil && c.records.empty() {
			c.records.release()
			c.records = nil
			break
		}
		if err := c.records.fill(c.receive); err != nil {
			return 0, err
		}
	}
	return c.receive(b)
}

// wholeRecords has Read hand on whole TLS records until the handshake is over.
func (c *conn) wholeRecords() {
	c.records, c.unread = newRecords(c.first), false
}

// receive reads from the network.
func (c *conn) receive(b []byte) (int, error) {
	if c.turns != nil {
		<-c.turns
		defer func() { c.turns <- struct{}{} }()
	}
	return c.Conn.Read(b)
}

// settle ends the half-open state: the client has shown what it wants.
func (c *conn) settle() {
	c.door.mu.Lock()
	defer c.door.mu.Unlock()
	if c.halfOpen {
		c.halfOpen = false
		c.door.count(c.source, 0, -1)
	}
}

// Close closes the connection and gives its place to another. Only the first
// call does something.
func (c *conn) Close() error {
	c.settle()
	c.door.mu.Lock()
	gone := c.gone
	if !gone {
		c.gone = true
		c.door.count(c.source, -1, 0)
	}
	c.door.mu.Unlock()
	if gone {
		return net.ErrClosed
	}
	return c.Conn.Close()
}

// source returns whom the limits per source count a as: an IPv4 address or an
// IPv6 /64. Addresses of other kinds are one source together.
func source(a net.Addr) netip.Prefix {
	ta, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	ip := ta.AddrPort().Addr().Unmap()
	bits := 64
	if ip.Is4() {
		bits = 32
	}
	p, _ := ip.Prefix(bits) // fails only for an invalid address, which is the zero Prefix
	return p
}
