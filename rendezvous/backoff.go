package rendezvous

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"syscall"
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
	// handshakes, which puts those turned away on the longer delay, at once.
	nearDelay = 4 * time.Second

	// stableTime is how long a session must have lasted for its end to be
	// news, and not one more failure.
	stableTime = 10 * time.Second

	// maxRelapses bounds how often the time between two looks for a preferred
	// server doubles, because its sessions don't last: to eight minutes.
	maxRelapses = 4

	// looks is in which part of its spread everybody looks for a lost server: for
	// each registration that the server could do meanwhile it gets so many
	// attempts, which cost it that much less.
	looks = 16

	// maxLeave bounds how long a draining server can ask a client to stay away,
	// and maxSpread how long one that is gone can have asked it to.
	maxLeave, maxSpread = time.Minute, time.Minute
)

// Found is what there was where a client looked for a server.
type Found int

const (
	FoundNobody Found = iota // no TCP connection came about
	FoundGone                // it was refused: the machine is there, and no server on it
	FoundServer              // one did, and nothing came of it, or a session that did not last
	FoundFull                // it was reset before there was a session: the server has enough to do
)

// foundBy tells of an attempt that came to no TLS connection.
func foundBy(err error, connected bool) Found {
	switch {
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		// At times this comes before we know that we were connected. Where nobody
		// listens the connection is refused.
		return FoundFull
	case connected:
		return FoundServer
	case errors.Is(err, syscall.ECONNREFUSED):
		return FoundGone
	}
	return FoundNobody
}

// A visit is what came of one attempt at one server.
type visit struct {
	err       error
	found     Found
	lasted    time.Duration // the session, from its Welcome
	earlier   *arrival      // why it ended, if it did for a server that is preferred
	notBefore time.Time     // when a draining server wants to be rid of us
	spread    time.Duration // what the server said of the return of all
}

// outlived reports whether a session stood, and ended with its token: the next
// one may have another.
func (v visit) outlived() bool { return v.lasted > 0 && errors.Is(v.err, CodeTokenExpired) }

// A round is the order in which servers are visited, and how fast. It belongs
// to one goroutine.
type round struct {
	servers  []ServerAddr // those left
	at       int
	failures int  // since the last stable session
	relapses int  // times in a row that going back to a preferred server was no good
	returned bool // the present visit is to one that we went back to
	struck   bool
	spread   time.Duration // of the last session, see Backoff
}

func (r *round) server() ServerAddr { return r.servers[r.at] }

// strike takes the present server out for good and reports whether any is left.
func (r *round) strike() bool {
	r.servers = slices.Delete(slices.Clone(r.servers), r.at, r.at+1)
	r.struck, r.failures = true, 0 // the pace was set by one that is gone
	return len(r.servers) > 0
}

// back makes the server at the index the next one; v has ended for it.
func (r *round) back(at int, v visit) {
	r.judge(v)
	r.at, r.returned, r.struck = at, true, false
}

// restart begins a new round, without a wait: the world is another one.
func (r *round) restart() {
	r.at, r.failures, r.struck, r.returned, r.spread = 0, 0, false, false, 0
}

// judge learns from a visit whether it was good to go back there.
func (r *round) judge(v visit) {
	switch {
	case !r.returned:
	case v.lasted >= stableTime:
		r.relapses = 0
	default:
		r.relapses = min(r.relapses+1, maxRelapses)
	}
	r.returned = false
}

// next moves on and returns how long to wait before the next visit: a
// random time below a bound that doubles with every round over all servers.
// After a session that lasted, a new round begins at the first server, where
// everybody else will be. One that says goodbye is left for the next.
func (r *round) next(v visit) time.Duration {
	r.judge(v)
	switch {
	case r.struck:
	case v.lasted >= stableTime && v.notBefore.IsZero():
		r.at = 0
	default:
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
	if v.lasted > 0 {
		r.spread = v.spread
	}
	rounds := r.failures / len(r.servers)
	wait := Backoff(rounds, v.found, r.spread)
	if r.failures++; v.found == FoundFull && rounds > 0 {
		r.spread = 0 // it has been waited for
	}
	return wait
}

// Backoff returns how long a client should wait before it tries a server again,
// after so many failures in a row, by what it found the last time. It is a
// random time (full jitter), so that those who lost a server together do not
// come back together, and those whom it has turned away are spread at once: its
// own work is what they would have it wait for.
//
// spread is for how long all who were there keep the server busy when they come
// back, as it said itself. It counts where it is sure that others have lost the
// server, too: where it is gone, or turns clients away, the first time. A first
// look, soon, tells that from a session that was lost for a reason of its own.
//
// A Client waits so by itself.
func Backoff(failures int, found Found, spread time.Duration) time.Duration {
	spread = min(spread, maxSpread)
	bound := min(firstDelay<<min(failures, 10), farDelay)
	switch {
	case failures == 0:
		bound = max(bound, spread/looks)
	case found == FoundNobody:
		bound = min(bound, nearDelay)
	case found == FoundGone:
		bound = max(min(bound, nearDelay), spread)
	case found == FoundFull:
		bound = max(farDelay, spread)
	}
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
