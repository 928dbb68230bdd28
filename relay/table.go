package relay

import (
	"maps"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/gostunt/stunt/internal/keyrate"
)

// maxUsed bounds the tickets that are remembered until they expire, so that
// none serves twice: some 500 streams a second, in a few megabytes.
const maxUsed = 1 << 16

// half names one end of a pair.
type half struct {
	pair [16]byte
	role Role
}

func (h half) other() half { return half{h.pair, Dialer + Listener - h.role} }

// holder is a key with streams.
type holder struct {
	streams int
	rate    *rate.Limiter // nil: none
}

// tally counts the streams of a source.
type tally struct{ streams, waiting int }

// table holds who waits and who is paired. It decides, and leaves it to the
// caller to act.
type table struct {
	limits Limits

	mu      sync.Mutex // guards following
	closed  bool
	waiting map[half]*Stream
	pairs   map[*pair]struct{}
	keys    map[[32]byte]*holder
	sources map[netip.Prefix]tally
	begun   keyrate.Limiter[[32]byte]
	used    map[half]struct{}
	order   []usedTicket     // those in used, oldest first
	met     map[string]int64 // how often each limit was met

	closing chan struct{} // closed by close
	empty   chan struct{} // closed when closed and without pairs
}

type usedTicket struct {
	half
	expiry int64
}

func (t *table) init(l Limits) {
	t.limits = l
	t.begun.Rate, t.begun.Burst = rate.Limit(l.StreamsPerSecond), 4*l.StreamsPerSecond
	t.waiting, t.pairs = make(map[half]*Stream), make(map[*pair]struct{})
	t.keys, t.sources = make(map[[32]byte]*holder), make(map[netip.Prefix]tally)
	t.used, t.empty = make(map[half]struct{}), make(chan struct{})
	t.closing = make(chan struct{})
	t.met = make(map[string]int64, len(limitNames))
	for _, name := range limitNames {
		t.met[name] = 0
	}
}

// enter takes a stream in, to wait (no pair) or as the second of a pair, or
// says why not. A ticket that is refused has not been used.
func (t *table) enter(s *Stream, now time.Time) (*pair, Status) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.forgetUsed(now)
	h, of := s.ticket.half(), t.sources[s.source]
	_, used := t.used[h]
	first := t.waiting[h.other()]
	switch {
	case t.closed:
		return nil, Closing
	case used:
		return nil, Used
	}
	if limit := t.full(s, first, now); limit != "" {
		t.met[limit]++
		return nil, Busy
	}
	t.used[h] = struct{}{}
	t.order = append(t.order, usedTicket{h, s.ticket.expiry})
	s.holder = t.hold(s.ticket.key)
	of.streams++
	if first == nil {
		of.waiting++
		t.waiting[h] = s
	}
	t.sources[s.source] = of
	if first == nil {
		return nil, Paired
	}
	t.unwait(first)
	p := &pair{ends: [2]*Stream{first, s}, ready: make(chan struct{}), done: make(chan struct{})}
	t.pairs[p] = struct{}{}
	first.met <- p // has room: a stream meets once
	return p, Paired
}

// full returns the limit that keeps a stream out, whose other end is first; empty: none does. The caller holds mu.
func (t *table) full(s, first *Stream, now time.Time) string {
	l, of := &t.limits, t.sources[s.source]
	switch {
	case of.streams >= l.StreamsPerSource:
		return limitStreamsPerSource
	case t.holds(s) >= l.StreamsPerKey:
		return limitStreamsPerKey
	case len(t.order) >= maxUsed:
		return limitUsedTickets
	case first == nil && len(t.waiting) >= l.Waiting:
		return limitWaiting
	case first == nil && of.waiting >= l.WaitingPerSource:
		return limitWaitingPerSource
	case first != nil && len(t.pairs) >= l.Pairs:
		return limitPairs
	// Last, as it counts; and not whom others dial, who would have it used up.
	case s.ticket.role == Dialer && !t.begun.Allow(s.ticket.key, now):
		return limitStreamsPerSecond
	}
	return ""
}

// meet counts that a limit was met.
func (t *table) meet(limit string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.met[limit]++
}

// holds returns how many streams the key of s has.
func (t *table) holds(s *Stream) int {
	if k := t.keys[s.ticket.key]; k != nil {
		return k.streams
	}
	return 0
}

func (t *table) hold(key [32]byte) *holder {
	k := t.keys[key]
	if k == nil {
		k = &holder{}
		if t.limits.Rate > 0 {
			k.rate = rate.NewLimiter(rate.Limit(t.limits.Rate), max(t.limits.Rate/4, bufferSize))
		}
		t.keys[key] = k
	}
	k.streams++
	return k
}

// forgetUsed drops the tickets that have expired. They come in about the order
// in which they expire; one that is late holds those behind it up a little.
func (t *table) forgetUsed(now time.Time) {
	for len(t.order) > 0 && t.order[0].expiry < now.Unix() {
		delete(t.used, t.order[0].half)
		t.order = t.order[1:]
	}
}

// unwait takes a stream out of those that wait. The caller holds mu.
func (t *table) unwait(s *Stream) {
	delete(t.waiting, s.ticket.half())
	of := t.sources[s.source]
	of.waiting--
	t.sources[s.source] = of
}

// release gives back what a stream counted for. The caller holds mu.
func (t *table) release(s *Stream) {
	if s.holder.streams--; s.holder.streams == 0 {
		delete(t.keys, s.ticket.key)
	}
	of := t.sources[s.source]
	if of.streams--; of == (tally{}) {
		delete(t.sources, s.source)
	} else {
		t.sources[s.source] = of
	}
}

// leave removes a stream that waits no more. It reports false if the other end
// has come at this moment: then the pair is in s.met.
func (t *table) leave(s *Stream) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.waiting[s.ticket.half()] != s {
		return false
	}
	t.unwait(s)
	t.release(s)
	return true
}

// end removes a pair that is over.
func (t *table) end(p *pair) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.pairs, p)
	t.release(p.ends[0])
	t.release(p.ends[1])
	if t.closed && len(t.pairs) == 0 {
		close(t.empty)
	}
}

// close lets nobody in any more, and ends the wait of those who do.
func (t *table) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	t.closed = true
	close(t.closing)
	if len(t.pairs) == 0 {
		close(t.empty)
	}
}

// list returns the pairs that there are.
func (t *table) list() []*pair {
	t.mu.Lock()
	defer t.mu.Unlock()
	ps := make([]*pair, 0, len(t.pairs))
	for p := range t.pairs {
		ps = append(ps, p)
	}
	return ps
}

// stats fills in how many streams wait, how many pairs there are, and how often
// limits were met.
func (t *table) stats(st *Stats) {
	t.mu.Lock()
	defer t.mu.Unlock()
	st.Waiting, st.Pairs, st.Met = len(t.waiting), len(t.pairs), maps.Clone(t.met)
}
