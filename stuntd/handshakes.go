package stuntd

import (
	"crypto/tls"
	"net/netip"
	"runtime"
	"sync"
	"time"
)

// A TLS handshake is the most work that a stranger can have the server do: a
// signature, a key exchange, and the check of a signature, which is a thousand
// times what a dial takes. So there is a limit to how many one source gets, and
// those of all together leave a part of the machine to everybody else.

// pace lets a source have so many of something per second, and bursts. It keeps
// one time for each source that had some of late, and forgets it when it could have a
// whole burst again.
type pace struct {
	every time.Duration // between two, in the long run
	burst int

	mu  sync.Mutex                 // guards following
	due map[netip.Prefix]time.Time // when a source is back to having had none
	top int                        // of due, at which it is swept
}

// paceSweep is how many sources a pace keeps without looking whether some can be
// forgotten.
const paceSweep = 1024

func newPace(perSecond, burst int) *pace {
	return &pace{every: time.Second / time.Duration(perSecond), burst: burst, due: make(map[netip.Prefix]time.Time), top: paceSweep}
}

// allow counts one more for a source, and reports whether it may have it.
func (p *pace) allow(src netip.Prefix, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	due, known := p.due[src]
	if !known || due.Before(now) {
		due = now
	}
	if due.Sub(now) > time.Duration(p.burst-1)*p.every {
		return false
	}
	if !known && len(p.due) >= p.top {
		for s, t := range p.due {
			if !t.After(now) {
				delete(p.due, s)
			}
		}
		p.top = max(paceSweep, 2*len(p.due)) // so that a sweep is paid for by those who came since the last
	}
	p.due[src] = due.Add(p.every)
	return true
}

// quota is what one source gets of handshakes, and one site.
type quota struct{ source, site *pace }

func newQuota(l Limits) *quota {
	return &quota{newPace(l.HandshakeRate, l.HalfOpenPerSource), newPace(siteHalfOpen*l.HandshakeRate, siteHalfOpen*l.HalfOpenPerSource)}
}

func (q *quota) allow(src netip.Prefix, now time.Time) bool {
	site, ok := siteOf(src)
	return q.source.allow(src, now) && (!ok || q.site.allow(site, now))
}

// turns bounds the handshakes that compute at the same time. Those that wait for
// their client have none.
type turns chan struct{}

// newTurns leaves a core to what the server does besides, where there is more
// than one.
func newTurns() turns { return make(turns, max(runtime.GOMAXPROCS(0)-1, 1)) }

// handshake is tc.Handshake in turn with others'. tc runs over c, whose reads
// give the turn away meanwhile; what a server writes in a handshake fits in any
// socket's buffer.
func (t turns) handshake(tc *tls.Conn, c *conn) error {
	t <- struct{}{} // whoever has one computes: it is free in milliseconds
	c.turns = t
	err := tc.Handshake()
	c.turns = nil
	<-t
	return err
}
