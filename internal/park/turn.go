package park

import (
	"sync"
	"time"
)

// A turn says whose a connection is: that of a goroutine which serves it, or
// of the lot in which it waits. It sees to it that a wait ends once.
type turn struct {
	wake func(readable bool) // immutable

	mu      sync.Mutex // guards following
	waiting bool       // or resting
	poked   bool       // Wake came while it was served
	rest    *time.Timer
}

// begin begins a wait with arm, which does not block, and in whose time no
// wait ends. If there is a reason not to wait, wake goes on at once.
func (t *turn) begin(arm func() error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.poked:
		t.poked = false
		go t.wake(false) // serves, and ends in the next wait or with the connection
	case arm() != nil:
		go t.wake(true) // it is closed, or cannot be waited for: the read tells
	default:
		t.waiting = true
	}
}

// end ends the wait and reports whether there was one, whose wake is then the
// caller's to call.
func (t *turn) end() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	was := t.waiting
	t.awake()
	return was
}

// poke is end, but for those that don't wait it ends the next wait.
func (t *turn) poke() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	was := t.waiting
	t.poked = t.poked || !was
	t.awake()
	return was
}

// awake ends a wait. Caller holds mu.
func (t *turn) awake() {
	t.waiting = false
	if t.rest != nil {
		t.rest.Stop()
		t.rest = nil
	}
}
