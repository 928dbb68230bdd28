package grid

import (
	"sync"
	"time"
)

const (
	// tick is how often the clock is looked at.
	tick = 20 * time.Millisecond
	// tooLong is a standstill that spoils what is measured: a machine that does
	// nothing for five round trips of the table loses the order of SYNs, and
	// the time that a NAT's counter is predicted for.
	tooLong = 500 * time.Millisecond
)

// standstill notes when this machine did not run: one that is shared may be
// stopped for seconds. That happens to all labs alike, whatever they measure,
// so leaving out what they found meanwhile favours no result.
type standstill struct {
	done chan struct{} // closed by close
	wg   sync.WaitGroup

	mu   sync.Mutex // guards following
	last time.Time  // when one ended; zero: never
}

// watch begins to look at the clock. The caller ends it by close.
func watch() *standstill {
	s := &standstill{done: make(chan struct{})}
	s.wg.Go(s.look)
	return s
}

// look ends with close, which waits for it.
func (s *standstill) look() {
	t := time.NewTicker(tick)
	defer t.Stop()
	last := time.Now()
	for {
		select {
		case <-t.C:
			now := time.Now()
			s.saw(last, now)
			last = now
		case <-s.done:
			return
		}
	}
}

// saw notes two looks at the clock, one after the other.
func (s *standstill) saw(last, now time.Time) {
	if now.Sub(last) <= tooLong {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = now
}

// since reports whether the machine stood still after t.
func (s *standstill) since(t time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last.After(t)
}

func (s *standstill) close() {
	close(s.done)
	s.wg.Wait()
}
