package status

import (
	"sync"
	"time"
)

const (
	hour    = time.Hour
	samples = int(hour/sampleEvery) + 1
	kept    = 1024 // dials: 100 KiB
)

// A dial is one that a caller has reported.
type dial struct {
	caller, callee [32]byte
	from, to       class
	method         string // one of methods; empty: it failed
	result         result
	took           time.Duration
	at             time.Time
}

// recent are the last dials.
type recent struct {
	mu   sync.Mutex // guards following
	ring []dial     // at most kept
	next int        // where the next one goes, once the ring is full
}

func (r *recent) add(d dial) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.ring) < kept {
		r.ring = append(r.ring, d)
		return
	}
	r.ring[r.next] = d
	r.next = (r.next + 1) % kept
}

// list returns the last dials, the latest first.
func (r *recent) list() []dial {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]dial, 0, len(r.ring))
	for i := range r.ring {
		all = append(all, r.ring[(r.next+len(r.ring)-1-i)%len(r.ring)])
	}
	return all
}

// A sample is how much there was at a time; what counts only grows.
type sample struct {
	at       time.Time
	dials    [results]int64
	bytes    int64
	sessions int
}

// past is the last hour, in samples.
type past struct {
	mu   sync.Mutex // guards following
	ring []sample   // oldest first, at most samples
}

// now returns how much there is.
func (b *Board) now(at time.Time) sample {
	s := sample{at: at, sessions: b.config.Meet.Sessions()}
	for e, n := range b.outcomes.all() {
		s.dials[resultOf(e)] += n
	}
	if b.config.Relay != nil {
		s.bytes = b.config.Relay.Stats().Bytes
	}
	return s
}

func resultOf(e ending) result {
	switch e.method {
	case "":
		return failed
	case "relay", "relay-only":
		return relayed
	}
	return direct
}

func (b *Board) sample(at time.Time) {
	s := b.now(at)
	b.past.mu.Lock()
	defer b.past.mu.Unlock()
	if len(b.past.ring) >= samples {
		b.past.ring = append(b.past.ring[:0], b.past.ring[1:]...)
	}
	b.past.ring = append(b.past.ring, s)
}

// list returns the last hour, oldest first.
func (p *past) list() []sample {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]sample(nil), p.ring...)
}
