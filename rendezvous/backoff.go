package rendezvous

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"
)

const (
	firstDelay = 250 * time.Millisecond

	// farDelay is the longest wait when a connection was made and then
	// nothing came of it: each attempt costs the server a handshake.
	farDelay = 15 * time.Second

	// nearDelay is the longest wait when no connection was made. A SYN costs
	// nobody anything, and a listener should be back within seconds of its
	// server; the crowd that then comes is held off by the server's limit on
	// handshakes, which puts those turned away on the longer delay.
	nearDelay = 4 * time.Second

	// stableTime is how long a session must have lasted for its end to be
	// news, and not one more failure.
	stableTime = 10 * time.Second

	// maxLeave bounds how long a draining server can ask a client to stay away.
	maxLeave = time.Minute
)

// A visit is what came of one attempt at one server.
type visit struct {
	err       error
	connected bool          // TCP stood
	lasted    time.Duration // the session, from its Welcome
	notBefore time.Time     // when a draining server wants to be rid of us
}

// A round is the order in which servers are visited, and how fast. It belongs
// to one goroutine.
type round struct {
	servers  []ServerAddr // those left
	at       int
	failures int // since the last stable session
	struck   bool
}

func (r *round) server() ServerAddr { return r.servers[r.at] }

// strike takes the present server out for good and reports whether any is left.
func (r *round) strike() bool {
	r.servers = slices.Delete(slices.Clone(r.servers), r.at, r.at+1)
	r.struck, r.failures = true, 0 // the pace was set by one that is gone
	return len(r.servers) > 0
}

// next moves on to the next server and returns how long to wait before it: a
// random time below a bound that doubles with every round over all servers.
func (r *round) next(v visit) time.Duration {
	if !r.struck {
		r.at++
	}
	r.at %= len(r.servers)
	r.struck = false
	if v.lasted >= stableTime || !v.notBefore.IsZero() {
		r.failures = 0
	}
	if wait := time.Until(v.notBefore); wait > 0 {
		return wait // has been drawn at random
	}
	longest := farDelay
	if !v.connected {
		longest = nearDelay
	}
	bound := min(firstDelay<<min(r.failures/len(r.servers), 10), longest)
	r.failures++
	return rand.N(bound)
}

// sleep waits and reports whether ctx still stands.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
