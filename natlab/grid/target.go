package grid

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gostunt/stunt"
)

// Target is what the product wants to hold in some cells of the table.
type Target struct {
	Claim string
	Least float64 // the share of dials that it wants; 1: all
	cells func(listener, dialer string) bool
	good  func(r *Result, d Dial) bool
}

// Verdict is a target and the dials that it is about.
type Verdict struct {
	Target
	K, N int // good ones, and all
}

// Met reports whether as many dials were good as the target wants. With the
// interval of K of N comes how sure that is.
func (v Verdict) Met() bool { return float64(v.K) >= v.Least*float64(v.N) }

// Want returns what the target wants, in words.
func (v Verdict) Want() string {
	if v.Least == 1 {
		return "all"
	}
	return fmt.Sprintf("%.0f %%", 100*v.Least)
}

// The sides that targets are about, by what makes them alike.
var (
	eim = []string{"eim-eif", "eim-adf", "eim-apdf", "kernel", "linux", "two-nats", "pool-paired", "eim-rst", "eim-icmp", "eim-req4"}
	// Those of eim that answer an unsolicited SYN at once.
	answering = []string{"eim-rst", "eim-icmp"}
	quiet     = []string{"adm-delta1", "apdm-delta1", "apdm-delta2", "session-delta1"}
	busy      = []string{"apdm-delta1-busy5", "apdm-delta1-busy20"}
)

// Bounds of the targets.
const (
	oneAndThree   = 4 // round trips: one to the server, three to the peer
	guessTime     = 2 * time.Second
	guessTrips    = 4
	fullSYNs      = 1500
	blockSYNs     = 300
	noPathTime    = 3 * time.Second
	quietShare    = 0.99
	busyShare     = 0.95
	fullShare     = 0.98
	twoBlockShare = 0.95
)

// Targets returns all of them.
func Targets() []Target {
	worked := func(_ *Result, d Dial) bool { return d.Err == nil }
	within := func(syns int) func(r *Result, d Dial) bool {
		return func(r *Result, d Dial) bool {
			return d.Err == nil && d.Took <= guessTime+guessTrips*r.RTT && d.SYNs <= syns
		}
	}
	both := func(names ...string) func(l, d string) bool {
		return func(l, d string) bool { return slices.Contains(names, l) && slices.Contains(names, d) }
	}
	between := func(a, b []string) func(l, d string) bool {
		return func(l, d string) bool {
			return slices.Contains(a, l) && slices.Contains(b, d) || slices.Contains(b, l) && slices.Contains(a, d)
		}
	}
	dropping := slices.DeleteFunc(slices.Clone(eim), func(s string) bool { return slices.Contains(answering, s) })
	return []Target{
		{"one port for all on both sides, any filtering, any answer", 1, both(eim...), worked},
		{"… where both drop: within a server round trip and three to the peer", 1, both(dropping...),
			func(r *Result, d Dial) bool { return d.Err == nil && d.Took <= oneAndThree*r.RTT }},
		{"a counter against one port for all, or a counter", quietShare, between(quiet, slices.Concat(eim, quiet)), worked},
		{"… where other hosts take 5 or 20 ports a second", busyShare, between(busy, slices.Concat(eim, quiet, busy)), worked},
		{fmt.Sprintf("random ports against one for all: in %v and %d round trips, %d SYNs", guessTime, guessTrips, fullSYNs),
			fullShare, between([]string{"apdm-random"}, eim), within(fullSYNs)},
		{fmt.Sprintf("random in a block of 2,048 against one for all: %d SYNs", blockSYNs),
			fullShare, between([]string{"apdm-block2048"}, eim), within(blockSYNs)},
		{"random in blocks of 512 on both sides", twoBlockShare, both("apdm-block512"), worked},
		{fmt.Sprintf("both refuse SYNs: no path, and why, within %v", noPathTime), 1, both("no-syn-in"), gaveUp("refuse SYNs")},
		{fmt.Sprintf("both random over all ports: no path, and why, within %v", noPathTime), 1, both("apdm-random"), gaveUp("per destination")},
	}
}

// gaveUp is for dials that are to end in time, with a reason that has these words.
func gaveUp(words string) func(r *Result, d Dial) bool {
	return func(_ *Result, d Dial) bool {
		var de *stunt.DialError
		return errors.Is(d.Err, stunt.ErrNoPath) && errors.As(d.Err, &de) && strings.Contains(de.Help, words) && d.Took <= noPathTime
	}
}

// Verdicts holds the targets against the table. Those of which it has no cell
// are left out.
func (g *Grid) Verdicts() []Verdict {
	var vs []Verdict
	for _, t := range Targets() {
		v := Verdict{Target: t}
		for _, row := range g.Cells {
			for i := range row {
				r := &row[i]
				if !t.cells(r.Case.Listener, r.Case.Dialer) {
					continue
				}
				for _, d := range r.Dials {
					if v.N++; t.good(r, d) {
						v.K++
					}
				}
			}
		}
		if v.N > 0 {
			vs = append(vs, v)
		}
	}
	return vs
}
