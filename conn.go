package stunt

import (
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"time"
)

// Conn is a connection to a peer: a whole [net.Conn], with half-close, over one
// kernel TCP connection, to the peer or to a relay. Methods may be called from several goroutines.
type Conn struct {
	tcp     *net.TCPConn
	rw      stream // tcp itself in Raw mode, records over it in Encrypted mode
	peer    Peer
	path    Path
	onClose func() // runs once
	once    sync.Once
}

// stream is what both modes offer.
type stream interface {
	net.Conn
	CloseWrite() error
}

// Peer returns the verified other end.
func (c *Conn) Peer() Peer { return c.peer }

// Path returns how the connection came about.
func (c *Conn) Path() Path { return c.path }

// Read implements [io.Reader].
func (c *Conn) Read(b []byte) (int, error) { return c.rw.Read(b) }

// Write implements [io.Writer].
func (c *Conn) Write(b []byte) (int, error) { return c.rw.Write(b) }

// Close closes the connection and unblocks Read and Write.
func (c *Conn) Close() error {
	err := c.rw.Close()
	c.once.Do(func() {
		if c.onClose != nil {
			c.onClose()
		}
	})
	return err
}

// CloseWrite tells the peer that no more bytes come; its Read returns io.EOF
// after the last. Reading goes on.
func (c *Conn) CloseWrite() error { return c.rw.CloseWrite() }

// LocalAddr returns the local *net.TCPAddr.
func (c *Conn) LocalAddr() net.Addr { return c.tcp.LocalAddr() }

// RemoteAddr returns the peer's *net.TCPAddr: its own, or that of its NAT; with
// [Relayed] it is the relay's.
func (c *Conn) RemoteAddr() net.Addr { return c.tcp.RemoteAddr() }

// SetDeadline implements [net.Conn].
func (c *Conn) SetDeadline(t time.Time) error { return c.rw.SetDeadline(t) }

// SetReadDeadline implements [net.Conn].
func (c *Conn) SetReadDeadline(t time.Time) error { return c.rw.SetReadDeadline(t) }

// SetWriteDeadline implements [net.Conn].
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.rw.SetWriteDeadline(t) }

// NetConn returns the TCP connection underneath, to set its options. In
// Encrypted mode reading from it or writing to it corrupts the stream.
func (c *Conn) NetConn() *net.TCPConn { return c.tcp }

// SyscallConn implements [syscall.Conn] in Raw mode. In Encrypted mode there is
// none: [os.File] and package net write to whatever has one by sendfile and
// splice, past the encryption. NetConn gives the socket to set options on.
func (c *Conn) SyscallConn() (syscall.RawConn, error) {
	if c.rw != stream(c.tcp) {
		return nil, errors.ErrUnsupported
	}
	return c.tcp.SyscallConn()
}

// ReadFrom implements [io.ReaderFrom]. In Raw mode the kernel may copy, by
// sendfile or splice.
func (c *Conn) ReadFrom(r io.Reader) (int64, error) {
	if c.rw == stream(c.tcp) {
		return c.tcp.ReadFrom(bare(r))
	}
	return io.Copy(onlyWriter{c.rw}, r)
}

// WriteTo implements [io.WriterTo]. In Raw mode the kernel may copy, by splice.
func (c *Conn) WriteTo(w io.Writer) (int64, error) {
	if c.rw == stream(c.tcp) {
		return c.tcp.WriteTo(w)
	}
	return io.Copy(w, onlyReader{c.rw})
}

// bare takes a Raw conn, limited or not, for the TCP connection that it is:
// package net splices from nothing else.
func bare(r io.Reader) io.Reader {
	switch r := r.(type) {
	case *Conn:
		if r.rw == stream(r.tcp) {
			return r.tcp
		}
	case *io.LimitedReader:
		if c, ok := r.R.(*Conn); ok && c.rw == stream(c.tcp) {
			r.R = c.tcp // for io.CopyN, which made it; N stays the caller's to read
		}
	}
	return r
}

// onlyWriter and onlyReader hide ReadFrom and WriteTo, lest io.Copy call them again.
type (
	onlyWriter struct{ io.Writer }
	onlyReader struct{ io.Reader }
)
