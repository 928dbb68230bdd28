package stunt

import (
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/gostunt/stunt/internal/resume"
	"github.com/gostunt/stunt/internal/secure"
	"github.com/gostunt/stunt/internal/sock"
)

// Conn is a connection to a peer: a whole [net.Conn], with half-close, over one
// kernel TCP connection at a time. Methods may be called from several goroutines.
type Conn struct {
	rw   stream       // raw in Raw mode, records over a TCP connection in Encrypted mode
	raw  *net.TCPConn // nil in Encrypted mode
	peer Peer

	resumption *resumption // nil: it can't be resumed

	mu      sync.Mutex   // guards following
	records *secure.Conn // under the path; nil in Raw mode
	settle  func()       // ends a move that may be under way, before Close: the peer acts on it, too. Nil: there is none
	path    Path
	closed  bool
	onClose []func() // each runs once
	lost    error    // why it was given up; nil: it was not
}

// stream is what both modes offer.
type stream interface {
	net.Conn
	CloseWrite() error
}

// overTCP is a stream in records.
type overTCP interface{ NetConn() net.Conn }

// Peer returns the verified other end.
func (c *Conn) Peer() Peer { return c.peer }

// Path returns how the connection came about. It changes when the connection
// moves from a relay to a direct path, or is resumed, which a [Trace] is told of.
func (c *Conn) Path() Path {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.path
}

// Read implements [io.Reader].
func (c *Conn) Read(b []byte) (int, error) {
	n, err := c.rw.Read(b)
	return n, c.told("read", err)
}

// Write implements [io.Writer].
func (c *Conn) Write(b []byte) (int, error) {
	n, err := c.rw.Write(b)
	return n, c.told("write", err)
}

// Close closes the connection and unblocks Read and Write. While a move from a
// relay to a direct path is under way it waits for the peer's part in that, for a
// round trip usually and 2 s at most.
//
// What was written before goes out first. Close waits a second at most for the
// kernel to take it. A connection in records is then read in the background, for
// nobody, until the peer has ended its stream, too, or for 5 s: what comes for a
// socket that is closed would make the kernel drop what the peer has not got. The
// Close of its node waits a second for that, and ends it. In Raw mode it is the
// kernel's own close, and may drop that. With [Config.Resume], what the peer has not
// got is sent over another path if need be, for Config.ResumeTimeout at most, and
// while the process and its node live.
func (c *Conn) Close() error {
	c.settled()
	err := c.rw.Close()
	c.mu.Lock()
	c.closed = true
	run, lost := c.onClose, c.lost
	c.onClose = nil
	c.mu.Unlock()
	for _, f := range run {
		f()
	}
	if lost != nil {
		return nil // it was closed before, and not by the caller
	}
	return err
}

// Abort breaks the connection off. The peer reads what has arrived, and then
// sees an error and no end. Close it all the same.
func (c *Conn) Abort() {
	if c.resumption != nil {
		c.resumption.stream.Abort()
		return
	}
	sock.Abort(c.NetConn())
}

// settled ends the move that is under way, if one is.
func (c *Conn) settled() {
	c.mu.Lock()
	settle := c.settle
	c.mu.Unlock()
	if settle != nil {
		settle()
	}
}

func (c *Conn) isClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

// whenClosed has f called after Close, or now if that was before.
func (c *Conn) whenClosed(f func()) {
	c.mu.Lock()
	closed := c.closed
	if !closed {
		c.onClose = append(c.onClose, f)
	}
	c.mu.Unlock()
	if closed {
		f()
	}
}

// CloseWrite tells the peer that no more bytes come; its Read returns io.EOF
// after the last. Reading goes on.
func (c *Conn) CloseWrite() error { return c.told("close", c.rw.CloseWrite()) }

