package punch

import (
	"errors"
	"slices"
	"time"
)

// ErrSpoiled is the end of a race of which a pair of ports was spoiled: another
// race, from another port, may succeed.
var ErrSpoiled = errors.New("the pair of ports is spoiled")

// spoilTime is how long a pair of ports that met a refusal has, once both ends
// try: a lost SYN is sent again after a second.
const spoilTime = 1200 * time.Millisecond

// spoil ends the Wait of a race with ErrSpoiled if nothing comes of it in time.
// It runs once a plain attempt was refused, or found its tuple taken: the other
// end's SYN may have come between two of ours, to a NAT that remembers the
// sequence number of the first and lets neither the SYN-ACK nor any later SYN
// out. Nothing that the same port can do helps then, for minutes. It ends with
// the race.
func (r *Race) spoil() {
	select {
	case <-r.keyed:
	case <-r.ctx.Done():
		return
	}
	if r.sleep(spoilTime) && r.barren() {
		close(r.spoiled)
	}
}

// barren reports whether nothing has come of attempts that are all plain, though
// there was hope. Where ports are foreseen or guessed, a plain one is the least.
func (r *Race) barren() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.arrive == 0 && !r.final && !slices.ContainsFunc(r.tries, func(t *Try) bool {
		return len(t.Ports) > 0 || t.Fresh > 1 || !t.Connected.IsZero() && t.Method != Relay
	})
}
