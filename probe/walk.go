package probe

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/gostunt/stunt/internal/sock"
)

const (
	// NATs are near the hosts that they serve.
	maxWalk = 8

	// Routers answer a packet whose TTL is used up at once or not at all.
	walkTimeout = 300 * time.Millisecond
)

// hop is what a SYN with a certain TTL met.
type hop struct {
	ttl     int
	from    netip.Addr    // the router that said so; invalid where the system does not tell
	expired bool          // the TTL did not last, somebody said so
	after   time.Duration // from the SYN
	arrived bool          // at the server
}

// count notes how many routers are on the way, by what is left of our TTL at
// the server.
func (p *prober) count(s *stream) {
	if n := s.hops(); n > 0 {
		p.note(func(f *facts) { f.hops = n })
	}
}

// hops is how many routers our SYN has passed; 0 if its server has not said.
func (s *stream) hops() int {
	if s.syn.TTL == 0 {
		return 0
	}
	return max(fullTTL-int(s.syn.TTL), 0)
}

// ttls returns those that are worth a test: low ones, and the last that dies.
func (p *prober) ttls() []int {
	last := p.known().hops
	var all []int
	for ttl := 1; ttl <= maxWalk && (last == 0 || ttl <= last); ttl++ {
		all = append(all, ttl)
	}
	if last > maxWalk {
		all = append(all, last)
	}
	return all
}

// walkPath sends the server a SYN for each TTL, all at once, as traceroute
// does, and notes what they met; only the first call does. There is no need
// where everybody is let in anyway.
func (p *prober) walkPath(ctx context.Context) {
	p.once.Do(func() {
		defer close(p.walked)
		f := p.known()
		if f.knocks.open() {
			return
		}
		p.walk(ctx, p.server, p.ttls(), func(f *facts) *[]hop { return &f.walk })
		p.note(func(f *facts) {
			if i := slices.IndexFunc(f.walk, func(h hop) bool { return h.arrived }); i > 0 && f.hops == 0 {
				f.hops = f.walk[i].ttl - 1 // the first that arrives needs one for the last router
			}
		})
	})
}

// walkElsewhere does so to where holes are for, if the way there is another one,
// with their TTLs.
func (p *prober) walkElsewhere(ctx context.Context) {
	f := p.known()
	if f.holeAddr && f.far.hops > 0 && f.far.hops != f.hops {
		to := netip.AddrPortFrom(p.other.Addr(), p.server.Port())
		p.walk(ctx, to, holeTTLs(f.far.hops), func(f *facts) *[]hop { return &f.far.walk })
	}
}

// walk sends a SYN for each TTL, and notes what they met in keep, by TTL in the end.
func (p *prober) walk(ctx context.Context, to netip.AddrPort, ttls []int, keep func(f *facts) *[]hop) {
	f := p.known()
	rtt := f.rtt
	if to != p.server {
		rtt = f.far.rtt
	}
	ctx, cancel := context.WithTimeout(ctx, max(walkTimeout, 2*rtt))
	defer cancel()
	var wg sync.WaitGroup
	for _, ttl := range ttls {
		wg.Go(func() {
			h := p.step(ctx, to, ttl)
			p.note(func(f *facts) { *keep(f) = append(*keep(f), h) })
		})
	}
	wg.Wait()
	p.note(func(f *facts) {
		slices.SortFunc(*keep(f), func(a, b hop) int { return a.ttl - b.ttl })
	})
}

func (p *prober) step(ctx context.Context, to netip.AddrPort, ttl int) hop {
	h := hop{ttl: ttl}
	start := time.Now()
	pending, err := p.net.Begin(netip.AddrPortFrom(p.from, 0), to, sock.Opening{TTL: ttl, Explains: true})
	if err != nil {
		return h
	}
	conn, err := pending.Wait(ctx)
	h.after = time.Since(start)
	if err == nil {
		sock.Abort(conn)
		h.arrived = true
		return h
	}
	var icmp *sock.ICMPError
	if errors.As(err, &icmp) {
		h.from, h.expired = icmp.From.Unmap(), icmp.TimeExceeded()
	} else {
		h.expired = sock.Classify(err) == sock.Unreachable
	}
	p.log.Debug("walk", "phase", "path", "ttl", ttl, "remote", h.from, "err", err)
	return h
}

// nats is how many NATs there are at least before and at the last one. One
// that is not the first router has, in all but company networks, a home
// router's NAT before it; more show by the kinds of private networks between.
func nats(lastNAT int, local netip.Addr, walk []hop) (n int, sure bool) {
	if lastNAT < 2 {
		return 1, lastNAT == 1
	}
	realms := []int{realm(local)}
	for _, h := range walk {
		if r := realm(h.from); h.ttl <= lastNAT && r != 0 && !slices.Contains(realms, r) {
			realms = append(realms, r)
		}
	}
	return max(2, len(realms)), len(realms) >= lastNAT
}

var shared = netip.MustParsePrefix("100.64.0.0/10") // carriers' inner networks, RFC 6598

// realm numbers the kinds of private networks; 0 is none of them.
func realm(a netip.Addr) int {
	switch {
	case !a.IsValid() || !a.Is4():
		return 0
	case shared.Contains(a):
		return 100
	case a.IsPrivate():
		return int(a.As4()[0]) // 10, 172 or 192
	}
	return 0
}
