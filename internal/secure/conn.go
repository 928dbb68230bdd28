package secure

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Conn is a connection in records: a whole [net.Conn], with CloseWrite, that can go on over another TCP connection
// ([Conn.Move]). All methods may be called at the same time.
//
// The end of the stream is authenticated. Read returns io.EOF only when the peer has said that it sends no more; a
// connection that ends otherwise, by whoever's hand, returns io.ErrUnexpectedEOF, or the error of the connection underneath if
// no Write was told of it first. A record that was tampered with is a [*RecordError], and the connection is dead in both
// directions.
//
// Deadlines can be passed and moved on. A Write that times out counts the bytes that are encrypted, at most 64 KiB more than
// went out; the rest of them stays first in line, and goes with the next Write (of no bytes even), CloseWrite or Close. So a
// Write may return len(p) and a timeout at once. A Read that times out in the middle of a record goes on from there.
type Conn struct {
	// Late, if it is not nil, is called by the one Close when there is something left to do for the peer: it is to have Linger
	// called, which takes its time. Without it Close ends the connection as it is then. It is set before the first use.
	Late func(*Conn)

	dead      atomic.Pointer[error] // why every call fails: net.ErrClosed, or what killed the connection
	closeOnce sync.Once
	closeErr  error // of the one Close
	legs      legs
	wg        sync.WaitGroup // moveOut; added to under the lock of legs, and not once dead

	inMu sync.Mutex // guards following
	in   reader
	from net.Conn // the leg that in reads

	outMu   chan struct{} // guards following; of capacity 1: who is in it holds the lock. A mutex would do, but for synctest
	out     writer
	to      net.Conn     // the leg that out writes
	writing atomic.Int32 // calls of Write and CloseWrite under way: what Close does not wait for
}

// farewell is how long Close may take to tell the peer that the stream ends here. It takes no time unless the peer has stopped
// reading and everything between is full.
const farewell = time.Second

func newConn(c net.Conn, k *keys) *Conn {
	return &Conn{
		legs: legs{all: []net.Conn{c}},
		in:   reader{half: newHalf(k.in)}, from: c,
		out: writer{half: newHalf(k.out)}, to: c, outMu: make(chan struct{}, 1),
	}
}

// Read reads decrypted bytes, of one record at most. It decrypts into p directly if p has room for the whole record: 32 KiB
// is always enough.
func (c *Conn) Read(p []byte) (int, error) {
	c.inMu.Lock()
	defer c.inMu.Unlock()
	if dead := c.dead.Load(); dead != nil {
		return 0, c.opError("read", *dead)
	}
	if len(p) == 0 {
		return 0, nil
	}
	n, err := c.in.read(c.from, p)
	for err == errSwitched {
		if err = c.follow(); err == nil {
			n, err = c.in.read(c.from, p)
		}
	}
	if err == io.EOF {
		c.over(&c.legs.inOver)
	} else if err != nil {
		err = c.failed("read", err)
	}
	return n, err
}

// Write encrypts p and writes it. After CloseWrite it fails with syscall.EPIPE.
func (c *Conn) Write(p []byte) (int, error) {
	c.writing.Add(1)
	defer c.writing.Add(-1)
	c.lockOut()
	defer c.unlockOut()
	total := 0
	err := c.writable()
	if err == nil {
		err = c.flush() // what an earlier Write left
	}
	for err == nil && total < len(p) {
		var n int
		n, err = c.push(p[total:])
		total += n
	}
	if err != nil {
		err = c.failed("write", err)
	}
	return total, err
}

// ReadRecord is Read for who has room of its own: it waits for a record of data and hands it to take, which must not
// keep it. While it waits no memory is lent to it.
func (c *Conn) ReadRecord(take func(plain []byte)) error {
	c.inMu.Lock()
	defer c.inMu.Unlock()
	if dead := c.dead.Load(); dead != nil {
		return c.opError("read", *dead)
	}
	_, err := c.in.read(c.from, nil)
	for err == errSwitched {
		if err = c.follow(); err == nil {
			_, err = c.in.read(c.from, nil)
		}
	}
	switch err {
	case nil:
		take(c.in.plain)
		c.in.plain = nil
		c.in.release()
	case io.EOF:
		c.over(&c.legs.inOver)
	default:
		err = c.failed("read", err)
	}
	return err
}

// Control writes a record for the other end's control function, of 1 to 64 bytes, behind all that was written before. Both ends
// must be of [Session.ControlConn].
func (c *Conn) Control(p []byte) error {
	if len(p) == 0 || len(p) > maxControl {
		return errLength
	}
	c.writing.Add(1)
	defer c.writing.Add(-1)
	c.lockOut()
	defer c.unlockOut()
	err := c.writable()
	if err == nil {
		err = c.turn()
	}
	if err == nil {
		err = c.flush()
	}
	if err == nil {
		err = c.out.sealControl(p)
	}
	if err == nil {
		err = c.flush()
	}
	if err != nil {
		err = c.failed("write", err)
	}
	return err
}

func (c *Conn) lockOut()   { c.outMu <- struct{}{} }
func (c *Conn) unlockOut() { <-c.outMu }