// lose breaks the connection off: whoever uses it, or does later, is told why.
// One that can be resumed loses its path.
func (c *Conn) lose(why error) {
	if c.resumption != nil {
		c.resumption.stream.Break(why)
		return
	}
	c.mu.Lock()
	first := c.lost == nil && !c.closed
	if first {
		c.lost = why
	}
	c.mu.Unlock()
	if first {
		sock.Abort(c.NetConn())
	}
}

// told returns what the caller of op is told of an error.
func (c *Conn) told(op string, err error) error {
	if err == nil || err == io.EOF { // the end that the peer has sent is one
		return err
	}
	c.mu.Lock()
	why := c.lost
	c.mu.Unlock()
	if errors.Is(err, resume.ErrGaveUp) {
		why = meaning{ErrNotResumed, plain(err)}
	}
	if why == nil {
		return err
	}
	return opError(op, why, c.LocalAddr(), c.RemoteAddr())
}

// LocalAddr returns the local *net.TCPAddr, of the path that Write uses now.
func (c *Conn) LocalAddr() net.Addr { return c.rw.LocalAddr() }

// RemoteAddr returns the peer's *net.TCPAddr on the path that Write uses now: its
// own, that of its NAT, or the relay's.
func (c *Conn) RemoteAddr() net.Addr { return c.rw.RemoteAddr() }

// SetDeadline implements [net.Conn].
func (c *Conn) SetDeadline(t time.Time) error { return c.rw.SetDeadline(t) }

// SetReadDeadline implements [net.Conn].
func (c *Conn) SetReadDeadline(t time.Time) error { return c.rw.SetReadDeadline(t) }

// SetWriteDeadline implements [net.Conn].
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.rw.SetWriteDeadline(t) }

// NetConn returns the TCP connection underneath, to set its options: the one that
// Write uses now, as a move or a resume changes it. In Encrypted mode reading from it or
// writing to it corrupts the stream.
func (c *Conn) NetConn() *net.TCPConn {
	if records, ok := c.rw.(overTCP); ok {
		return records.NetConn().(*net.TCPConn)
	}
	return c.raw
}

// SyscallConn implements [syscall.Conn] in Raw mode. In Encrypted mode there is
// none: [os.File] and package net write to whatever has one by sendfile and
// splice, past the encryption. NetConn gives the socket to set options on.
func (c *Conn) SyscallConn() (syscall.RawConn, error) {
	if c.raw == nil {
		return nil, errors.ErrUnsupported
	}
	return c.raw.SyscallConn()
}

// ReadFrom implements [io.ReaderFrom]. In Raw mode the kernel may copy, by
// sendfile or splice.
func (c *Conn) ReadFrom(r io.Reader) (int64, error) {
	if c.raw != nil {
		n, err := c.raw.ReadFrom(bare(r))
		return n, c.told("write", err)
	}
	n, err := io.Copy(onlyWriter{c.rw}, r)
	return n, c.told("write", err)
}

// WriteTo implements [io.WriterTo]. In Raw mode the kernel may copy, by splice.
func (c *Conn) WriteTo(w io.Writer) (int64, error) {
	if c.raw != nil {
		n, err := c.raw.WriteTo(w)
		return n, c.told("read", err)
	}
	n, err := io.Copy(w, onlyReader{c.rw})
	return n, c.told("read", err)
}

// bare takes a Raw conn, limited or not, for the TCP connection that it is:
// package net splices from nothing else.
func bare(r io.Reader) io.Reader {
	switch r := r.(type) {
	case *Conn:
		if r.raw != nil {
			return r.raw
		}
	case *io.LimitedReader:
		if c, ok := r.R.(*Conn); ok && c.raw != nil {
			r.R = c.raw // for io.CopyN, which made it; N stays the caller's to read
		}
	}
	return r
}

// onlyWriter and onlyReader hide ReadFrom and WriteTo, lest io.Copy call them again.
type (
	onlyWriter struct{ io.Writer }
	onlyReader struct{ io.Reader }
)
