package probe

import (
	"context"
	"slices"
	"sync"
	"time"
)

// hole is a test of a half-open mapping: we send a SYN that nobody accepts, and
// the server connects from exactly where that went.
type hole struct {
	ttl    int   // of our SYN, which dies on the way; 0: it reaches a closed port
	early  bool  // the server's SYN came before the answer to ours
	answer Reply // what ours got: the RST, the ICMP error, or nothing
	knock  knock // how the server's fared
}

// probeHoles does the tests that say whether a SYN is let in where one went
// out, which TTL that one needs, and what an error does to the hole. There is
// nothing to find where everybody is let in anyway.
func (p *prober) probeHoles(ctx context.Context) {
	f := p.known()
	if f.knocks.open() {
		return
	}
	if f.hops == 0 || p.counts() { // where it counts, one thing after the other
		select {
		case <-p.walked:
		case <-ctx.Done():
			return
		}
	}
	elsewhere := p.elsewhere()
	p.note(func(f *facts) { f.holeAddr = elsewhere })
	p.walkElsewhere(ctx)
	f = p.known()
	hops := f.holeHops()
	p.dig(ctx, 0, append(holeTTLs(hops), 0, 0)) // a lost packet must not pass for a hole that was closed
	f = p.known()
	switch {
	case len(f.holes) == 0:
	case f.opens():
		p.dig(ctx, 0, f.gap())
	case hops > 1:
		// Either nothing comes in, or every error closes the hole: then a SYN
		// that comes before the error does.
		for range 2 { // a busy machine misses the moment
			p.dig(ctx, f.lead(), []int{hops, hops, hops})
			if f = p.known(); f.opens() || f.refuses() {
				return
			}
		}
	}
}

// detoured notes how long the question for a dial back and the answer were under
// way: to the server and, if its other address is another server's, from there
// to that one. A busy machine makes it longer.
func (p *prober) detoured(took time.Duration) {
	p.note(func(f *facts) {
		if d := max(took-f.rtt, 1); f.far.detour == 0 || d < f.far.detour {
			f.far.detour = d
		}
	})
}

// lead is how long before our SYN the server is asked, so that its own comes to
// the NAT when ours has passed there, and half of the time is over until the error
// for that comes back.
func (f *facts) lead() time.Duration {
	if !f.holeAddr {
		return f.rtt / 2
	}
	far, back := f.far.rtt, f.rtt // the error comes from as far as the server at least
	if far == 0 {
		far = f.rtt
	}
	if f.far.hops > 0 {
		back = far // from next to where the SYN goes
	}
	return (f.rtt + max(f.far.detour-2*grace, 0) + far - back) / 2
}

// elsewhere reports whether holes are for the server's other address, where the
// mapping is the same for all, and the server can connect from there. While that
// is not known, it can.
func (p *prober) elsewhere() bool {
	k := p.known().knocks.addr
	return p.keeps() && p.mapping != ADM && p.otherAddress(p.other) && (k.tried() || k == knock{})
}

// holeHops is how many routers are on the way to where holes are for; 0 unknown.
func (f *facts) holeHops() int {
	if f.holeAddr && f.far.hops > 0 {
		return f.far.hops
	}
	return f.hops
}

// holeTTLs are the TTLs to begin with: what leaves a home, what leaves most
// carriers, and the last that does not arrive.
func holeTTLs(hops int) []int {
	ttls := []int{2, 3, 4, 6, hops}
	ttls = slices.DeleteFunc(ttls, func(t int) bool { return t < 2 || hops > 0 && t > hops })
	slices.Sort(ttls)
	return slices.Compact(ttls)
}

// gap returns the TTLs between the largest that did not leave our NATs and the
// least that did.
func (f *facts) gap() (ttls []int) {
	least := f.leastTTL()
	for ttl := least - 1; ttl > 1 && !slices.ContainsFunc(f.holes, func(h hole) bool { return h.ttl == ttl }); ttl-- {
		ttls = append(ttls, ttl)
	}
	return ttls
}

// dig tests a hole for each TTL, side by side, with the server asked by lead
// before our SYN leaves. 0 is after it.
func (p *prober) dig(ctx context.Context, lead time.Duration, ttls []int) {
	var wg sync.WaitGroup
	for _, ttl := range ttls {
		wg.Go(func() {
			h, err := p.hole(ctx, ttl, lead)
			if err != nil {
				p.log.Debug("no hole", "phase", "hole", "ttl", ttl, "err", err)
				return
			}
			p.log.Debug("hole", "phase", "hole", "ttl", ttl, "early", h.early, "answer", h.answer.String(),
				"outcome", h.knock.outcome.String(), "arrived", h.knock.arrived)
			p.note(func(f *facts) { f.holes = append(f.holes, h) })
		})
	}
	wg.Wait()
}

