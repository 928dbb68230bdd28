package resume

import (
	"time"

	"github.com/gostunt/stunt/internal/secure"
)

// What comes over a path. A path that is not the one of its Conn any more changes nothing.

// arrived takes a record of data.
func (c *Conn) arrived(p *path, b []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.path != p {
		return nil
	}
	c.heard(p)
	if c.in.ended || uint64(len(b)) > c.in.granted-c.in.end {
		return ErrProtocol
	}
	if r := c.reader; r != nil && c.in.len() == 0 && !c.end.closed {
		r.n = copy(r.p, b)
		b = b[r.n:]
		c.in.pass(r.n)
		c.reader = nil
	}
	c.in.add(b)
	if c.end.closed {
		c.in.drop(c.in.end)
	}
	c.readable.Broadcast()
	if c.stateDue(p) {
		c.work.Signal()
	} else if p.delay == nil {
		p.delay = time.AfterFunc(ackDelay, func() { c.tell(p) })
	}
	return nil
}

// tell has the other end told what has arrived.
func (c *Conn) tell(p *path) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p.delay = nil
	if c.path == p && c.in.have() > c.in.told {
		p.ackNow = true
		c.work.Signal()
	}
}

// control takes a control record.
func (c *Conn) control(p *path, b []byte) error {
	s, length, isEnd, err := parse(b)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.path != p {
		return nil
	}
	defer c.heard(p)
	if isEnd {
		if c.in.ended || length != c.in.end {
			return ErrProtocol
		}
		c.in.ended, p.ackNow = true, true
		c.readable.Broadcast()
		c.work.Signal()
		return nil
	}
	return c.takeState(p, s)
}

// takeState is what the other end has, wants and asks. The caller holds mu.
func (c *Conn) takeState(p *path, s state) error {
	can := c.out.most
	if p.synced { // it has what came over this path
		can = c.out.next
		if p.endSent {
			can++
		}
	}
	if s.received < c.out.acked || s.received > can {
		return ErrProtocol
	}
	c.out.acked, c.out.limit = s.received, max(c.out.limit, s.limit)
	if !p.synced {
		p.synced = true
		c.out.next = min(s.received, c.out.end)
		p.endSent = s.received > c.out.end
		c.works()
	}
	if s.stop && !c.out.stopped {
		c.out.stopped = true
	}
	p.asked = p.asked || s.answer
	c.out.release(false)
	c.writable.Broadcast()
	c.work.Signal()
	return nil
}

// heard notes a sign of life. What the other end still owes us has its time from now. The caller holds mu.
func (c *Conn) heard(p *path) {
	p.heard = time.Now()
	if !p.synced || c.out.next > c.out.acked || p.endSent && c.out.acked <= c.out.end {
		p.owed = p.heard
	} else {
		p.owed = time.Time{}
	}
}

// owe notes that the other end owes us something, for the time that it may take. The caller holds mu.
func (c *Conn) owe(p *path, within time.Duration) {
	now := time.Now()
	if since := now.Add(within - c.cfg.Silence); p.owed.IsZero() || since.Before(p.owed) {
		p.owed = since
	}
	if due := now.Add(within); p.due.After(due) && !p.leaving {
		p.due = due
		p.timer.Reset(within)
	}
}

// watch looks whether the path still lives, and when to look again. A path that is being left has had its time.
func (c *Conn) watch(p *path) {
	c.mu.Lock()
	if c.path != p {
		c.mu.Unlock()
		return
	}
	now := time.Now()
	silent := !p.owed.IsZero() && now.Sub(p.owed) >= c.cfg.Silence
	if p.leaving {
		silent = !now.Before(p.due)
	}
	if silent {
		c.mu.Unlock()
		c.broke(p, errSilent)
		return
	}
	if p.owed.IsZero() && !p.leaving {
		p.due = p.heard.Add(c.cfg.Idle)
		if !p.due.After(now) {
			p.ask = true
			c.work.Signal()
			c.owe(p, c.cfg.Silence)
		}
	}
	if !p.owed.IsZero() && !p.leaving {
		p.due = p.owed.Add(c.cfg.Silence)
	}
	p.timer.Reset(p.due.Sub(now))
	c.mu.Unlock()
}

// last returns the records of the path, or of the last one.
func (c *Conn) last() *secure.Conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.records
}
