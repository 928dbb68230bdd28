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
	rtt     time.Duration // of the connection that asked
	visited bool          // and came in
	over    bool          // with an outcome, or without one
}

func (t *trials) over() bool { return t[0].over && t[1].over && t[2].over }

// grace is for a busy server, and for a path that varies: beside an eighth of
// the round trip. If it was too little, that is told.
const grace = 5 * time.Millisecond

// due returns when a RST or ICMP error would have been here for a dial back: a
// round trip for the question and one for the dial back. It reports false if
// none can come any more.
func (t trial) due() (time.Duration, bool) {
	if t.asked == 0 || t.visited || t.over {
		return 0, false
	}
	return t.asked + 2*t.rtt + t.rtt/8 + grace, true
}

// change changes a trial, if i is one, and wakes herald.
func (p *prober) change(i int, change func(t *trial)) {
	if i >= len(trials{}) {
		return
	}
	p.note(func(f *facts) { change(&f.trials[i]) })
	p.wake()
}

// wake has herald look at the facts.
func (p *prober) wake() {
	select {
	case p.news <- struct{}{}:
	default: // it will look anyway
	}
}

func (p *prober) asked(i int, at, rtt time.Duration) {
	p.change(i, func(t *trial) { t.asked, t.rtt = at, rtt })
}

func (p *prober) over(i int) { p.change(i, func(t *trial) { t.over = true }) }

// watch makes a door that of a trial.
func (p *prober) watch(d *door, i int) {
	d.trial = i
	d.tell(func() { p.change(i, func(t *trial) { t.visited = true }) })
}

// herald tells what dialling needs, each as soon as it is known: what kind of
// mapping there is, and what an unsolicited SYN gets; and once more if an error
// comes after what was taken for silence. It ends when nothing more can come.
func (p *prober) herald(ctx context.Context) {
	var mapping, reply bool // were told
	var told Reply
	for {
		settled, next := p.settle()
		f := p.known()
		r, _ := f.unsolicited()
		switch {
		case f.compared && !mapping, settled && !reply && (f.compared || r != ReplyUnknown), reply && r != told:
			mapping, reply, told = f.compared, settled, r
			p.tell(f)
		case mapping && f.trials.over():
			return
		case !p.await(ctx, next):
			return
		}
	}
}

// settle reports whether it is known what an unsolicited SYN gets, or that it
// will not be: an error, or else silence, which a peer's SYN would meet for as
// long, too. If not, next is when silence will do, unless something happens before.
func (p *prober) settle() (known bool, next time.Duration) {
	f, now := p.known(), time.Since(p.start)
	known, next = f.trials.over(), time.Hour
	if r, _ := f.unsolicited(); r != ReplyUnknown {
		return true, next
	}
	for _, t := range f.trials {
		due, ok := t.due()
		if ok && due <= now {
			p.note(func(f *facts) { f.silent = now - t.asked - t.rtt }) // since the SYN was at the NAT
			return true, next
		}
		if ok {
			next = min(next, due)
		}
	}
	return known, next
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
