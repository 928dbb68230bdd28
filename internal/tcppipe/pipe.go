// Package tcppipe is a TCP connection without a kernel, for tests that live in a synctest bubble: each direction holds so
// many bytes and no more, has a deadline and an end, loses what is under way when it breaks, and who closes with bytes unread
// resets the connection.
package tcppipe

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// End is one end of a connection: a [net.Conn] with CloseWrite.
type End struct {
	name    string
	in, out *flow
}

// flow is one direction.
type flow struct {
	room int

	mu            sync.Mutex // guards following
	buf           []byte
	fin           bool // the writer sends no more
	gone          bool // the reader is closed
	broken        error
	read, written time.Time // deadlines
	changed       chan struct{}
}

// New returns the two ends of a connection with room for so many bytes each way. Their addresses have the name, with a or b
// behind it.
func New(name string, room int) (a, b *End) {
	x, y := &flow{room: room, changed: make(chan struct{})}, &flow{room: room, changed: make(chan struct{})}
	return &End{name + "a", x, y}, &End{name + "b", y, x}
}

// change makes f's caller the only one at the flow, and wakes those who wait.
func (f *flow) change(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do()
	close(f.changed)
	f.changed = make(chan struct{})
}

// wait calls try until it reports true, the deadline is over, or the flow breaks.
func (f *flow) wait(deadline *time.Time, try func() bool) error {
	for {
		var err error
		var changed chan struct{}
		var until time.Time
		done := false
		f.mu.Lock()
		switch until, changed = *deadline, f.changed; {
		case f.broken != nil:
			err = f.broken
		case !until.IsZero() && !time.Now().Before(until):
			err = os.ErrDeadlineExceeded
		default:
			done = try()
		}
		f.mu.Unlock()
		if done || err != nil {
			return err
		}
		var timer <-chan time.Time
		if !until.IsZero() {
			timer = time.After(time.Until(until))
		}
		select {
		case <-changed:
		case <-timer:
		}
	}
}

// Read implements [io.Reader].
func (e *End) Read(p []byte) (n int, err error) {
	f := e.in
	var end error
	err = f.wait(&f.read, func() bool {
		switch {
		case f.gone:
			end = net.ErrClosed
		case len(f.buf) > 0 || len(p) == 0:
			n = copy(p, f.buf)
			f.buf = f.buf[n:]
		case f.fin:
			end = io.EOF
		default:
			return false
		}
		return true
	})
	if n > 0 {
		f.change(func() {}) // there is room
	}
	if err == nil {
		err = end
	}
	return n, err
}

// Write implements [io.Writer].
func (e *End) Write(p []byte) (n int, err error) {
	f := e.out
	for err == nil && n < len(p) {
		m := 0
		var closed error
		err = f.wait(&f.written, func() bool {
			m = min(len(p)-n, f.room-len(f.buf))
			switch {
			case f.fin:
				closed = net.ErrClosed
			case f.gone:
				closed = syscall.EPIPE
			case m == 0:
				return false
			default:
				f.buf = append(f.buf, p[n:n+m]...)
			}
			return true
		})
		if err == nil {
			err = closed
		}
		if err == nil {
			f.change(func() {}) // there is something to read
			n += m
		}
	}
	return n, err
}

// CloseWrite ends the direction in which this end writes.
func (e *End) CloseWrite() error {
	e.out.change(func() { e.out.fin = true })
	return nil
}

// Close sends what was written, unless something is unread: then it loses all of both directions.
func (e *End) Close() error {
	lost := false
	e.in.change(func() {
		lost = len(e.in.buf) > 0
		e.in.gone = true
	})
	e.out.change(func() { e.out.fin = true })
	if lost {
		e.Reset(syscall.ECONNRESET)
	}
	return nil
}

// Reset breaks the connection, as a router that has lost its state does.
func (e *End) Reset(err error) {
	e.in.fail(err)
	e.out.fail(err)
}

// ResetOut does so in the direction in which this end writes.
func (e *End) ResetOut(err error) { e.out.fail(err) }

// fail loses what is under way in one direction.
func (f *flow) fail(err error) { f.change(func() { f.buf, f.broken = nil, err }) }

// Closed reports whether Close was called.
func (e *End) Closed() bool {
	e.in.mu.Lock()
	defer e.in.mu.Unlock()
	return e.in.gone
}

// SetDeadline implements [net.Conn].
func (e *End) SetDeadline(t time.Time) error {
	e.SetReadDeadline(t)
	return e.SetWriteDeadline(t)
}

// SetReadDeadline implements [net.Conn].
func (e *End) SetReadDeadline(t time.Time) error {
	e.in.change(func() { e.in.read = t })
	return nil
}

// SetWriteDeadline implements [net.Conn].
func (e *End) SetWriteDeadline(t time.Time) error {
	e.out.change(func() { e.out.written = t })
	return nil
}

// LocalAddr returns an [Addr].
func (e *End) LocalAddr() net.Addr { return Addr(e.name) }

// RemoteAddr returns an [Addr]: that of this end, too.
func (e *End) RemoteAddr() net.Addr { return Addr(e.name) }

// Addr is the name of an end.
type Addr string

// Network returns "pipe".
func (Addr) Network() string { return "pipe" }

// String returns the name.
func (a Addr) String() string { return string(a) }
