package rendezvous

import (
	"bytes"
	"container/list"
	"crypto/sha256"
	"net/netip"
	"strings"
	"sync"
	"time"
	"unique"
)

// Bounds of what a server remembers of pairs of keys.
const (
	maxAcquainted = 1 << 16 // pairs, each where it was; some 12 MiB

	// memoryTime is for how long a pair is remembered that did not dial again,
	// and a pair of kinds. Routers are replaced, and contracts.
	memoryTime = 30 * 24 * time.Hour

	// maxIntroductions is how many new pairs an hour one source adds, so that
	// one NAT cannot make the server forget everybody else's within a week.
	maxIntroductions = 256

	// bySurprise is how many dials in a row must have found no direct path
	// before one that was there is taken to be gone: one may have been a lost
	// packet, or a guess without luck.
	bySurprise = 2
)

// What Presence.Last says where there was no direct path.
const (
	LastRelayed = "relay" // the dial went through a relay
	LastNone    = "none"  // the dial failed: no path was found
)

// direct reports whether a way, as an Outcome or a hint names it, was without
// a relay at both ends.
func direct(way string) bool {
	for word := range strings.SplitSeq(way, "/") {
		if word == LastRelayed || word == LastNone {
			return false
		}
	}
	return true
}

// pairID stands for two keys, each at a place; whoever dials. It is a hash, so
// that a record that is kept in a file names nobody.
type pairID [16]byte

// pairOf tells where the two are by their sources: the same key behind another
// router is another matter.
func pairOf(a, b party) pairID {
	x, y := endOf(a), endOf(b)
	if bytes.Compare(x, y) > 0 {
		x, y = y, x
	}
	sum := sha256.Sum256(append(x, y...))
	return pairID(sum[:])
}

// endOf has the same length for everybody, so that no two pairs look alike.
func endOf(p party) []byte {
	place := sourceOf(p.observed.Addr()).Addr().As16()
	return append(bytes.Clone(p.key), place[:]...)
}

// history is a table from pairs of keys to how they last met, made of what both
// ends of a dial report. Only the two are told of it, so an end that lies
// spoils nothing but what is known of itself.
type history struct {
	mu sync.Mutex // guards following
	hearing
	known  map[pairID]*list.Element // of *acquaintance
	recent list.List                // the same, the one that dialled last in front
}

type acquaintance struct {
	pair   pairID
	way    unique.Handle[string] // as in a hint, or LastNone; there are few
	at     time.Time             // when that was so for the last time
	misses uint8                 // dials since that found no direct path, while way is one
}

// of returns how the two last met and when; nothing if it is not known.
func (h *history) of(a, b party, now time.Time) (way string, at time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	e := h.known[pairOf(a, b)]
	if e == nil {
		return "", time.Time{}
	}
	m := e.Value.(*acquaintance)
	if now.Sub(m.at) > memoryTime {
		return "", time.Time{}
	}
	return m.way.Value(), m.at
}

// learn takes in a dial of which both ends have reported. They must agree on
// whether there is a path.
func (h *history) learn(d *dial, now time.Time) {
	if d.ends[0].ok != d.ends[1].ok {
		return
	}
	way := LastNone
	if d.ends[0].ok {
		way = wayOf(d.ends[0].method, d.ends[1].method)
	}
	if way == "" || way == LastNone && d.canceled { // a caller that is impatient proves nothing
		return
	}
	pair := pairOf(d.from, d.to)
	h.mu.Lock()
	defer h.mu.Unlock()
	e := h.known[pair]
	if e == nil {
		if !h.hear(now, sourceOf(d.from.observed.Addr()), sourceOf(d.to.observed.Addr()), maxIntroductions) {
			return
		}
		h.add(acquaintance{pair: pair, way: unique.Make(way), at: now})
		return
	}
	h.recent.MoveToFront(e)
	e.Value.(*acquaintance).update(way, now)
}

// update takes in one more dial of the pair. A direct path is believed at once.
func (m *acquaintance) update(way string, now time.Time) {
	old := now.Sub(m.at) > memoryTime
	if !direct(way) && direct(m.way.Value()) && !old {
		if m.misses++; m.misses < bySurprise {
			return
		}
	}
	m.way, m.at, m.misses = unique.Make(way), now, 0
}

// add takes in a pair that is not known; the one that has not dialled for
// longest makes room. Caller holds mu.
func (h *history) add(m acquaintance) {
	if h.known == nil {
		h.known = make(map[pairID]*list.Element)
	}
	if len(h.known) >= maxAcquainted {
		last := h.recent.Remove(h.recent.Back()).(*acquaintance)
		delete(h.known, last.pair)
	}
	h.known[m.pair] = h.recent.PushFront(&m)
}

// list returns what is known and not too old, the pair that dialled last in
// front.
func (h *history) list(now time.Time) []acquaintance {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := make([]acquaintance, 0, len(h.known))
	for e := h.recent.Front(); e != nil; e = e.Next() {
		if m := e.Value.(*acquaintance); now.Sub(m.at) <= memoryTime {
			all = append(all, *m)
		}
	}
	return all
}

// restore puts a list in the place of what is known.
func (h *history) restore(all []acquaintance) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.known = nil
	h.recent.Init()
	for i := range all {
		h.add(all[len(all)-1-i])
	}
}

// hearing counts how often sources are listened to within an hour. Whoever is
// behind one address is behind one NAT, so this is a NAT's voice.
type hearing struct {
	hour  time.Time // in which heard counts
	heard map[netip.Prefix]int
}

// hear reports whether one more lesson of these sources counts, of so many an
// hour of each.
func (h *hearing) hear(now time.Time, a, b netip.Prefix, most int) bool {
	if hour := now.Truncate(time.Hour); h.heard == nil || !hour.Equal(h.hour) {
		h.hour, h.heard = hour, make(map[netip.Prefix]int)
	}
	if h.heard[a] >= most || h.heard[b] >= most || len(h.heard) > maxSources-2 {
		return false
	}
	if h.heard[a]++; a != b {
		h.heard[b]++
	}
	return true
}
