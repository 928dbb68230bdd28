package rendezvous

import (
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/gostunt/stunt/internal/park"
)

const (
	// sendBuffer is what the kernel takes of what a client does not read; Linux
	// doubles it for its own use.
	sendBuffer = 64 << 10

	// maxQueue bounds what waits to be written to one client: some dozen of
	// the largest messages. Who reads slower than that is cut. A client's own
	// queue is bounded by what its callers ask for, and by writeTimeout.
	maxQueue = 512 << 10

	// writeTimeout is for one batch of frames: what does not fit in the buffers
	// of both kernels has not been read for so long.
	writeTimeout = 10 * time.Second

	// lingerTime and lingerBytes bound what is read and thrown away after the
	// last word. Closing with unread data would send a RST, and some systems
	// drop what they have received when one comes.
	lingerTime  = 2 * time.Second
	lingerBytes = 64 << 10
)

var errSlow = errors.New("the peer reads too slowly")

// A link is one end of a session: a connection with an outgoing queue, so that
// no one ever waits for a peer to read. A goroutine writes while there is
// something to write; an idle link has none. Its methods may be called from
// everywhere, but reading belongs to the one goroutine that runs the session.
type link struct {
	conn  net.Conn // TLS
	raw   net.Conn // what conn runs over, closed without waiting for conn's writes
	limit int      // bytes of the queue

	writers sync.WaitGroup

	mu        sync.Mutex // guards following
	spot      park.Spot  // where a server's session waits; nil: its reader blocks
	out       []byte     // frames not yet given to the writer
	writing   bool
	finishing bool  // nothing more is taken; out is the last to be written
	why       error // the reason given to hangUp, or the last word
	err       error // why the link was closed
}

// boundBuffer bounds what the kernel takes for a client that does not read, which
// would be megabytes each: what is more is in our queue, which has a limit.
func boundBuffer(conn net.Conn) {
	switch c := conn.(type) {
	case interface{ SetWriteBuffer(bytes int) error }:
		c.SetWriteBuffer(sendBuffer) // an error leaves it as it was
	case interface{ NetConn() net.Conn }:
		boundBuffer(c.NetConn())
	}
}

func newLink(conn, raw net.Conn, limit int) *link {
	return &link{conn: conn, raw: raw, limit: limit}
}

// send queues whole frames and returns at once. What cannot be written any
// more is dropped: the session's reader sees the end of the link.
func (l *link) send(frames []byte) {
	l.mu.Lock()
	switch {
	case l.err != nil || l.finishing:
		l.mu.Unlock()
		return
	case len(l.out)+len(frames) > l.limit:
		l.mu.Unlock()
		l.close(errSlow)
		return
	}
	l.queue(frames)
	l.mu.Unlock()
}

// hasRoom reports whether n bytes leave half of the queue free. What strangers
// make us send is not sent otherwise, so that they cannot get a client cut.
func (l *link) hasRoom(n int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.out)+n <= l.limit/2
}

// queue appends frames and sees to it that they are written. Caller holds mu.
func (l *link) queue(frames []byte) {
	if l.out == nil {
		l.out = slices.Clip(frames) // the usual case: no copy, and no append into it
	} else {
		l.out = append(l.out, frames...)
	}
	if !l.writing {
		l.writing = true
		l.writers.Go(l.write)
	}
}

// write writes the queue until it is empty. It ends by itself, at the latest
// when the link is closed; wait and flush wait for it.
func (l *link) write() {
	for {
		l.mu.Lock()
		batch, last := l.out, l.finishing
		if l.out = nil; batch == nil || l.err != nil {
			l.writing = false
			if l.err == nil && !last {
				l.conn.SetWriteDeadline(time.Time{}) // an idle link has no timer either
			}
			l.mu.Unlock()
			return
		}
		patience := writeTimeout
		if last {
			patience = lingerTime
		}
		l.conn.SetWriteDeadline(time.Now().Add(patience)) // does not block
		l.mu.Unlock()
		if _, err := l.conn.Write(batch); err != nil {
			l.close(err)
		} else if last {
			closeWrite(l.conn)
		}
	}
}

// finish queues a last word, after which nothing is sent and little is read.
func (l *link) finish(last message) {
	frame, err := encode(last)
	if err != nil {
		l.close(err)
		return
	}
	l.mu.Lock()
	if l.err == nil && !l.finishing {
		if e, ok := last.(*Error); ok {
			l.why = e
		}
		l.queue(frame)
		l.seal()
		l.conn.SetReadDeadline(time.Now().Add(lingerTime))
	}
	l.mu.Unlock()
	l.wake()
}

// attach says where the session waits, for wake.
func (l *link) attach(spot park.Spot) {
	l.mu.Lock()
	l.spot = spot
	l.mu.Unlock()
	l.wake() // finish or close may have come before
}

// wake has a session that waits look what has become of its link.
func (l *link) wake() {
	l.mu.Lock()
	spot := l.spot
	l.mu.Unlock()
	if spot != nil {
		spot.Wake()
	}
}

// flush takes no more frames and waits until those queued are written, for no
// longer than lingerTime.
func (l *link) flush() {
	l.mu.Lock()
	l.seal()
	l.mu.Unlock()
	l.writers.Wait()
}

// hangUp ends the reading, lets nothing more into the queue and does not wait.
// What is queued is written; flush and close follow on the reader's goroutine.
func (l *link) hangUp(reason error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.why == nil {
		l.why = reason
	}
	l.seal()
	l.conn.SetReadDeadline(time.Unix(1, 0)) // long over; does not block
}

// seal lets nothing more into the queue. Caller holds mu.
func (l *link) seal() {
	l.finishing = true
	if l.writing {
		l.conn.SetWriteDeadline(time.Now().Add(lingerTime))
	}
}

// over reports whether finish or close was called.
func (l *link) over() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.finishing || l.err != nil
}

// linger reads, after finish, until the peer has closed or time is up. After
// close it has nothing to read.
func (l *link) linger() {
	l.conn.SetReadDeadline(time.Now().Add(lingerTime))
	io.Copy(io.Discard, io.LimitReader(l.conn, lingerBytes))
}

// expect sets the time by which the next read must be done, d from now; zero
// is never, and a negative one has it take what was received before. A finishing
// link keeps its own.
func (l *link) expect(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.finishing {
		return
	}
	var t time.Time
	if d != 0 {
		t = time.Now().Add(d)
	}
	l.conn.SetReadDeadline(t) // does not block
}

// close ends the link at once. The first reason given is kept.
func (l *link) close(reason error) {
	l.mu.Lock()
	if l.err == nil {
		l.err = reason
	}
	l.mu.Unlock()
	l.raw.Close()
	l.wake()
}

// reason returns why this end has ended the link, or err if it has not.
func (l *link) reason(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.why != nil:
		return l.why
	case l.err != nil:
		return l.err
	}
	return err
}

// wait returns when no goroutine of the link is left; call it after close.
func (l *link) wait() { l.writers.Wait() }

// abort makes a later close of conn send a RST. The closer of a TCP connection
// otherwise keeps its tuple in TIME_WAIT for a minute, in which the same port
// cannot connect to the same server again.
func abort(conn net.Conn) {
	if c, ok := conn.(interface{ SetLinger(int) error }); ok {
		c.SetLinger(0)
	}
}

func closeWrite(conn net.Conn) {
	if c, ok := conn.(interface{ CloseWrite() error }); ok {
		c.CloseWrite()
	}
}
