package resume

import (
	"errors"
	"net"
	"sync"
	"time"
)

// deadline is when a direction stops waiting.
type deadline struct {
	at    time.Time // zero: never
	timer *time.Timer
}

func (d *deadline) over() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

func (d *deadline) stop() {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
}

// set has those who wait look at the deadline now, and when it is over. The caller holds what cond has.
func (d *deadline) set(t time.Time, cond *sync.Cond) {
	d.stop()
	d.at = t
	cond.Broadcast()
	if wait := time.Until(t); !t.IsZero() && wait > 0 {
		d.timer = time.AfterFunc(wait, func() {
			cond.L.Lock()
			defer cond.L.Unlock()
			cond.Broadcast()
		})
	}
}

// SetDeadline sets both deadlines.
func (c *Conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetReadDeadline sets when Read stops waiting; the zero time is never.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.setDeadline(&c.reads, &c.readable, t) }

// SetWriteDeadline sets when Write stops waiting; the zero time is never.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.setDeadline(&c.writes, &c.writable, t) }

func (c *Conn) setDeadline(d *deadline, cond *sync.Cond, t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.end.closed {
		return c.opError("set", net.ErrClosed)
	}
	d.set(t, cond)
	return nil
}

// opError has the addresses of the path, or of the last one. The caller holds mu.
func (c *Conn) opError(op string, err error) error {
	local, remote := c.records.LocalAddr(), c.records.RemoteAddr()
	return &net.OpError{Op: op, Net: local.Network(), Source: local, Addr: remote, Err: err}
}

// NetConn returns the connection that the path writes to, or the last one did.
func (c *Conn) NetConn() net.Conn { return c.last().NetConn() }

// LocalAddr returns the address of the path, or of the last one.
func (c *Conn) LocalAddr() net.Addr { return c.last().LocalAddr() }

// RemoteAddr returns the address of the path, or of the last one.
func (c *Conn) RemoteAddr() net.Addr { return c.last().RemoteAddr() }
