package rendezvous

import (
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// settleTime is how long a dial is remembered after its answer, for a Cancel
// to find its way and for both ends to report. A punch takes seconds.
const settleTime = 30 * time.Second

// dialTable holds the dials in progress. It decides, and leaves it to the
// caller to tell anybody.
type dialTable struct {
	pendingOut int // unanswered dials of one caller
	pendingIn  int // unanswered dials to one callee
	open       int // dials of one caller, answered ones included

	mu  sync.Mutex // guards following, every dial's state and every session's calls
	all map[DialID]*dial
}

// A dial is one introduction of two nodes.
type dial struct {
	id       DialID
	from, to party
	ask      bool // the callee was asked before anything was given away
	began    time.Time
	seen     atomic.Bool // the Trace knows how it was answered
	kinds    [2]string   // of the caller, of the callee
	nats     nats
	hint     string // given to both ends; or empty
	ticket   []byte // the caller's, for a relay; or none

	// Guarded by the table's mu.
	timer    *time.Timer // the answer is late, or everybody has had time to report
	answered bool
	canceled bool
	reported [2]bool   // by caller, by callee
	ends     [2]ending // as reported
}

// calls are the dials of one session; nil while it has none.
type calls struct {
	dials    map[DialID]*dial
	out      int     // of these, unanswered ones that it makes
	in       []*dial // of these, unanswered ones that it gets; in no order, nil if there are none
	outgoing int     // of these, those that it makes, answered or not
	gone     bool    // the session has ended
}

// add begins a dial. late is called once when it was not answered within
// patience; after the answer it is forgotten silently after settleTime.
func (t *dialTable) add(d *dial, patience time.Duration, late func(*dial)) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.refusal(d.id, d.from, d.to); err != nil {
		return err
	}
	t.enter(d, patience, late)
	return nil
}

// room says why there is no room for a dial, if so, before anything is made for it.
func (t *dialTable) room(id DialID, from, to party) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.refusal(id, from, to)
}

// refusal is room. Caller holds mu.
func (t *dialTable) refusal(id DialID, caller, callee party) error {
	from, to := caller.calls, callee.calls
	switch {
	case from.gone || to.gone:
		return errorf(CodeUnknownPeer, "no such peer")
	case t.all[id] != nil:
		return errorf(CodeBadMessage, "this dial id is in use")
	case from.out >= t.pendingOut || from.outgoing >= t.open:
		return errorf(CodeBusy, "%d dials of yours are in progress", from.outgoing).of(limitDialsOut)
	case len(to.in) >= t.pendingIn:
		return errorf(CodeBusy, "the peer has too many dials to answer").of(limitDialsIn)
	case len(to.in) >= t.pendingIn/2 && to.unanswered(sourceOf(caller.observed.Addr())) >= max(t.pendingIn/8, 2):
		return errorf(CodeBusy, "the peer has too many dials of your address to answer").of(limitDialsBetween)
	}
	return nil
}

// enter begins a dial for which there is room. Caller holds mu.
func (t *dialTable) enter(d *dial, patience time.Duration, late func(*dial)) {
	if t.all == nil {
		t.all = make(map[DialID]*dial)
	}
	t.all[d.id] = d
	d.from.calls.keep(d)
	d.to.calls.keep(d)
	d.from.calls.out++
	d.from.calls.outgoing++
	d.to.calls.in = append(d.to.calls.in, d)
	d.timer = time.AfterFunc(patience, func() {
		if t.timeUp(d) {
			late(d)
		}
	})
}

// found puts a dial in the place of one that was looking for its callee, unless
// its caller has lost interest: the code then says how.
func (t *dialTable) found(looking, d *dial, patience time.Duration, late func(*dial)) Code {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.all[d.id] != looking:
		return CodePeerGone
	case looking.canceled:
		return CodeCanceled
	}
	t.forget(looking)
	t.enter(d, patience, late)
	return CodeNone
}

// goesOn reports whether there is still an answer to wait for.
func (t *dialTable) goesOn(d *dial) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.all[d.id] == d && !d.canceled
}

// end forgets a dial that cannot come about, as the callee's side says. It
// returns nil if nobody waits for it.
func (t *dialTable) end(id DialID, by seat) *dial {
	t.mu.Lock()
	defer t.mu.Unlock()
	d := t.all[id]
	if d == nil || d.to.seat != by || d.answered || d.canceled {
		return nil
	}
	t.forget(d)
	return d
}

