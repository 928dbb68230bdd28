package rendezvous

import (
	"context"
	"sync"
)

// A Call is a dial in progress at the side that made it. What becomes of it
// arrives on its channels, in any order but Ringing before Answer. Its methods
// never block. End it with Conclude or Cancel; until then, or until its end, the
// client keeps it.
type Call struct {
	DialID  DialID
	Ringing <-chan Ringing // capacity 1; never closed
	Answer  <-chan Answer  // capacity 1; never closed; a refusal by the peer comes here too
	// Done is closed when the server has refused the dial, or the session was
	// lost before the Answer came. After an Answer it is not.
	Done <-chan struct{}

	session *clientSession
	peer    string
	ringing chan Ringing
	answer  chan Answer
	done    chan struct{}
	hangUp  sync.Once

	answered bool // guarded by the session's mu, as err
	err      error
}

// Dial asks the server to introduce us to a peer. It waits for a session, as
// Ready does, and returns when the request is on its way; ctx bounds no more
// than that. An *Error with CodeBadID or CodeBadMessage is about the request.
func (c *Client) Dial(ctx context.Context, req DialRequest) (*Call, error) {
	if req.DialID == (DialID{}) {
		req.DialID = NewDialID()
	}
	if err := ValidID(req.Peer); err != nil {
		return nil, err
	}
	frame, err := encode(&req)
	if err != nil {
		return nil, err
	}
	s, err := c.session(ctx)
	if err != nil {
		return nil, err
	}
	call := &Call{DialID: req.DialID, session: s, peer: req.Peer,
		ringing: make(chan Ringing, 1), answer: make(chan Answer, 1), done: make(chan struct{})}
	call.Ringing, call.Answer, call.Done = call.ringing, call.answer, call.done
	s.mu.Lock()
	if err = s.err; err == nil {
		s.calls[call.DialID] = call // before it is sent: the reply may be there first
	}
	s.mu.Unlock()
	if err != nil {
		return nil, lost(err)
	}
	s.link.send(frame)
	s.await() // it answers at once, whatever the peer does
	return call, nil
}

// Err returns why Done is closed: an *Error from the server, or ErrDisconnected.
func (c *Call) Err() error {
	c.session.mu.Lock()
	defer c.session.mu.Unlock()
	return c.err
}

// Cancel gives the dial up and lets the peer know. It may be called again, and
// after Conclude.
func (c *Call) Cancel() {
	c.hangUp.Do(func() {
		c.session.forget(c)
		c.session.send(&cancel{DialID: c.DialID})
	})
}

// Conclude tells the server what became of the dial. The DialID is set from the
// call.
func (c *Call) Conclude(out Outcome) {
	c.session.forget(c)
	c.session.report(c.DialID, out)
}

// fail ends the call. Caller holds the session's mu.
func (c *Call) fail(err error) {
	if c.err == nil {
		c.err = err
		close(c.done)
	}
}

func (s *clientSession) forget(c *Call) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.calls[c.DialID] == c {
		delete(s.calls, c.DialID)
	}
}

// rang delivers a Ringing, once.
func (s *clientSession) rang(m *Ringing) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.calls[m.DialID]
	if c == nil {
		return
	}
	if IsFingerprint(c.peer) && Fingerprint(m.Key) != c.peer {
		// Whoever dials a key trusts no server about it.
		delete(s.calls, m.DialID)
		c.fail(errorf(CodeBadKey, "the server offers another key than the one dialled"))
		return
	}
	select {
	case c.ringing <- *m:
	default: // a second one
	}
}

// answeredBy delivers an Answer, once.
func (s *clientSession) answeredBy(m *Answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.calls[m.DialID]
	if c == nil || c.answered {
		return
	}
	if c.answered = true; m.Code != CodeNone {
		delete(s.calls, m.DialID)
	}
	c.answer <- *m // has room: answered was false
}

// refused ends a call that the server cannot put through.
func (s *clientSession) refused(e *Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.calls[e.DialID]; c != nil {
		delete(s.calls, e.DialID)
		c.fail(e)
	}
}

// report sends an Outcome if there is still someone to send it to.
func (s *clientSession) report(id DialID, out Outcome) {
	out.DialID, out.Text = id, clip(out.Text, MaxText)
	s.send(&out)
}
