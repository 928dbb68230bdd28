package punch

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/gostunt/stunt/internal/sock"
)

const (
	// retryMin and retryMax bound the pause before the same port tries again
	// after a RST or an ICMP error; random in between, so that two ends whose
	// SYNs miss each other do not miss each other for ever.
	retryMin, retryMax = 20 * time.Millisecond, 200 * time.Millisecond
	// In the first moments the other end's SYN is on its way, and must find the
	// connecting socket that our NAT last heard of: the SYN-ACK of another one, or
	// of the listening one, has another sequence number, which a NAT that tracks
	// connections drops, for as long as the tuple lives. So there the pauses are
	// short, hastyMin to twice that, but between the SYNs lies hastyCycle at least.
	hasty, hastyMin, hastyCycle = 400 * time.Millisecond, 2 * time.Millisecond, 15 * time.Millisecond
	// maxTries bounds the SYNs that an attempt sends to one address, and
	// maxTriesOfFew those of an attempt at a window of ports to each.
	maxTries, maxTriesOfFew = 80, 8
	// few is how many ports an attempt may name and still be patient with each.
	// More is guessing: one SYN a port, and out of the budget.
	few = 64
)

// target is one tuple to connect: from a local to a remote address.
type target struct{ local, remote netip.AddrPort }

// targets returns the tuples of an attempt, in the order of their SYNs.
func (r *Race) targets(a Attempt) []target {
	punching := r.cfg.Port.Local(a.To.Addr())
	switch {
	case a.Fresh > 0 && len(a.Ports) > 0:
		var ts []target
		for range a.Fresh {
			port, err := r.morePort()
			if err != nil {
				break // the ports that we have must do
			}
			a.Fresh = 0
			for _, x := range r.targets(a) {
				ts = append(ts, target{port.Local(a.To.Addr()), x.remote})
			}
		}
		return ts
	case a.Fresh > 0:
		ts := make([]target, a.Fresh)
		for i := range ts {
			ts[i] = target{sock.Unspecified(a.To.Addr(), 0), a.To}
		}
		return ts
	case len(a.Ports) > 0:
		ts := make([]target, len(a.Ports))
		for i, port := range a.Ports {
			ts[i] = target{punching, netip.AddrPortFrom(a.To.Addr(), port)}
		}
		return ts
	}
	return []target{{punching, a.To}}
}

// morePort opens one more punching port, for as long as the race lasts.
func (r *Race) morePort() (*Port, error) {
	port, err := OpenPort(r.ctx, r.cfg.Port.net, r.cfg.Door.Knock)
	if err == nil {
		r.wg.Go(func() {
			<-r.ctx.Done()
			port.Close()
		})
	}
	return port, err
}

// attempt sends the SYNs of one attempt, in order, and has each socket pursued
// until one of them gives a path or all are hopeless. Owned by the race.
func (r *Race) attempt(t *Try) {
	if t.Method == Relay {
		r.viaRelay(t)
		return
	}
	if !r.sleep(t.Start) {
		return
	}
	ts := r.targets(t.Attempt)
	ctx, patience, guess := r.ctx, maxTries, false
	switch {
	case len(ts) > few:
		ctx, patience, guess = r.hunt, 1, true
	case len(ts) > 1:
		ctx, patience = r.hunt, maxTriesOfFew
	case t.Stranger:
		patience = maxTriesOfStranger
	}
	if guess {
		if err := r.pay(ctx, len(ts)); err != nil {
			r.note(t, func() { t.Err = err })
			r.failed(t.To, t.Method, err)
			return
		}
		// Early in and early out: sockets that nobody answers are others' guesses.
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		defer time.AfterFunc(guessHold, cancel)
	}
	r.event(Fired, t.To, t.Method, nil)
	for i, x := range ts {
		if guess && r.cfg.Budget.pace(ctx) != nil {
			r.cfg.Budget.Return(len(ts) - i)
			return
		}
		var p *sock.Pending
		var err error
		if guess {
			p, err = r.start(t, x)
		} else {
			p, err = r.startPlain(ctx, t, x)
		}
		r.wg.Go(func() {
			r.pursue(ctx, t, x, p, err, patience)
			if guess {
				r.cfg.Budget.Return(1)
			}
		})
	}
}

// guessHold is how long the sockets of a guess are kept after its last SYN: the
// other end may send the same number, and each once more after a second.
const guessHold = 2 * time.Second