// lost forgets the dials with a server that is gone and returns those whose end
// here still waits for it.
func (t *dialTable) lost(server string) (cut []*dial) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, d := range t.all {
		if d.from.at != server && d.to.at != server {
			continue
		}
		if !d.answered && !d.canceled {
			cut = append(cut, d)
		}
		t.forget(d)
	}
	return cut
}

// unanswered counts the dials to a session that come from one source: where
// half of what it may have is taken, the rest is for others than those who
// took it. It looks at no others: those that were answered, and never reported,
// can be thousands. Caller holds mu.
func (c *calls) unanswered(source netip.Prefix) (n int) {
	for _, d := range c.in {
		if sourceOf(d.from.observed.Addr()) == source {
			n++
		}
	}
	return n
}

func (c *calls) keep(d *dial) {
	if c.dials == nil {
		c.dials = make(map[DialID]*dial)
	}
	c.dials[d.id] = d
}

// timeUp forgets a dial and reports whether it was still waiting for an answer.
func (t *dialTable) timeUp(d *dial) (late bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.all[d.id] != d {
		return false
	}
	late = !d.answered && !d.canceled
	t.forget(d)
	return late
}

// forget removes a dial. Caller holds mu.
func (t *dialTable) forget(d *dial) {
	d.timer.Stop()
	t.settle(d)
	delete(t.all, d.id)
	d.from.calls.outgoing--
	for _, c := range []*calls{d.from.calls, d.to.calls} {
		if delete(c.dials, d.id); len(c.dials) == 0 {
			c.dials = nil
		}
	}
}

// settle takes a dial out of the unanswered ones. Caller holds mu.
func (t *dialTable) settle(d *dial) {
	if !d.answered && !d.canceled {
		d.from.calls.out--
		d.to.calls.settle(d)
	}
}

// settle takes a dial out of the unanswered ones to a session. Caller holds mu.
func (c *calls) settle(d *dial) {
	last := len(c.in) - 1
	c.in[slices.Index(c.in, d)] = c.in[last]
	c.in[last] = nil
	if c.in = c.in[:last]; last == 0 {
		c.in = nil
	}
}

// answer records the callee's answer. It returns nil if by has no such dial to
// answer: it was given up in the meantime, or never was.
func (t *dialTable) answer(id DialID, by seat, accepted bool) *dial {
	t.mu.Lock()
	defer t.mu.Unlock()
	d := t.all[id]
	if d == nil || d.to.seat != by || d.answered || d.canceled {
		return nil
	}
	if !accepted {
		t.forget(d)
		return d
	}
	t.settle(d)
	d.answered = true
	d.timer.Reset(settleTime)
	return d
}

// cancel records that the caller has given the dial up. It stays for the
// reports. It returns nil if there is nothing to tell the callee.
func (t *dialTable) cancel(id DialID, by seat) *dial {
	t.mu.Lock()
	defer t.mu.Unlock()
	d := t.all[id]
	if d == nil || d.from.seat != by || d.canceled {
		return nil
	}
	t.settle(d)
	d.canceled = true
	d.timer.Reset(settleTime)
	return d
}

// report records that one end has told the outcome, once. When both have, the
// dial is forgotten, and what is recorded of it changes no more.
func (t *dialTable) report(m *Outcome, by seat) (d *dial, byCaller, both bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	d = t.all[m.DialID]
	if d == nil || d.from.seat != by && d.to.seat != by {
		return nil, false, false
	}
	side := 0
	if d.to.seat == by {
		side = 1
	}
	if d.reported[side] {
		return nil, false, false
	}
	d.reported[side], d.ends[side] = true, ending{m.Method, m.OK}
	if both = d.reported[0] && d.reported[1]; both {
		t.forget(d)
	}
	return d, side == 0, both
}

// leave forgets the dials of a session that has ended and returns those whose
// other end still waits for it. Answered ones need no server any more.
func (t *dialTable) leave(s *session) (cut []*dial) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, d := range s.calls.dials {
		if !d.answered && !d.canceled {
			cut = append(cut, d)
		}
		t.forget(d)
	}
	s.calls.gone = true
	return cut
}