// push encrypts and writes some of p. It returns how much of p the stream has taken, by the kernel or in pending.
func (c *Conn) push(p []byte) (int, error) {
	if err := c.writable(); err != nil {
		return 0, err
	}
	if err := c.turn(); err != nil {
		return 0, err
	}
	n, err := c.out.seal(p)
	if err != nil {
		return 0, err
	}
	err = c.flush()
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return 0, err
	}
	return n, err
}

// writable says why nothing may be encrypted now. A deadline that has passed is seen here and not by the kernel, where
// it would be too late: a record that is encrypted counts as written.
func (c *Conn) writable() error {
	if dead := c.dead.Load(); dead != nil {
		return *dead
	}
	if c.out.shut {
		return c.opError("write", syscall.EPIPE)
	}
	c.legs.mu.Lock()
	t := c.legs.writeDeadline
	c.legs.mu.Unlock()
	if !t.IsZero() && !time.Now().Before(t) {
		return c.opError("write", os.ErrDeadlineExceeded)
	}
	return nil
}

// CloseWrite tells the peer that no more will come, and closes the sending half of the connection; Read goes on. If it
// times out it may be called again.
func (c *Conn) CloseWrite() error {
	c.writing.Add(1)
	defer c.writing.Add(-1)
	c.lockOut()
	defer c.unlockOut()
	if dead := c.dead.Load(); dead != nil {
		return c.opError("close", *dead)
	}
	if err := c.goodbye(); err != nil {
		return c.failed("close", err)
	}
	if half, ok := c.to.(interface{ CloseWrite() error }); ok {
		if err := half.CloseWrite(); !errors.Is(err, net.ErrClosed) { // it has been left meanwhile, and closed
			return err
		}
	}
	return nil
}

// goodbye writes all that is pending and the close record. The caller holds outMu.
func (c *Conn) goodbye() error {
	if err := c.flush(); err != nil {
		return err
	}
	if err := c.out.sealClose(); err != nil {
		return err
	}
	return c.flush()
}

// Close ends both directions and unblocks everybody. Unless a Write was under way, the peer is told that what it has got is
// all; if a Write was, the peer sees io.ErrUnexpectedEOF. Calls after the first return what it did. What the peer has not got
// is lost if it goes on to write, or to end its own stream, unless there is somebody to linger (see Late).
func (c *Conn) Close() error {
	c.closeOnce.Do(func() { c.closeErr = c.close() })
	return c.closeErr
}

func (c *Conn) close() error {
	alive := c.kill(net.ErrClosed)
	// From here on nobody sets another deadline, and there is no Move.
	err := c.legs.setDeadlines(time.Unix(1, 0), time.Now().Add(farewell))
	defer c.wg.Wait()
	if !alive {
		return nil // what killed the connection has closed it
	}
	if err != nil || c.writing.Load() > 0 {
		return c.legs.close()
	}
	c.lockOut()       // after moveOut at most, which the deadline ends
	err = c.goodbye() // if it fails, the peer sees what happened: no proper end
	c.unlockOut()
	if over := c.settle(); c.Late == nil || over && err == nil || err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return c.legs.close()
	}
	c.Late(c)
	return nil
}

// Abort breaks the connection off: the peer is told nothing, and on TCP gets a RST. It unblocks everybody.
func (c *Conn) Abort() {
	c.kill(net.ErrClosed)
	c.legs.abort()
	c.wg.Wait()
}

// kill makes every later call fail with err. It reports false if the connection was dead already.
func (c *Conn) kill(err error) bool { return c.dead.CompareAndSwap(nil, &err) }

// failed turns an error of one direction into what the caller of op should see, and acts on it.
func (c *Conn) failed(op string, err error) error {
	var refused *RecordError
	if errors.As(err, &refused) || err == errExhausted || err == errNotMoved {
		if c.kill(err) {
			c.legs.close()
		}
	}
	if dead := c.dead.Load(); dead != nil {
		return c.opError(op, *dead)
	}
	return err
}

func (c *Conn) opError(op string, err error) error {
	leg := c.legs.current()
	return &net.OpError{Op: op, Net: leg.LocalAddr().Network(), Source: leg.LocalAddr(), Addr: leg.RemoteAddr(), Err: err}
}

// NetConn returns the connection that Write uses. What is done to it, other than setting options, breaks the stream.
func (c *Conn) NetConn() net.Conn { return c.legs.current() }

// LocalAddr returns the address of the connection that Write uses.
func (c *Conn) LocalAddr() net.Addr { return c.legs.current().LocalAddr() }

// RemoteAddr returns the address of the connection that Write uses.
func (c *Conn) RemoteAddr() net.Addr { return c.legs.current().RemoteAddr() }

// SetDeadline sets both deadlines.
func (c *Conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetReadDeadline sets when Read stops waiting; the zero time is never.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.legs.mu.Lock()
	defer c.legs.mu.Unlock()
	if dead := c.dead.Load(); dead != nil {
		return c.legs.opError("set", *dead)
	}
	c.legs.readDeadline = t
	return c.legs.each(func(leg net.Conn) error { return leg.SetReadDeadline(t) })
}

// SetWriteDeadline sets when Write and CloseWrite stop waiting; the zero time is never.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.legs.mu.Lock()
	defer c.legs.mu.Unlock()
	if dead := c.dead.Load(); dead != nil {
		return c.legs.opError("set", *dead)
	}
	c.legs.writeDeadline = t
	return c.legs.each(func(leg net.Conn) error { return leg.SetWriteDeadline(t) })
}
