package main

import (
	"context"
	"io"
	"net"
	"sync/atomic"
	"syscall"

	"github.com/gostunt/stunt"
	"github.com/gostunt/stunt/internal/sock"
)

// halfCloser is a connection that can end one direction.
type halfCloser interface {
	net.Conn
	CloseWrite() error
}

// end is a connection that is joined to something else.
type end struct {
	halfCloser
	finished atomic.Bool // we end our direction, or have
}

// finish ends our direction.
func (e *end) finish() error {
	e.finished.Store(true)
	return e.CloseWrite()
}

// leave closes the connection, if our direction has ended; else it is cut.
func (e *end) leave() {
	if !e.finished.Load() {
		cut(e.halfCloser)
	}
	e.Close()
}

// ended returns nil if the end of the stream that a read has found is one that
// the other end has sent. A RST is told only once, and if a write was told, a
// read after it finds an end as after a FIN.
func (e *end) ended() error {
	c := tcp(e.halfCloser)
	if peer, ok := e.halfCloser.(*stunt.Conn); ok {
		if _, err := peer.SyscallConn(); err != nil {
			return nil // Encrypted: the end has proved itself
		}
	}
	// Our own end may be what the connection was waiting for. So it is looked
	// at last, and if it was not under way by then it was not before either.
	if sock.Connected(c) || e.finished.Load() {
		return nil
	}
	return syscall.ECONNRESET
}

// join copies both ways until both have ended, passing each end on by itself,
// or until ctx ends, which cuts both. It returns the bytes that went from a to b
// and from b to a.
func join(ctx context.Context, a, b halfCloser) (ab, ba int64) {
	ea, eb := &end{halfCloser: a}, &end{halfCloser: b}
	defer context.AfterFunc(ctx, func() { cut(a); cut(b) })()
	done := make(chan struct{})
	go func() { // ends when a does; join waits
		defer close(done)
		ab = flow(eb, ea)
	}()
	ba = flow(ea, eb)
	<-done
	return ab, ba
}

// flow copies until src ends. After an error there is no end to pass on: both
// connections are cut, so that nobody takes a part for the whole.
func flow(dst, src *end) int64 {
	n, err := io.Copy(dst.halfCloser, src.halfCloser) // not the ends, past which the kernel could not copy
	if err == nil {
		err = src.ended()
	}
	if err == nil {
		err = dst.finish()
	}
	if err != nil {
		cut(src.halfCloser)
		cut(dst.halfCloser)
	}
	return n
}

// cut breaks a connection off: its other end sees an error, and no end.
func cut(c net.Conn) {
	if peer, ok := c.(*stunt.Conn); ok {
		peer.Abort()
		return
	}
	sock.Abort(tcp(c))
}

// tcp is the connection underneath, past the record that says goodbye.
func tcp(c net.Conn) *net.TCPConn {
	if peer, ok := c.(*stunt.Conn); ok {
		return peer.NetConn()
	}
	return c.(*net.TCPConn)
}
