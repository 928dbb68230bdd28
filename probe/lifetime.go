package probe

import (
	"context"
	"math"
	"sync"
	"time"

	"github.com/gostunt/stunt/internal/sock"
)

const (
	// How many idle times are tried side by side, each a quarter longer than
	// the one before: NATs are set to 1, 2, 5, 15, 60 and 124 minutes.
	rungs    = 16
	rungStep = 1.25

	// An answer that is later than this did not come.
	idleGrace = 2 * time.Second
)

// idle finds out how long an idle connection keeps its mapping, up to
// p.lifetime: of connections that are opened together each has the server
// answer after another time. The answer is a packet from the outside, as a
// peer's would be, and the first after the silence.
func (p *prober) idle(ctx context.Context) {
	var wg sync.WaitGroup
	for rung := range rungs {
		d := time.Duration(float64(p.lifetime) / math.Pow(rungStep, float64(rung)))
		wg.Go(func() {
			if p.idleFor(ctx, d) {
				p.note(func(f *facts) { f.lifetime = max(f.lifetime, d) })
			}
		})
	}
	wg.Wait()
}

// idleFor reports whether a connection lives through being idle for d.
func (p *prober) idleFor(ctx context.Context, d time.Duration) bool {
	door, s, err := p.openDoor(ctx)
	if err != nil {
		return false
	}
	defer door.close()
	defer sock.Abort(s.TCPConn)
	ctx, cancel := context.WithTimeout(ctx, d+idleGrace)
	defer cancel()
	began := time.Now()
	a, err := exchange(ctx, s, ask{hold: d})
	lives := err == nil && a.mapped == s.mapped && time.Since(began) >= d-d/100 // a server over its limit answers at once
	p.log.Debug("idle", "phase", "lifetime", "for", d.String(), "lives", lives, "err", err)
	return lives
}
