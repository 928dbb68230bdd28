package secure

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

const (
	// maxLegs bounds the connections under one Conn. One more than one is needed while it moves, and further ones when it
	// moves again before the program has read what came over the first.
	maxLegs = 4

	// moveTimeout is how long a Read that was told to go on elsewhere waits for Move to say where. The word came over the
	// old leg, and the new one stood before it was sent; what may take time is the new leg's last message, which both
	// ends' calls of Move wait for: TCP sends it again after 0.2, 0.6, 1.4, 3, 6.2 s.
	moveTimeout = 10 * time.Second
)

var (
	errSwitched = errors.New("secure: the peer goes on over another connection") // not an end: ask follow
	errMoving   = errors.New("secure: too many moves at once")
	errNotMoved = errors.New("secure: the peer went on over a connection that this end was never given")
)

// legs are the connections that carry a Conn: one, or several while it moves. The two directions change from each to the
// next on their own, and a leg that both have left is closed.
type legs struct {
	mu            sync.Mutex // guards following, and the setting of deadlines on all
	all           []net.Conn // in the order of the moves
	in, out       int        // the places of the two directions in all
	inOver        bool       // the peer has sent its last record
	outOver       bool       // we have
	readDeadline  time.Time
	writeDeadline time.Time
	moving        bool          // moveOut runs
	changed       chan struct{} // if not nil, closed at the next change of any of the above
}

// Move lets the connection go on over another TCP connection to the same peer, which must be given the other end of it: what
// is written from now on goes there, behind a switch record that ends the old leg's stream; what is read comes from the old
// leg until the peer's switch record. Nothing is lost, repeated or reordered, and deadlines hold on. A Write under way goes over
// at its next record. The old leg is closed when both directions have left it.
//
// Move does not block, and takes to over unless it returns an error. Both ends must be sure that the other will move, too:
// one that is told to go on and was given nowhere to go waits for 10 s and is then dead. If to breaks, the connection
// is broken; the old leg may break as soon as the switch records have come through.
func (c *Conn) Move(to net.Conn) error {
	l := &c.legs
	l.mu.Lock()
	defer l.mu.Unlock()
	if dead := c.dead.Load(); dead != nil {
		return l.opError("move", *dead)
	}
	if len(l.all) == maxLegs {
		return l.opError("move", errMoving)
	}
	if err := errors.Join(to.SetReadDeadline(l.readDeadline), to.SetWriteDeadline(l.writeDeadline)); err != nil {
		return err
	}
	l.all = append(l.all, to)
	l.leave()
	if !l.outOver && !l.moving {
		l.moving = true
		c.wg.Go(c.moveOut)
	}
	return nil
}

// moveOut brings the sending direction to the newest leg, for a program that does not write. It ends when it is there, or
// cannot get there; Close ends it and waits for it. A deadline of the program's that has passed holds it up until there is
// another: the lock must not be held for longer than the program's own calls may wait for it.
func (c *Conn) moveOut() {
	for {
		changed := c.legs.watch()
		c.lockOut()
		err := c.turn()
		c.unlockOut()
		if errors.Is(err, os.ErrDeadlineExceeded) && c.dead.Load() == nil {
			<-changed
		} else if c.legs.settled(err) {
			return
		}
	}
}

// turn brings the sending direction to the newest leg. The caller holds outMu.
func (c *Conn) turn() error {
	for c.legs.behind() {
		if dead := c.dead.Load(); dead != nil {
			return *dead
		}
		if err := c.flush(); err != nil {
			return err
		}
		if c.out.shut || !c.legs.behind() {
			return nil
		}
		if err := c.out.sealSwitch(); err != nil {
			return err
		}
	}
	return nil
}

// flush writes what is pending, and if that ends with a switch record goes over to the next leg. The caller holds outMu.
func (c *Conn) flush() error {
	if err := c.out.flush(c.to); err != nil {
		return err
	}
	if c.out.switching {
		c.out.switching, c.out.sent = false, 0 // the new leg begins slowly, too
		c.to = c.legs.advance(&c.legs.out)
	} else if c.out.shut {
		c.over(&c.legs.outOver)
	}
	return nil
}

