package rendezvous

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"
)

// Bounds of what a server learns, and of what anybody can teach it.
const (
	maxPairs = 1024 // pairs of kinds; there are some hundred that are seen in practice
	maxWays  = 8    // of each pair

	// memoryLength is how many outcomes of a pair are remembered, in effect: the
	// table has turned after about two thirds as many that say something else.
	memoryLength = 32
	// convincing is how much more often a way must have worked than failed to be
	// hinted at: two times of late. One may have been chance.
	convincing = 1.5

	maxLessons = 60    // outcomes an hour with which one source is heard
	maxSources = 16384 // heard within one hour; no others are after that
)

// A Hint is what a server has learnt about dials between two kinds of NAT.
type Hint struct {
	Kinds  [2]string // of the two ends, in alphabetical order
	Method string    // one, or two with a slash between where each end named its own
	// Worked and Failed count dials, old ones for less and less; a dial counts
	// as failed for the method that its ends were hinted at.
	Worked, Failed float64
	At             time.Time // of the last dial between these kinds that counted
}

// nats are two kinds of NAT, whoever dials. In the zero value one of them is
// not known, and nothing is learnt.
type nats [2]string

func natsOf(a, b string) nats {
	if a == "" || b == "" {
		return nats{}
	}
	return nats{min(a, b), max(a, b)}
}

// hints is a table from pairs to the ways in which they met, made of what both
// ends of a dial report. It is offered as a first guess, so a wrong entry costs
// order only.
type hints struct {
	mu sync.Mutex // guards following
	hearing
	pairs map[nats]*experience
	uses  uint64 // numbers the uses of experiences
}

type experience struct {
	used uint64    // the last use; the least is forgotten first
	at   time.Time // of the last dial that counted
	ways map[string]*way
}

type way struct{ worked, failed float64 }

func (w *way) weight() float64 { return w.worked - w.failed }

// of returns what has worked for a pair, or nothing. That is no relay: many who
// lie together would send all others there, by way of the server that they attack.
func (h *hints) of(p nats, now time.Time) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	e := h.pairs[p]
	if e == nil || now.Sub(e.at) > memoryTime {
		return ""
	}
	h.use(e)
	var best string
	most := convincing
	for name, w := range e.ways {
		if v := w.weight(); v > most || v == most && name < best {
			best, most = name, v
		}
	}
	if !direct(best) {
		return ""
	}
	return best
}

func (h *hints) use(e *experience) {
	h.uses++
	e.used = h.uses
}

// learn takes in a dial of which both ends have reported. They must agree on
// whether there is a path. What they call it may differ, because each end knows
// its own SYNs only: one guessed the port that the other simply connected from.
// So both names are kept, and a client goes by the costlier: an end that lies
// on its own can't make a dial look cheaper than the other says.
func (h *hints) learn(d *dial, now time.Time) {
	if d.nats == (nats{}) || d.ends[0].ok != d.ends[1].ok {
		return
	}
	worked, name := d.ends[0].ok, d.hint
	if worked {
		name = wayOf(d.ends[0].method, d.ends[1].method)
	}
	if name == "" || !worked && d.canceled { // a caller that is impatient proves nothing
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.hear(now, sourceOf(d.from.observed.Addr()), sourceOf(d.to.observed.Addr()), maxLessons) {
		return
	}
	e := h.experience(d.nats, worked)
	if e == nil {
		return // forgotten since the hint was given
	}
	if now.Sub(e.at) > memoryTime {
		clear(e.ways)
	}
	e.at = now
	for _, w := range e.ways {
		w.worked -= w.worked / memoryLength
		w.failed -= w.failed / memoryLength
	}
	switch w := e.way(name, worked); {
	case w == nil:
	case worked:
		w.worked++
	default:
		w.failed++
	}
}

// wayOf joins what the two ends call the way in which they met; nothing if one
// of them did not say, or if it is too long for a hint.
func wayOf(a, b string) string {
	way := min(a, b) + "/" + max(a, b)
	switch {
	case a == "" || b == "":
		return ""
	case a == b:
		return a
	case len(way) > MaxLabel:
		return ""
	}
	return way
}

// experience returns that of a pair; a new one, if there is none and it is
// wanted, takes the place of the one not used for longest. Caller holds mu.
func (h *hints) experience(p nats, wanted bool) *experience {
	e := h.pairs[p]
	if e == nil {
		if !wanted {
			return nil
		}
		if h.pairs == nil {
			h.pairs = make(map[nats]*experience)
		}
		if len(h.pairs) >= maxPairs {
			delete(h.pairs, least(h.pairs, func(a, b *experience) int { return cmp.Compare(a.used, b.used) }))
		}
		e = &experience{ways: make(map[string]*way)}
		h.pairs[p] = e
	}
	h.use(e)
	return e
}

// way returns that of a name, in the same manner; the one that weighs least
// makes room.
func (e *experience) way(name string, wanted bool) *way {
	w := e.ways[name]
	if w == nil && wanted {
		if len(e.ways) >= maxWays {
			delete(e.ways, least(e.ways, func(a, b *way) int { return cmp.Compare(a.weight(), b.weight()) }))
		}
		w = &way{}
		e.ways[name] = w
	}
	return w
}

// least returns the key of the least value of a map that is not empty. It is a
// walk over all: rare, and over a thousand at most.
func least[K comparable, V any](m map[K]V, compare func(a, b V) int) K {
	return slices.MinFunc(slices.Collect(maps.Keys(m)), func(a, b K) int { return compare(m[a], m[b]) })
}

// list returns what is known and not too old, in alphabetical order.
func (h *hints) list(now time.Time) []Hint {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []Hint
	for p, e := range h.pairs {
		if now.Sub(e.at) > memoryTime {
			continue
		}
		for name, w := range e.ways {
			all = append(all, Hint{p, name, w.worked, w.failed, e.at})
		}
	}
	slices.SortFunc(all, func(a, b Hint) int {
		return cmp.Or(cmp.Compare(a.Kinds[0], b.Kinds[0]), cmp.Compare(a.Kinds[1], b.Kinds[1]), cmp.Compare(a.Method, b.Method))
	})
	return all
}

// restore puts a list in the place of what is known. A pair counts as used when
// it has last dialled.
func (h *hints) restore(all []Hint) {
	slices.SortStableFunc(all, func(a, b Hint) int { return a.At.Compare(b.At) })
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pairs = nil
	for _, hint := range all {
		e := h.experience(hint.Kinds, true)
		if hint.At.After(e.at) {
			e.at = hint.At
		}
		w := e.way(hint.Method, true)
		w.worked, w.failed = hint.Worked, hint.Failed
	}
}
