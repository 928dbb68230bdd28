package probe

import (
	"context"
	"time"
)

// trials is how far the knocks are that say what an unsolicited SYN gets, which
// a dial wants to know before silence is certain.
type trials [3]trial

type trial struct {
	asked   time.Duration // when the server was asked to dial back, since prober.start; 0: not yet
	visited bool          // and came in
	over    bool          // with an outcome, or without one
}

// grace is for a busy server, and for a path that varies: beside a quarter of
// the round trip.
const grace = 30 * time.Millisecond

// due returns when a RST or ICMP error would have been here for a dial back: a
// round trip for the question and one for the dial back. It reports false if
// none can come any more.
func (t trial) due(rtt time.Duration) (time.Duration, bool) {
	if t.asked == 0 || t.visited || t.over {
		return 0, false
	}
	return t.asked + 2*rtt + rtt/4 + grace, true
}

// change changes a trial, if i is one, and wakes policy.
func (p *prober) change(i int, change func(t *trial)) {
	if i >= len(trials{}) {
		return
	}
	p.note(func(f *facts) { change(&f.trials[i]) })
	select {
	case p.news <- struct{}{}:
	default: // it will look anyway
	}
}

func (p *prober) asked(i int, at time.Duration) { p.change(i, func(t *trial) { t.asked = at }) }

func (p *prober) over(i int) { p.change(i, func(t *trial) { t.over = true }) }

// watch makes a door that of a trial.
func (p *prober) watch(d *door, i int) {
	d.trial = i
	d.tell(func() { p.change(i, func(t *trial) { t.visited = true }) })
}

// policy tells as soon as it is known what an unsolicited SYN gets: an error,
// or else silence, which a peer's SYN would meet for as long, too.
func (p *prober) policy(ctx context.Context) {
	for {
		f := p.known()
		if r, _ := f.knocks.unsolicited(); r != ReplyUnknown {
			break
		}
		now, next, left := time.Since(p.start), time.Hour, 0
		for _, t := range f.trials {
			if !t.over {
				left++
			}
			due, ok := t.due(f.rtt)
			if ok && due <= now {
				p.note(func(f *facts) { f.silent = now - t.asked - f.rtt }) // since the SYN was at the NAT
				left = 0
				break
			}
			if ok {
				next = min(next, due)
			}
		}
		if left == 0 {
			break
		}
		if !p.await(ctx, next) {
			return
		}
	}
	p.tell(p.known())
}

// await waits for news, or until a time since p.start; it reports false if ctx
// has ended.
func (p *prober) await(ctx context.Context, until time.Duration) bool {
	t := time.NewTimer(until - time.Since(p.start))
	defer t.Stop()
	select {
	case <-p.news:
	case <-t.C:
	case <-ctx.Done():
		return false
	}
	return true
}
