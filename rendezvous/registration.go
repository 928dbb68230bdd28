package rendezvous

import "context"

// A registration is a name that the client keeps registered wherever it has a
// session.
type registration struct {
	id      string
	settled chan struct{} // closed when the server has answered for the first time

	// Guarded by the client's mu.
	done bool // settled is closed
	err  error
}

// Register makes this node dialable as id, and under its fingerprint; an empty
// id asks for no more than the latter. It returns when the server has agreed,
// or refused (an *Error with CodeIDTaken, CodeBadID, CodeLimit), or when ctx is
// over, in which case nothing stays registered. From then on the client
// registers the id again on every new session by itself; see OnLost.
//
// It may be called before Run: the request then leaves together with the first
// message of the first session.
func (c *Client) Register(ctx context.Context, id string) error {
	if id != "" {
		if err := ValidID(id); err != nil {
			return err
		}
	}
	r, err := c.want(id)
	if err != nil {
		return err
	}
	select {
	case <-r.settled:
	case <-ctx.Done():
		c.giveUp(r, c.because(ctx.Err()))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return r.err
}

// want returns the registration of id, a new one if need be.
func (c *Client) want(id string) (*registration, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.final != nil {
		return nil, c.final
	}
	if r := c.ids[id]; r != nil {
		return r, nil
	}
	r := &registration{id: id, settled: make(chan struct{})}
	c.ids[id] = r
	if c.current != nil {
		c.current.link.send(c.current.registerFrame(r)) // queues, never waits
	}
	return r, nil
}

// settle ends the wait for a registration. Caller holds the client's mu.
func (r *registration) settle(err error) {
	if !r.done {
		r.done, r.err = true, err
		close(r.settled)
	}
}

// granted records that the server has agreed.
func (c *Client) granted(r *registration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r.settle(nil)
}

// denied drops a registration that the server has refused or taken away, and
// tells whoever waits for it, or OnLost if it had stood.
func (c *Client) denied(r *registration, err error) {
	c.mu.Lock()
	stood := r.done && c.ids[r.id] == r // and has not been given up since
	if c.ids[r.id] == r {
		delete(c.ids, r.id)
	}
	r.settle(err)
	c.mu.Unlock()
	if stood && c.cfg.OnLost != nil {
		c.cfg.OnLost(r.id, err)
	}
}

// replaced drops the registration of a name that a newer session has taken.
func (c *Client) replaced(id string, err error) {
	c.mu.Lock()
	r := c.ids[id]
	c.mu.Unlock()
	if r != nil {
		c.denied(r, err)
	}
}

// giveUp drops a registration that nobody waits for any more, unless the
// server has just agreed to it.
func (c *Client) giveUp(r *registration, err error) {
	c.mu.Lock()
	if r.done {
		c.mu.Unlock()
		return
	}
	delete(c.ids, r.id)
	r.settle(err)
	s := c.current
	c.mu.Unlock()
	if s != nil { // the server may be about to agree
		s.send(&deregister{ID: r.id})
	}
}

// Deregister gives id up: it is free for others at once, and so is this node's
// fingerprint if id is empty. It returns when the server has confirmed it.
// Without a session there is nothing to give up, and it returns nil.
func (c *Client) Deregister(ctx context.Context, id string) error {
	c.mu.Lock()
	delete(c.ids, id)
	s := c.current
	c.mu.Unlock()
	if s == nil {
		return nil
	}
	_, err := s.request(ctx, func(ref uint32) message { return &deregister{Ref: ref, ID: id} })
	return err
}

// Lookup asks whether a peer is there. An *Error with CodeUnknownPeer says that
// it is not, or never was.
func (c *Client) Lookup(ctx context.Context, id string) (Presence, error) {
	if err := ValidID(id); err != nil {
		return Presence{}, err
	}
	s, err := c.session(ctx)
	if err != nil {
		return Presence{}, err
	}
	m, err := s.request(ctx, func(ref uint32) message { return &lookup{Ref: ref, ID: id} })
	if err != nil {
		return Presence{}, err
	}
	p, ok := m.(*Presence)
	if !ok || p.ID != id || IsFingerprint(id) && Fingerprint(p.Key) != id {
		return Presence{}, errorf(CodeBadMessage, "the server does not answer what was asked")
	}
	return *p, nil
}
