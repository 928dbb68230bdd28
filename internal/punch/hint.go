package punch

import (
	"slices"
	"strings"
	"time"
)

// hintLead is how long guessing waits for a method that does without: a round
// trip of an Internet path and the SYNs of both ends. A hint that is wrong costs
// that much.
const hintLead = 250 * time.Millisecond

// byCost has the methods in the order of what they cost. The first two are one
// method, seen from its two ends.
var byCost = []Method{Direct, Reversed, LAN, Hairpin, SimOpen, Predicted, Guessed, Relay}

// ParseHint returns the method by which ends like these have met before, as a
// server tells it. Each end knows its own SYNs only, so there may be two names
// with a slash between: the costlier one is what it took, and an end that
// has lied about its own has not made it cheaper. Empty if either is unknown:
// then there is no hint.
func ParseHint(s string) Method {
	cost := -1
	for name := range strings.SplitSeq(s, "/") {
		i := slices.Index(byCost, Method(name))
		if i < 0 {
			return ""
		}
		cost = max(cost, i)
	}
	return byCost[cost].fromCaller()
}

// fromCaller names a method in one way for both ends.
func (m Method) fromCaller() Method {
	if m == Reversed {
		return Direct
	}
	return m
}

// Cheapest returns the method that this end of a dial which came about would
// have needed: the chosen path's, or a cheaper one that has connected, too. A
// guess that was sooner by a moment is no reason to guess the next time.
func (r *Race) Cheapest(p *Path) Method {
	m := p.Method
	if m == Relay {
		return m // what connected beside it has not proved itself
	}
	for _, t := range r.Tries() {
		if !t.Connected.IsZero() && slices.Index(byCost, t.Method) < slices.Index(byCost, m) {
			m = t.Method
		}
	}
	return m
}

// hinted puts guessing off, if the hint is a method that is in the plan too:
// hundreds of SYNs are not sent where a few have done. The hint comes from
// strangers, so it does nothing else; and nothing where our SYNs must be out
// before the other end's. Windows and sweeps are not put off either: the
// counters that they are aimed at run on.
func (m Meeting) hinted(plan []Attempt) []Attempt {
	hint, syns, there := m.Hint.fromCaller(), 0, false
	for _, a := range plan {
		there = there || a.Method.fromCaller() == hint
		if a.Method == Guessed {
			syns += max(len(a.Ports), 1) * max(a.Fresh, 1)
		}
	}
	if !there || hint == Guessed || syns <= few || answersRST(m.Mine.Report) {
		return plan
	}
	for i := range plan {
		if plan[i].Method == Guessed {
			plan[i].Start += hintLead
		}
	}
	return plan
}
