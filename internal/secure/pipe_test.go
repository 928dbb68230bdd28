package secure

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/nettest"
)

// pipeEnd is one end of a TCP connection that needs no kernel, so that it lives in a synctest bubble: each direction holds so
// many bytes and no more, has a deadline and an end, and who closes with bytes unread resets the connection.
type pipeEnd struct {
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

func newPipe(name string, room int) (a, b *pipeEnd) {
	x, y := &flow{room: room, changed: make(chan struct{})}, &flow{room: room, changed: make(chan struct{})}
	return &pipeEnd{name + "a", x, y}, &pipeEnd{name + "b", y, x}
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

func (e *pipeEnd) Read(p []byte) (n int, err error) {
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

func (e *pipeEnd) Write(p []byte) (n int, err error) {
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

func (e *pipeEnd) CloseWrite() error {
	e.out.change(func() { e.out.fin = true })
	return nil
}

// Close sends what was written, unless something is unread: then it loses all of both directions.
func (e *pipeEnd) Close() error {
	lost := false
	e.in.change(func() {
		lost = len(e.in.buf) > 0
		e.in.gone = true
	})
	e.out.change(func() { e.out.fin = true })
	if lost {
		e.reset(syscall.ECONNRESET)
	}
	return nil
}

// reset breaks the connection, as a router that has lost its state does.
func (e *pipeEnd) reset(err error) {
	e.in.fail(err)
	e.out.fail(err)
}

// fail loses what is under way in one direction.
func (f *flow) fail(err error) { f.change(func() { f.buf, f.broken = nil, err }) }

func (e *pipeEnd) closed() bool {
	e.in.mu.Lock()
	defer e.in.mu.Unlock()
	return e.in.gone
}

func (e *pipeEnd) SetDeadline(t time.Time) error {
	e.SetReadDeadline(t)
	return e.SetWriteDeadline(t)
}

func (e *pipeEnd) SetReadDeadline(t time.Time) error {
	e.in.change(func() { e.in.read = t })
	return nil
}

func (e *pipeEnd) SetWriteDeadline(t time.Time) error {
	e.out.change(func() { e.out.written = t })
	return nil
}

func (e *pipeEnd) LocalAddr() net.Addr  { return pipeAddr(e.name) }
func (e *pipeEnd) RemoteAddr() net.Addr { return pipeAddr(e.name) }

type pipeAddr string

func (pipeAddr) Network() string  { return "pipe" }
func (a pipeAddr) String() string { return string(a) }

// TestPipe holds the tests' own pipe to the definition of a net.Conn.
func TestPipe(t *testing.T) {
	nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
		a, b := newPipe("", 1000)
		return a, b, func() { a.Close(); b.Close() }, nil
	})
	a, b := newPipe("", 10)
	a.Write([]byte("x"))
	b.Close()
	_, err := a.Read(make([]byte, 1))
	require.ErrorIs(t, err, syscall.ECONNRESET, "closed with a byte unread")
}
