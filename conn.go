package stunt

import (
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/gostunt/stunt/internal/secure"
	"github.com/gostunt/stunt/internal/sock"
)

// Conn is a connection to a peer: a whole [net.Conn], with half-close, over one
// kernel TCP connection at a time. Methods may be called from several goroutines.
type Conn struct {
	rw   stream       // raw in Raw mode, records over a TCP connection in Encrypted mode
	raw  *net.TCPConn // nil in Encrypted mode
	peer Peer

	// settle ends a move that may be under way, before Close: the peer acts on
	// it, too. Set before the program has the connection; nil: there is none.
	settle func()

	mu      sync.Mutex // guards following
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

// Peer returns the verified other end.
func (c *Conn) Peer() Peer { return c.peer }

// Path returns how the connection came about. It changes when the connection
// moves from a relay to a direct path, which a [Trace] is told of.
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
func (c *Conn) Close() error {
	if c.settle != nil {
		c.settle()
	}
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
func (c *Conn) lose(why error) {
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
// Write uses now, as a move changes it. In Encrypted mode reading from it or
// writing to it corrupts the stream.
func (c *Conn) NetConn() *net.TCPConn {
	if records, ok := c.rw.(*secure.Conn); ok {
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
