// Package keyrate bounds how often each of many does something, whoever they
// are and however many: what it holds is about those who did of late.
package keyrate

import (
	"container/list"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// A Limiter lets each key do something Rate times a second, in bursts of up to
// Burst. Set its fields before it is used; do not copy one. Its methods may be
// called from any goroutine.
type Limiter[K comparable] struct {
	Rate  rate.Limit // [rate.Inf]: no limit
	Burst int

	mu     sync.Mutex // guards following
	keys   map[K]*list.Element
	recent list.List // of *entry[K], the one not seen for longest first
}

type entry[K comparable] struct {
	key  K
	rate *rate.Limiter
	seen time.Time // the last time, or when it has waited for that
}

// Allow reports whether the key may do it once more, and counts that it does.
func (l *Limiter[K]) Allow(key K, now time.Time) bool {
	if l.Rate == rate.Inf {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.of(key, now).rate.AllowN(now, 1)
}

// Reserve counts that the key does it n times, whether or not it may, and returns
// for how long it is to do nothing more. More than Burst counts as that.
func (l *Limiter[K]) Reserve(key K, n int, now time.Time) (wait time.Duration) {
	if l.Rate == rate.Inf {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.of(key, now)
	wait = e.rate.ReserveN(now, min(n, l.Burst)).DelayFrom(now)
	e.seen = now.Add(wait) // from then on it has some left again
	return wait
}

// of returns what is known of a key that does something now. Caller holds mu.
func (l *Limiter[K]) of(key K, now time.Time) *entry[K] {
	l.forget(now)
	e := l.keys[key]
	if e == nil {
		if l.keys == nil {
			l.keys = make(map[K]*list.Element)
		}
		e = l.recent.PushBack(&entry[K]{key: key, rate: rate.NewLimiter(l.Rate, l.Burst)})
		l.keys[key] = e
	}
	l.recent.MoveToBack(e)
	v := e.Value.(*entry[K])
	if now.After(v.seen) {
		v.seen = now
	}
	return v
}

// forget drops those that have their whole burst again: they are as if they had
// never been here. One that has to wait holds up those behind it as long. Caller
// holds mu.
func (l *Limiter[K]) forget(now time.Time) {
	whole := time.Duration(float64(l.Burst) / float64(l.Rate) * float64(time.Second))
	for e := l.recent.Front(); e != nil; e = l.recent.Front() {
		v := e.Value.(*entry[K])
		if now.Sub(v.seen) < whole {
			return
		}
		l.recent.Remove(e)
		delete(l.keys, v.key)
	}
}
