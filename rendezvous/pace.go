package rendezvous

import (
	"math"
	"net/netip"
	"runtime"
	"time"

	"golang.org/x/time/rate"

	"github.com/gostunt/stunt/internal/keyrate"
)

// A pace is how fast anybody may do something, whatever sessions it has for it.
type pace struct {
	dials, lookups keyrate.Limiter[string] // of a key, by its fingerprint
	// Messages of a source, and of a site. A session has a limit of its own, but
	// sessions, and keys for them, are to be had by the hundred.
	source, site keyrate.Limiter[netip.Prefix]
}

// siteSources is how many sources' messages those of one IPv6 /48 have together,
// as anybody gets 65,536 of these.
const siteSources = 4

// costOfDial is for how many messages a dial counts: two are made of it, and those
// who answer it and say what became of it do so for nothing. It would be their share
// of messages that a flood of dials takes otherwise.
const costOfDial = 4

func (p *pace) setUp(l Limits) {
	allow(&p.dials, l.dialRate(), 4)
	allow(&p.lookups, l.dialRate(), 4)
	messages := l.messagesPerSource()
	allow(&p.source, messages, 1)
	if messages != math.MaxInt {
		messages *= siteSources
	}
	allow(&p.site, messages, 1)
}

// allow sets a limit, in bursts of so many seconds' worth.
func allow[K comparable](l *keyrate.Limiter[K], perSecond, burst int) {
	l.Rate = rate.Inf
	if perSecond != math.MaxInt {
		l.Rate, l.Burst = rate.Limit(perSecond), burst*perSecond
	}
}

// reserve counts messages of an address, and returns for how long nothing more is
// to be read of whoever sent them. Those of one source wait for each other in
// turn: each session for one message.
func (p *pace) reserve(from netip.Addr, n int, now time.Time) time.Duration {
	wait := p.source.Reserve(sourceOf(from), n, now)
	if site, ok := siteOf(from); ok {
		wait = max(wait, p.site.Reserve(site, n, now))
	}
	return wait
}

// siteOf returns the IPv6 /48 that an address is in; there is nothing like it
// around an IPv4 address, which costs something.
func siteOf(ip netip.Addr) (netip.Prefix, bool) {
	if !ip.Is6() {
		return netip.Prefix{}, false
	}
	p, err := ip.WithZone("").Prefix(48)
	return p, err == nil
}

// cost is for how many messages one counts: what has the server say something to
// others for several.
func (s *session) cost(m message) int {
	switch m.(type) {
	case *DialRequest:
		return costOfDial
	case *register, *deregister:
		if s.server.cluster != nil {
			return costOfName
		}
	}
	return 1
}

// rest counts a message that was served, and returns for how long no more are to
// be read. Not reading is the answer to a flood: it fills the sender's buffers.
func (s *session) rest(m message) time.Duration {
	if s.owed {
		s.owed = false
		return 0
	}
	now, n := time.Now(), s.cost(m)
	own := s.messages.ReserveN(now, min(n, s.messages.Burst())).DelayFrom(now)
	shared := s.server.pace.reserve(s.observed.Addr(), n, now)
	switch {
	case shared > own:
		s.server.seeLimit(limitSourceRate)
	case own > 0:
		s.server.seeLimit(limitMessageRate)
	default:
		runtime.Gosched() // who says much at once has taken one turn
	}
	return max(own, shared)
}
