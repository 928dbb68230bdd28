package stuntd

import (
	"crypto/tls"
	"net/netip"
	"runtime"
	"time"

	"golang.org/x/time/rate"

	"github.com/gostunt/stunt/internal/keyrate"
)

// A TLS handshake is the most work that a stranger can have the server do: a
// signature, a key exchange, and the check of a signature, which is a thousand
// times what a dial takes. So there is a limit to how many one source gets, and
// those of all together leave a part of the machine to everybody else.

// quota is what one source gets of handshakes, and one site.
type quota struct{ source, site keyrate.Limiter[netip.Prefix] }

func newQuota(l Limits) *quota {
	q := &quota{}
	q.source.Rate, q.source.Burst = rate.Limit(l.HandshakeRate), 2*l.HandshakeRate
	q.site.Rate, q.site.Burst = siteHalfOpen*q.source.Rate, siteHalfOpen*q.source.Burst
	return q
}

// allow counts one more for a source, and reports whether it may have it.
func (q *quota) allow(src netip.Prefix, now time.Time) bool {
	site, ok := siteOf(src)
	return q.source.Allow(src, now) && (!ok || q.site.Allow(site, now))
}

// turns bounds the handshakes that compute at the same time. Those that wait for
// their client have none.
type turns chan struct{}

// DefaultReturnRate is how many nodes a second a core can take in, and be free for a
// quarter of the time: a registration takes 0.45 ms of one (docs/scale.md).
const DefaultReturnRate = 1600

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
