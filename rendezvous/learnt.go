package rendezvous

import "time"

// learnt is what a server makes of the outcomes that it is told.
type learnt struct {
	tally tally
	kinds hints
	pairs history
}

// hint returns what has worked before: for these two, or else for others of
// their kinds.
func (l *learnt) hint(from, to party, kinds nats, now time.Time) string {
	if way, _ := l.pairs.of(from, to, now); way != "" && way != LastNone {
		return way
	}
	return l.kinds.of(kinds, now)
}

// MethodRelayOnly is the Method of an Outcome, good or bad, at an end that would
// have nothing but a relay. It counts as any other, but says nothing of what lies
// between the two, so nothing is learnt.
const MethodRelayOnly = "relay-only"

// learn takes in a dial of which both ends have reported.
func (l *learnt) learn(d *dial, now time.Time) {
	if d.ends[0].method == MethodRelayOnly || d.ends[1].method == MethodRelayOnly {
		return
	}
	l.kinds.learn(d, now)
	l.pairs.learn(d, now)
}
