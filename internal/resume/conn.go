package resume

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/gostunt/stunt/internal/secure"
)

// farewell is how long Close and Abort wait until the kernel has taken what is to be said. It takes no time unless
// the path is full or dead.
const farewell = time.Second

// ErrGaveUp is why a connection ended that had no path for too long.
var ErrGaveUp = errors.New("no other path in time")

// errBroken is what a connection ends with that the other end has broken off.
var errBroken = syscall.ECONNRESET

// Config is one end of a connection.
type Config struct {
	// Timeout is how long the connection waits for another path, and how long after Close for the other end to take
	// what it has not got. Positive.
	Timeout time.Duration
	// Idle is how long a path may be silent before it is asked for a sign of life, and Silence how long one that owes
	// an answer may be before it is given up. Positive.
	Idle, Silence time.Duration
	// Lost is called when there is no path any more, with what the path ended with. The owner gives another one with
	// Attach, or ends the connection with Fail. Over is called once, when the connection needs no path any more.
	// Both are called from goroutines of the connection, and must not block.
	Lost func(error)
	Over func()
}

// Conn is a whole [net.Conn] with CloseWrite over one path at a time, or none for a while. Methods may be called from
// several goroutines.
//
// Write returns when its bytes are kept: they go out as the other end takes them, on this path or another. Close
// returns when the kernel has taken all of them, after a second at most; what the other end has not got by then is
// sent in the background, for as long as the connection waits for a path. The other end is told that nobody reads any
// more, and its Write fails with EPIPE.
type Conn struct {
	cfg    Config
	writer chan struct{} // of capacity 1: who is in it is the one Write, as of a file

	wg sync.WaitGroup // what runs for paths; added to under mu, and not once over

	mu       sync.Mutex // guards following
	readable sync.Cond  // there is something for Read to look at
	writable sync.Cond  // and for Write and Close
	work     sync.Cond  // and for send
	path     *path      // nil: none now
	records  *secure.Conn
	out      sending
	in       receiving
	reader   *reader // a Read that waits, if one does
	reads    deadline
	writes   deadline
	end      ending
}

// ending is how the connection ends.
type ending struct {
	closed bool        // by the program
	why    error       // it failed; nil: it has not
	over   bool        // no path is needed any more
	timer  *time.Timer // gives up: without a path, or after Close
	since  time.Time   // when the last path died; zero: there is one that works
	last   error       // what that ended with
}

// New returns a connection that waits for its first path.
func New(cfg Config) *Conn {
	c := &Conn{cfg: cfg, writer: make(chan struct{}, 1)}
	c.readable.L, c.writable.L, c.work.L = &c.mu, &c.mu, &c.mu
	c.out.room, c.in.room = window, window
	c.out.limit, c.in.granted = window, window
	return c
}

// Read reads what has arrived. It goes on to do so when the connection has failed.
func (c *Conn) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	waits := reader{p: p}
	defer func() {
		if c.reader == &waits {
			c.reader = nil
		}
	}()
	for {
		switch {
		case waits.n > 0:
			return waits.n, nil
		case c.end.closed:
			return 0, c.opError("read", net.ErrClosed)
		case c.reads.over():
			return 0, c.opError("read", os.ErrDeadlineExceeded)
		case len(p) == 0:
			return 0, nil
		case c.in.len() > 0:
			return c.take(p), nil
		case c.in.ended:
			return 0, io.EOF
		case c.end.why != nil:
			return 0, c.opError("read", c.end.why)
		}
		if c.reader == nil {
			c.reader = &waits
		}
		c.readable.Wait()
	}
}

// take copies what is there and fits. The caller holds mu.
func (c *Conn) take(p []byte) (n int) {
	for n < len(p) {
		from := c.in.at(c.in.begin, c.in.end)
		if len(from) == 0 {
			break
		}
		m := copy(p[n:], from)
		c.in.drop(c.in.begin + uint64(m))
		n += m
	}
	if c.stateDue(c.path) {
		c.work.Signal()
	}
	return n
}

