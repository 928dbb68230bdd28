package punch

import (
	"context"
	"time"

	"github.com/gostunt/stunt/internal/sock"
	"github.com/gostunt/stunt/relay"
)

const (
	// maxTriesOfRelay bounds how often a relay that refuses the connection is
	// tried: it is down, or restarts.
	maxTriesOfRelay = 3
	// relayMargin is how long before the end of a dial's ctx a relay that is
	// there is taken, though the window for direct paths is still open.
	relayMargin = 500 * time.Millisecond
)

// viaRelay is attempt for the relay. Owned by the race; it ends when a path is
// chosen, too.
func (r *Race) viaRelay(t *Try) {
	timer := time.NewTimer(t.Start)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.detour.Done():
		return
	}
	r.event(Fired, t.To, Relay, nil)
	for n := 1; ; n++ {
		stood, err := r.meetAtRelay(t)
		if r.detour.Err() != nil {
			return // whatever it was, it was our own end
		}
		r.note(t, func() { t.Err = err })
		if err == nil {
			return
		}
		r.failed(t.To, Relay, err)
		// A ticket serves once: once it is sent there is no second try.
		if stood || n == maxTriesOfRelay || !again(err) || !r.sleep(pause(false, 0)) {
			return
		}
	}
}

// meetAtRelay opens a stream and has the other end prove itself over it. It
// reports whether the connection to the relay stood.
func (r *Race) meetAtRelay(t *Try) (stood bool, err error) {
	preamble, err := relay.Preamble(t.Ticket)
	if err != nil {
		return true, err
	}
	pending, err := r.start(t, target{sock.Unspecified(t.To.Addr(), 0), t.To})
	if err != nil {
		return false, err
	}
	c, err := pending.Wait(r.detour)
	if err != nil {
		return false, err
	}
	now := time.Now()
	r.note(t, func() { t.Connected = now })
	r.event(Connected, t.To, Relay, nil)
	if _, err := c.Write(preamble); err != nil { // the first bytes of a connection do not wait
		sock.Abort(c)
		return true, err
	}
	return true, r.prove(&Path{Conn: c, Remote: t.To, Method: Relay, Connected: now}, nil)
}

// life bounds what is done on a path before it is chosen. A stream at a relay
// is of no use beside the path that was; the others linger.
func (r *Race) life(p *Path) context.Context {
	if p.Method == Relay {
		return r.detour
	}
	return r.ctx
}

// relayFrom returns when a relay may be chosen: at once where nothing direct is
// to be expected, or can be taken later, else when direct paths have had their
// time.
func (r *Race) relayFrom(ctx context.Context) time.Time {
	if r.cfg.Moves {
		return time.Time{}
	}
	r.mu.Lock()
	at := r.relayAt
	r.mu.Unlock()
	if end, ok := ctx.Deadline(); ok && end.Add(-relayMargin).Before(at) {
		return end.Add(-relayMargin)
	}
	return at
}

// ripe tells when the relay that is in hand may be chosen; never, if none is.
func (r *Race) ripe(ctx context.Context, inHand *Path) <-chan time.Time {
	if inHand == nil {
		return nil
	}
	return time.After(time.Until(r.relayFrom(ctx)))
}
