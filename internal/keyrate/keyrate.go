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
	seen time.Time
}

// Allow reports whether the key may do it once more, and counts that it does.
func (l *Limiter[K]) Allow(key K, now time.Time) bool {
	if l.Rate == rate.Inf {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
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
	v.seen = now
	return v.rate.AllowN(now, 1)
}

// forget drops those that have their whole burst again: they are as if they had
// never been here. Caller holds mu.
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