// Write takes p, as there is room. After CloseWrite it fails with syscall.EPIPE.
func (c *Conn) Write(p []byte) (int, error) {
	c.writer <- struct{}{}
	defer func() { <-c.writer }()
	c.mu.Lock()
	defer c.mu.Unlock()
	total := 0
	for {
		if err := c.writeError(); err != nil {
			return total, c.opError("write", err)
		}
		if c.path != nil {
			c.out.grow()
		}
		n := min(len(p)-total, c.out.room-c.out.len(), chunkSize)
		c.out.add(p[total : total+n])
		total += n
		switch {
		case n == 0 && len(p) > total:
			c.writable.Wait()
			continue
		case n > 0:
			c.work.Signal()
		}
		if total == len(p) {
			return total, nil
		}
		c.mu.Unlock() // for send, and for what arrives
		c.mu.Lock()
	}
}

// writeError says why nothing can be written. The caller holds mu.
func (c *Conn) writeError() error {
	switch {
	case c.end.closed:
		return net.ErrClosed
	case c.end.why != nil:
		return c.end.why
	case c.out.finished, c.out.stopped:
		return syscall.EPIPE
	case c.writes.over():
		return os.ErrDeadlineExceeded
	}
	return nil
}

// CloseWrite ends the stream behind what was written. Reading goes on.
func (c *Conn) CloseWrite() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.end.closed:
		return c.opError("close", net.ErrClosed)
	case c.end.why != nil:
		return c.opError("close", c.end.why)
	}
	c.out.finished = true
	c.wakeAll()
	return nil
}

// Close ends both directions: see Conn. Calls after the first return nil.
func (c *Conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.end.closed {
		return nil
	}
	c.end.closed, c.out.finished = true, true
	c.in.drop(c.in.end)
	if p := c.path; p != nil {
		p.ackNow = true // it says that nobody reads
	}
	c.reads.stop()
	c.writes.stop()
	c.wakeAll()
	if c.end.over || c.end.why != nil {
		return nil
	}
	if c.end.timer == nil {
		c.linger(c.out.acked)
	}
	c.waitSaid()
	return nil
}

// linger ends a connection that was closed, and whose other end takes nothing for too long, although there is a path. The
// caller holds mu.
func (c *Conn) linger(acked uint64) {
	c.end.timer = time.AfterFunc(c.cfg.Timeout, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		switch {
		case c.end.over, c.end.why != nil, !c.end.since.IsZero():
		case c.out.acked > acked:
			c.linger(c.out.acked)
		default:
			c.fail(ErrGaveUp)
		}
	})
}

// Abort breaks the connection off: the other end reads what has arrived, and then sees an error. After it there is
// nothing to close.
func (c *Conn) Abort() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.end.over || c.end.why != nil {
		return
	}
	c.end.why = net.ErrClosed
	c.wakeAll()
	if c.path == nil {
		c.finish()
		return
	}
	c.path.bye(c)
	c.waitSaid()
}

// waitSaid waits until the kernel has taken what send has to say, or it can't, for a second at most. The caller holds mu.
func (c *Conn) waitSaid() {
	late := false
	timer := time.AfterFunc(farewell, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		late = true
		c.writable.Broadcast()
	})
	defer timer.Stop()
	for !late && c.path != nil && !c.said(c.path) {
		c.writable.Wait()
	}
}

// said reports whether send has nothing more to say. The caller holds mu.
func (c *Conn) said(p *path) bool {
	if p.leaving || c.end.why != nil {
		return p.left
	}
	return !c.out.busy && !c.stateDue(p) && (p.endSent || c.out.stopped)
}

// fail ends the connection with an error. The caller holds mu.
func (c *Conn) fail(why error) {
	if c.end.over || c.end.why != nil {
		return
	}
	c.end.why = why
	if p := c.path; p != nil {
		c.wg.Go(p.records.Abort)
	}
	c.finish()
}

// Fail ends the connection with an error, which Read returns behind what has arrived.
func (c *Conn) Fail(why error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fail(why)
}

// finish is called when no path is needed any more. The caller holds mu.
func (c *Conn) finish() {
	if c.end.over {
		return
	}
	c.end.over, c.path = true, nil
	if c.end.timer != nil {
		c.end.timer.Stop()
	}
	c.out.release(true)
	c.wakeAll()
	c.wg.Go(c.cfg.Over) // which may ask us something
}

func (c *Conn) wakeAll() {
	c.readable.Broadcast()
	c.writable.Broadcast()
	c.work.Broadcast()
}

// Wait waits until nothing of a connection that is over or has failed runs any more.
func (c *Conn) Wait() { c.wg.Wait() }

// Waiting reports whether the connection needs a path and has none.
func (c *Conn) Waiting() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.path == nil && !c.end.over
}

// Err returns why the connection ended before its time; nil: it has not.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.end.why
}