// pay takes the sockets of a guess. A listener waits for them, and a dialer that
// can begin over a relay meanwhile; another one, who can begin again when they
// are there, gives the race up.
func (r *Race) pay(ctx context.Context, n int) error {
	r.mu.Lock()
	prepaid := r.prepaid >= n
	if prepaid {
		r.prepaid -= n
	}
	patient := !r.cfg.Dialer || r.cfg.Moves && r.relayed
	r.mu.Unlock()
	switch {
	case prepaid:
		return nil
	case patient:
		return r.cfg.Budget.Take(ctx, n)
	}
	err := r.cfg.Budget.try(n)
	var busy *BusyError
	if errors.As(err, &busy) {
		r.mu.Lock()
		r.busy = busy
		r.expiry.Reset(0)
		r.mu.Unlock()
	}
	return err
}

// start sends one SYN.
func (r *Race) start(t *Try, x target) (*sock.Pending, error) {
	r.note(t, func() {
		t.SYNs++
		if t.Fired.IsZero() {
			t.Fired = time.Now()
		}
	})
	return r.cfg.Port.net.Start(x.local, x.remote, 0)
}

// startPlain sends one SYN that is no guess, when the budget lets it.
func (r *Race) startPlain(ctx context.Context, t *Try, x target) (*sock.Pending, error) {
	if err := r.cfg.Budget.plain(ctx, t.Attempt, x.remote.Addr()); err != nil {
		return nil, err
	}
	return r.start(t, x)
}

// pursue waits for what comes of a SYN, and sends it again from the same port
// while there is sense in that.
func (r *Race) pursue(ctx context.Context, t *Try, x target, p *sock.Pending, err error, patience int) {
	began := time.Now()
	sent := began
	for n := 1; ; n++ {
		if err == nil {
			err = r.connected(ctx, t, x, p)
		}
		if ctx.Err() != nil {
			return // whatever it was, it was our own end
		}
		r.note(t, func() { t.Err = err })
		if err == nil {
			return
		}
		if patience > maxTriesOfFew || t.Stranger { // of many, one is no news
			r.failed(x.remote, t.Method, err)
		}
		plain := patience == maxTries
		if plain && r.cfg.Again && (again(err) || sock.Classify(err) == sock.AddrNotAvail) {
			r.spoilOnce.Do(func() { r.wg.Go(r.spoil) })
		}
		inHaste := plain && time.Since(began) < hasty
		if n == patience || !again(err) || !r.sleep(pause(inHaste, time.Since(sent))) {
			return
		}
		if t.Prime > 0 && !inHaste {
			r.prime(ctx, t, x)
		}
		sent = time.Now()
		p, err = r.startPlain(ctx, t, x)
	}
}

// pause returns how long to wait before the same port tries again, after a SYN
// that was sent so long ago.
func pause(inHaste bool, ago time.Duration) time.Duration {
	if inHaste {
		return max(hastyMin, hastyCycle-ago) + rand.N(hastyMin)
	}
	return retryMin + rand.N(retryMax-retryMin)
}

// primed is how long a hole that a primer opened waits for the other end's SYN
// before ours goes out, which may be answered with the RST that closes it.
const primed = 100 * time.Millisecond

// prime opens our own NAT with a SYN that does not reach the other's. What
// comes in through the hole finds the port's listener: the socket itself dies
// of the ICMP error that its SYN meets on the way, on Linux, or is given up.
func (r *Race) prime(ctx context.Context, t *Try, x target) {
	p, err := r.cfg.Port.net.Start(x.local, x.remote, t.Prime)
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, primed)
	defer cancel()
	r.note(t, func() { t.SYNs++ })
	if c, err := p.Wait(ctx); err == nil {
		sock.Abort(c) // met by the other end's SYN, with a time to live that serves nobody
		return
	}
	<-ctx.Done()
}

// connected waits for a socket to connect and its other end to prove itself.
func (r *Race) connected(ctx context.Context, t *Try, x target, p *sock.Pending) error {
	wait, cancel := ctx, context.CancelFunc(func() {})
	if t.Stranger {
		wait, cancel = context.WithTimeout(ctx, strangerHold)
	}
	c, err := p.Wait(wait)
	cancel()
	if err != nil {
		return err
	}
	now := time.Now()
	r.note(t, func() { t.Connected = now })
	r.event(Connected, x.remote, t.Method, nil)
	return r.prove(&Path{Conn: c, Remote: x.remote, Method: t.Method, Connected: now}, nil)
}

// again reports whether the same tuple may be tried once more after err. A
// timeout is the kernel's last word after many SYNs; a tuple that is not
// available is in use by an arrival, or in TIME_WAIT for a minute.
func again(err error) bool {
	switch sock.Classify(err) {
	case sock.Refused, sock.Reset, sock.Unreachable:
		return true
	}
	return errors.Is(err, errHungUp)
}
