package rendezvous

import (
	"fmt"
	"os"
	"time"
)

// silenceParts is in how many parts the time of silence is counted, and so how
// exactly: it ends with the first beat after it. Each beat looks at every
// session, which takes some ten ns for one: no more work than their pings are.
const silenceParts = 8

// errSilent ends the session of a client that is gone, or behind a NAT that has
// forgotten it.
var errSilent = fmt.Errorf("no sign of life: %w", os.ErrDeadlineExceeded)

// interval is the time between two beats.
func (d *door) interval() time.Duration { return max(d.silence/silenceParts, time.Millisecond) }

// tick is one beat, for all sessions, so that an idle one needs no timer of its
// own. Beats are counted and not the time: where the machine stood still nobody
// is to blame. It runs again for as long as somebody is inside.
func (d *door) tick() {
	for _, l := range d.silent() {
		l.close(errSilent)
	}
}

// silent counts the beat and returns those who have been silent for too many.
func (d *door) silent() (gone []*link) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.watch == nil {
		return nil // everybody has just left
	}
	d.watch.Reset(d.interval())
	now := d.beat.Add(1)
	for l, s := range d.conns {
		if s != nil && now-s.beat.Load() > silenceParts {
			gone = append(gone, l)
		}
	}
	return gone
}
