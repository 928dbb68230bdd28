package rendezvous

import (
	"cmp"
	"slices"
	"sync"
)

// maxMethods bounds the distinct methods counted: their names come from
// clients, and there are about a dozen honest ones.
const maxMethods = 32

// otherMethods counts what does not fit.
const otherMethods = "other"

// OutcomeCount says how many dials ended in one way.
type OutcomeCount struct {
	Method string // empty if the caller named none
	OK     bool
	Count  uint64
}

type ending struct {
	method string
	ok     bool
}

type tally struct {
	mu   sync.Mutex // guards following
	seen map[ending]uint64
}

func (t *tally) add(method string, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.seen == nil {
		t.seen = make(map[ending]uint64)
	}
	e := ending{method, ok}
	if _, known := t.seen[e]; !known && len(t.seen) >= 2*maxMethods {
		e.method = otherMethods
	}
	t.seen[e]++
}

func (t *tally) counts() []OutcomeCount {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []OutcomeCount
	for e, n := range t.seen {
		all = append(all, OutcomeCount{e.method, e.ok, n})
	}
	slices.SortFunc(all, func(a, b OutcomeCount) int {
		if c := cmp.Compare(a.Method, b.Method); c != 0 || a.OK == b.OK {
			return c
		}
		if a.OK {
			return -1
		}
		return 1
	})
	return all
}