// follow goes over to the leg where the peer's records go on, and waits for the Move that brings it. The caller holds inMu.
func (c *Conn) follow() error {
	l := &c.legs
	for {
		changed := l.watch()
		l.mu.Lock()
		here, deadline := l.in+1 < len(l.all), l.readDeadline
		l.mu.Unlock()
		now, end := time.Now(), c.in.switched.Add(moveTimeout)
		switch dead := c.dead.Load(); {
		case dead != nil:
			return *dead
		case here:
			c.from, c.in.switched = l.advance(&l.in), time.Time{}
			return nil
		case !deadline.IsZero() && !now.Before(deadline):
			return c.opError("read", os.ErrDeadlineExceeded)
		case !now.Before(end):
			return errNotMoved
		case !deadline.IsZero() && deadline.Before(end):
			end = deadline
		}
		timer := time.NewTimer(end.Sub(now))
		select {
		case <-changed:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// glance is how long Close looks for the peer's last word, which has either come or is not waited for.
const glance = time.Millisecond

// settle reads the peer's last words, before the legs are closed: one that is closed with bytes unread resets the connection,
// which loses what is still to go out, and a relay passes that on ahead of what was written. The close record is read if
// it is there, where plain TCP would have a FIN, which is no unread byte; the switch records that must still come are
// waited for. It stops at what the program has not read, which Linger takes. It reports whether the peer has ended. Called by
// close only.
func (c *Conn) settle() (over bool) {
	c.inMu.Lock() // after a Read that waited, which its deadline has ended
	defer c.inMu.Unlock()
	for end := time.Now().Add(farewell); !c.in.eof; {
		patience := time.Now().Add(glance)
		if c.legs.unsettled() {
			patience = end
		}
		c.from.SetReadDeadline(patience)
		if _, err := c.in.read(c.from, nil); err != errSwitched || !c.legs.unsettled() {
			break
		}
		c.from, c.in.switched = c.legs.advance(&c.legs.in), time.Time{}
	}
	c.in.drop()
	return c.in.eof
}

// unsettled reports whether the receiving direction has a leg to go to.
func (l *legs) unsettled() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.inOver && l.in+1 < len(l.all)
}

// over notes that a direction has ended.
func (c *Conn) over(direction *bool) {
	c.legs.mu.Lock()
	defer c.legs.mu.Unlock()
	if !*direction {
		*direction = true
		c.legs.leave()
	}
}

// advance takes a direction to the next leg, and returns it.
func (l *legs) advance(direction *int) net.Conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	*direction++
	next := l.all[*direction]
	l.leave()
	return next
}

// leave closes the legs that both directions have left; what the kernel has of ours still goes out. The caller holds mu.
func (l *legs) leave() {
	newest := len(l.all) - 1
	if l.inOver {
		l.in = newest
	}
	if l.outOver {
		l.out = newest
	}
	for min(l.in, l.out) > 0 {
		l.all[0].Close()
		l.all = l.all[1:]
		l.in, l.out = l.in-1, l.out-1
	}
	l.wake()
}

// behind reports whether the sending direction has a leg to go to.
func (l *legs) behind() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out+1 < len(l.all)
}

// settled reports whether moveOut, with the error of its last try, has nothing more to do; then it must end.
func (l *legs) settled(err error) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.moving = err == nil && !l.outOver && l.out+1 < len(l.all)
	return !l.moving
}

// current returns the leg that Write uses.
func (l *legs) current() net.Conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all[l.out]
}

// opError is that of Conn for a caller that holds mu.
func (l *legs) opError(op string, err error) error {
	leg := l.all[l.out]
	return &net.OpError{Op: op, Net: leg.LocalAddr().Network(), Source: leg.LocalAddr(), Addr: leg.RemoteAddr(), Err: err}
}

// setDeadlines sets both.
func (l *legs) setDeadlines(read, write time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.each(func(leg net.Conn) error {
		return errors.Join(leg.SetReadDeadline(read), leg.SetWriteDeadline(write))
	})
}

// close closes all legs. There is no Move after it: the connection is dead.
func (l *legs) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.each(net.Conn.Close)
}

// abort closes all legs without a word.
func (l *legs) abort() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.each(func(leg net.Conn) error {
		if c, ok := leg.(interface{ SetLinger(sec int) error }); ok {
			c.SetLinger(0)
		}
		return leg.Close()
	})
}

// each calls f for all legs, and wakes who watches. The caller holds mu.
func (l *legs) each(f func(net.Conn) error) error {
	defer l.wake()
	if len(l.all) == 1 {
		return f(l.all[0])
	}
	var errs []error
	for _, leg := range l.all {
		errs = append(errs, f(leg))
	}
	return errors.Join(errs...)
}

// watch returns a channel that is closed at the next change.
func (l *legs) watch() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.changed == nil {
		l.changed = make(chan struct{})
	}
	return l.changed
}

// wake tells who watches. The caller holds mu.
func (l *legs) wake() {
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}