func (p *prober) hole(ctx context.Context, ttl int, lead time.Duration) (h hole, err error) {
	h = hole{ttl: ttl, early: lead > 0}
	x, err := p.half(ctx, ttl, lead > 0)
	if err != nil {
		return h, err
	}
	defer x.close()
	if !h.early {
		if h.answer, err = x.answer(ctx); err != nil {
			return h, err
		}
	}
	r, err := x.ask(ctx)
	if err != nil {
		return h, err
	}
	asked := time.Now()
	if h.early {
		if err := x.cross(ctx, lead); err != nil {
			return h, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, holeTimeout+handOver+openTimeout)
	defer cancel()
	a, err := r.receive(ctx)
	if err != nil {
		return h, err
	}
	h.knock = knock{a.dialled.outcome, a.dialled.after, x.d.saw(a.dialled.token)}
	if !h.knock.tried() {
		return h, errUntried
	}
	if h.knock.blocked() && x.query.change != 0 {
		p.detoured(time.Since(asked) - h.knock.after)
	}
	if h.knock.reached() && h.answer == Silence {
		// Of a busy machine the answer may be late. It was there before the
		// server's SYN, or that one would have met our socket.
		if answer, err := x.late(Silence); err == nil {
			h.answer = answer
		}
	}
	if h.knock.blocked() && (h.early || h.answer == Silence) {
		if h.answer, err = x.late(Silence); err == nil && h.early && h.answer != Silence {
			err = errTooLate // the socket was gone when the SYN came, or may have been
		}
		if err != nil {
			return h, err
		}
	}
	if h.knock.blocked() && x.moved(ctx) {
		return h, errMoved
	}
	return h, nil
}

// opens reports whether the server came in by a hole. Over IPv6 the error for
// an early SYN ends the socket that has just answered the server's, before the
// token is there: but somebody did answer, which nobody does without a hole.
func (f *facts) opens() bool {
	return slices.ContainsFunc(f.holes, func(h hole) bool {
		return h.knock.reached() || h.early && h.knock.outcome == connected && f.shut()
	})
}

// shut reports whether the server does not come in without a hole, from where
// the holes were for. Who keeps out the other port of an address that was sent to
// keeps out another address.
func (f *facts) shut() bool {
	if f.holeAddr && f.knocks.addr.tried() {
		return f.knocks.addr.blocked()
	}
	return f.knocks.port.blocked()
}

// leastTTL is the least one whose SYN opened the way in; 0 if none did.
func (f *facts) leastTTL() (ttl int) {
	for _, h := range f.holes {
		if h.ttl > 0 && h.knock.reached() && !h.early && h.answer != RST && (ttl == 0 || h.ttl < ttl) {
			ttl = h.ttl
		}
	}
	return ttl
}

// lastNAT is which router the outermost one is that filters; 0 if no test on
// either side of it was made.
func (f *facts) lastNAT() int {
	ttl := f.leastTTL()
	before := slices.ContainsFunc(f.holes, func(h hole) bool { return h.ttl == ttl-1 && h.knock.blocked() })
	if ttl == 2 || ttl > 2 && before {
		return ttl - 1
	}
	return 0
}

// effect is what an error of that kind does to a hole. That it closes is known
// only where some SYN is let in, and of a TTL that leaves our NATs.
func (f *facts) effect(of Reply) Effect {
	least, closes := f.leastTTL(), false
	for _, h := range f.holes {
		switch {
		case h.answer != of || h.early:
		case h.knock.reached():
			return Keeps
		case h.knock.blocked():
			closes = closes || of == RST || h.ttl == f.holeHops() || least > 0 && h.ttl > least
		}
	}
	if closes && f.opens() {
		return Closes
	}
	return EffectUnknown
}

// refuses reports whether no SYN is let in, holes or not. Untouched ones were
// tried, or several before their errors came.
func (f *facts) refuses() bool {
	untouched, early := 0, 0
	for _, h := range f.holes {
		switch {
		case !h.knock.blocked() || h.ttl > 0 && h.ttl != f.holeHops():
		case h.early:
			early++
		case h.answer == Silence:
			untouched++
		}
	}
	return !f.opens() && (untouched > 1 || early > 1)
}
