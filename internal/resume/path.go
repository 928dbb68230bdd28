package resume

import (
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/gostunt/stunt/internal/secure"
)

const (
	// ackEvery is how many bytes arrive before the other end is told at once; an eighth of what it may send, at first, before
	// it has to wait for that.
	ackEvery = window / 8

	// ackDelay is how long it waits otherwise. Its memory is all that is at stake: what it asks is answered at once.
	ackDelay = 25 * time.Millisecond

	// leaveTimeout is how long the last words on a path may take, and how long a path may be silent that is doubted.
	leaveTimeout = 3 * time.Second
)

var (
	errReplaced = errors.New("the connection goes on over another path")
	errSilent   = errors.New("the path is silent")
)

// gaveUp is ErrGaveUp with what is known of it.
type gaveUp struct {
	within time.Duration
	last   error // what the last path ended with
}

func (e *gaveUp) Error() string {
	return fmt.Sprintf("no other path within %v; the last: %v", e.within, e.last)
}

func (e *gaveUp) Unwrap() []error { return []error{ErrGaveUp, e.last} }

// path is a connection in records, with the two goroutines that write and read it: they end when it is not the one of
// its Conn any more. All is guarded by the lock of that.
type path struct {
	records *secure.Conn
	synced  bool // we know where our stream goes on
	endSent bool
	ackNow  bool        // a state is due
	asked   bool        // the other end has asked for it
	ask     bool        // we have something to ask, too
	told    bool        // it knows that nobody reads any more
	delay   *time.Timer // sets ackNow; nil: not running
	leaving bool        // send is to say goodbye, and end
	left    bool        // it has

	heard time.Time // when something came last
	owed  time.Time // since when the other end owes us something; zero: it does not
	due   time.Time // when watch looks next
	timer *time.Timer

	sent chan struct{} // closed when send has ended
	gone chan struct{} // closed when all has
}

// Attach gives the connection a path, its first or another, and takes over conn unless it returns an error. The
// session is of conn's own handshake. It waits until nothing of the last path runs any more. What it returns is for
// [secure.Conn.Move].
func (c *Conn) Attach(s *secure.Session, conn net.Conn) (*secure.Conn, error) {
	p := &path{sent: make(chan struct{}), gone: make(chan struct{})}
	records, err := s.ControlConn(conn, func(b []byte) error { return c.control(p, b) })
	if err != nil {
		return nil, err
	}
	p.records = records
	for {
		c.mu.Lock()
		old := c.path
		if c.end.over || c.end.why != nil {
			c.mu.Unlock()
			return nil, net.ErrClosed
		}
		if old == nil {
			c.begin(p)
			c.mu.Unlock()
			return records, nil
		}
		c.mu.Unlock()
		c.broke(old, errReplaced)
		<-old.gone
	}
}

// begin starts a path. The caller holds mu.
func (c *Conn) begin(p *path) {
	p.synced = c.records == nil // the first begins at the beginning
	p.ackNow = !p.synced
	c.path, c.records = p, p.records
	p.heard = time.Now()
	p.due = p.heard.Add(c.cfg.Idle)
	p.timer = time.AfterFunc(c.cfg.Idle, func() { c.watch(p) })
	if !p.synced {
		c.owe(p, c.cfg.Silence)
	}
	c.wg.Go(func() { c.send(p) })
	c.wg.Go(func() { c.receive(p) })
}

// Break gives up the path, if there is one.
func (c *Conn) Break(why error) {
	c.mu.Lock()
	p := c.path
	c.mu.Unlock()
	if p != nil {
		c.broke(p, why)
	}
}

// Doubt has the other end asked whether the path still works, and gives it up if there is no answer within 3 s.
func (c *Conn) Doubt() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.path; p != nil && !p.leaving {
		p.ask = true
		c.work.Signal()
		c.owe(p, leaveTimeout)
	}
}

// send writes what is to be written, until the path is not the one of c any more. It is started by begin; receive waits for it.
func (c *Conn) send(p *path) {
	defer close(p.sent)
	var err error
	for err == nil {
		c.mu.Lock()
		msg, data, more := c.next(p)
		c.mu.Unlock()
		switch {
		case !more:
			return
		case data != nil:
			_, err = p.records.Write(data)
			c.wrote()
		case msg != nil:
			err = p.records.Control(msg)
			c.wrote()
		default:
			p.records.CloseWrite() // if it fails, receive is told
			c.mu.Lock()
			p.left = true
			c.writable.Broadcast()
			c.mu.Unlock()
			return
		}
	}
	c.broke(p, err)
}

// next waits for what is to be written: a control record, data, or nothing more. Then nothing at all is the goodbye. It
// reports false if the path is not ours any more. The caller holds mu.
func (c *Conn) next(p *path) (msg, data []byte, more bool) {
	for ; ; c.work.Wait() {
		switch {
		case c.path != p:
			return nil, nil, false
		case p.leaving:
			return nil, nil, true
		case c.stateDue(p):
			return c.state(p), nil, true
		case c.done(p):
			p.bye(c)
			return nil, nil, true
		case !p.synced:
			continue
		}
		if data := c.out.at(c.out.next, c.out.limit); len(data) > 0 {
			c.out.busy, c.out.from = true, c.out.next
			c.out.next += uint64(len(data))
			c.out.most = max(c.out.most, c.out.next)
			c.owe(p, c.cfg.Silence)
			return nil, data, true
		}
		if c.out.finished && !c.out.stopped && !p.endSent && c.out.next == c.out.end {
			p.endSent, c.out.most = true, c.out.end+1
			c.out.busy, c.out.from = true, c.out.next
			c.owe(p, c.cfg.Silence)
			return appendEnd(nil, c.out.end), nil, true
		}
	}
}

// wrote is called when the kernel has taken something.
func (c *Conn) wrote() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.out.busy {
		c.out.busy = false
		c.out.release(c.end.over)
		c.writable.Broadcast()
	}
}

// stateDue reports whether the other end is to be told how far we have got. The caller holds mu.
func (c *Conn) stateDue(p *path) bool {
	if p == nil || c.path != p || p.leaving {
		return false
	}
	return p.ackNow || p.asked || p.ask || c.in.have()-c.in.told >= ackEvery || c.in.limit()-c.in.granted >= window/4
}

// state makes the record that says it. The caller holds mu.
func (c *Conn) state(p *path) []byte {
	c.in.grow()
	s := state{answer: p.ask, stop: c.end.closed, received: c.in.have(), limit: c.in.limit()}
	c.in.told, c.in.granted = s.received, s.limit
	p.ackNow, p.asked, p.ask = false, false, false
	p.told = p.told || s.stop
	c.out.busy, c.out.from = true, c.out.next // for who waits until all is said
	return s.append(nil)
}

// done reports whether both directions are over, as far as this end is concerned. The caller holds mu.
func (c *Conn) done(p *path) bool {
	out := c.out.stopped || c.out.finished && c.out.acked > c.out.end
	in := c.in.ended || c.end.closed && p.told
	return out && in
}

// bye has send say goodbye, and bounds what that and the other end's goodbye may take. The caller holds mu.
func (p *path) bye(c *Conn) {
	p.leaving, p.due = true, time.Now().Add(leaveTimeout)
	c.work.Signal()
	p.timer.Reset(leaveTimeout)
}

// receive reads the path until that ends, and closes it. It is started by begin; Attach waits for it.
func (c *Conn) receive(p *path) {
	defer close(p.gone)
	var violation, err error
	for err == nil && violation == nil {
		err = p.records.ReadRecord(func(b []byte) { violation = c.arrived(p, b) })
	}
	if violation != nil {
		err = violation
	}
	if c.settle(p, err) {
		<-p.sent
		p.records.Close()
		return
	}
	p.records.Abort()
	<-p.sent
}

// settle decides what the end of a path means. It reports whether the two ends have left it in peace.
func (c *Conn) settle(p *path, err error) bool {
	c.mu.Lock()
	mine := c.path == p
	p.stop()
	switch {
	case !mine:
	case c.done(p) || c.end.why != nil: // however it ended: nobody needs it any more
		c.finish()
		c.mu.Unlock()
		return errors.Is(err, io.EOF)
	case errors.Is(err, ErrProtocol):
		c.fail(err)
	case err == io.EOF:
		c.fail(errBroken)
	default:
		c.mu.Unlock()
		c.broke(p, err)
		return false
	}
	c.mu.Unlock()
	return false
}

// broke gives up a path, and has the owner told if the connection needs another one.
func (c *Conn) broke(p *path, err error) {
	c.mu.Lock()
	mine := c.path == p
	if mine {
		p.stop()
		c.path = nil
		if c.done(p) || c.end.why != nil {
			c.finish()
		} else {
			c.wait(err)
		}
	}
	lost := mine && !c.end.over && err != errReplaced
	c.writable.Broadcast()
	c.work.Broadcast()
	c.mu.Unlock()
	p.records.Abort()
	if lost {
		c.cfg.Lost(err)
	}
}

// wait begins the time in which another path must be found, unless it runs already. The caller holds mu.
func (c *Conn) wait(err error) {
	c.end.last = err
	if !c.end.since.IsZero() {
		return
	}
	if c.end.timer != nil {
		c.end.timer.Stop()
	}
	since := time.Now()
	c.end.since = since
	c.end.timer = time.AfterFunc(c.cfg.Timeout, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.end.since.Equal(since) {
			c.fail(&gaveUp{c.cfg.Timeout, c.end.last})
		}
	})
}

// works is called when the other end has said where our stream goes on. The caller holds mu.
func (c *Conn) works() {
	if c.end.since.IsZero() {
		return
	}
	c.end.since, c.end.last = time.Time{}, nil
	c.end.timer.Stop()
	c.end.timer = nil
	if c.end.closed {
		c.linger(c.out.acked)
	}
}

// stop ends the timers of a path. The caller holds mu.
func (p *path) stop() {
	p.timer.Stop()
	if p.delay != nil {
		p.delay.Stop()
	}
}
