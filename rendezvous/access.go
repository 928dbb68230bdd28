package rendezvous

import (
	"crypto/ed25519"
	"errors"
	"net/netip"
)

// An Applicant wants a session.
type Applicant struct {
	Key   ed25519.PublicKey // it has proved to hold it
	From  netip.AddrPort
	Token string // as it came, so it may be anything of up to MaxToken bytes; empty: none
}

// A Pass says what a session may do. Its methods must not block; they may be
// called from several goroutines at once. Their errors are told to the client:
// an *[Error] by its code and text, any other as CodeNotAllowed.
type Pass interface {
	// Stands is asked with every message, a ping included, and by Review. Its error
	// ends the session.
	Stands() error
	// MayListen is asked before the server looks who has the name; an empty one
	// stands for the fingerprint alone. Nothing of it was checked.
	MayListen(name string) error
	// MayDial is asked before the server looks whether peer is there, by a dial
	// and by a lookup; names are those of the caller. An error with
	// CodeUnknownPeer tells the caller what it would be told of a name that
	// nobody has.
	MayDial(peer string, names []string) error
	// MayRelay reports whether the session may use a relay. Of a dial, both ends
	// have to.
	MayRelay() bool
}

// anything is the pass of those whom nobody asked.
type anything struct{}

func (anything) Stands() error                  { return nil }
func (anything) MayListen(string) error         { return nil }
func (anything) MayDial(string, []string) error { return nil }
func (anything) MayRelay() bool                 { return true }

// passFor asks Admit. Its error is an *Error.
func (s *Server) passFor(a Applicant) (Pass, error) {
	if s.Admit == nil {
		return anything{}, nil
	}
	p, err := s.Admit(a)
	switch {
	case err != nil:
		return nil, denial(err)
	case p == nil:
		return anything{}, nil
	}
	return p, nil
}

// denial makes an error of a Pass fit to be sent.
func denial(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return &Error{Code: e.Code, Text: clip(e.Text, MaxText)}
	}
	return errorf(CodeNotAllowed, "%v", err)
}

func (s *session) stands() error {
	if err := s.pass.Stands(); err != nil {
		return denial(err)
	}
	return nil
}

func (s *session) mayListen(name string) error {
	if err := s.pass.MayListen(name); err != nil {
		return denial(err)
	}
	return nil
}

// mayDial returns the caller's names, too.
func (s *session) mayDial(peer string) ([]string, error) {
	names := s.server.directory.ids(s.fingerprint)
	if err := s.pass.MayDial(peer, names); err != nil {
		return nil, denial(err)
	}
	return names, nil
}

// Review asks the passes of all sessions whether these still stand, and ends
// those that don't: for when what the passes go by has changed. Each would be
// asked with its next message anyway. Names whose keys may not have them any more,
// by Entitled, are free then, whether they are in use or held.
func (s *Server) Review() {
	if s.Entitled != nil {
		s.revoke()
	}
	for _, sess := range s.directory.everybody() {
		if e, ok := errors.AsType[*Error](sess.stands()); ok {
			sess.link.finish(e)
			if s.Denied != nil && e.Code != CodeTokenExpired {
				s.Denied(sess.key)
			}
		}
	}
}

// revoke frees names, and tells the sessions that have had them.
func (s *Server) revoke() {
	for _, lost := range s.directory.revoke(s.Entitled) {
		e := errorf(CodeIDTaken, "%q is for another key", lost.name)
		e.ID = lost.name
		lost.session.tell(e)
		s.logger().Info("name revoked", "peer", lost.session.fingerprint, "id", lost.name)
	}
	if c := s.cluster; c != nil {
		c.do(func() {
			for id, k := range c.elsewhere.known {
				if !k.until.IsZero() && !s.Entitled(k.Owner, id) { // held; in use it is for its server
					delete(c.elsewhere.known, id)
				}
			}
			c.news()
		})
	}
}

// lostName is what a session had.
type lostName struct {
	session *session
	name    string
}

// revoke frees all names whose keys are not entitled to them, and returns those
// that were in use.
func (d *directory) revoke(entitled func(fingerprint, name string) bool) (inUse []lostName) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for name, c := range d.names {
		if entitled(c.owner, name) {
			continue
		}
		if c.session != nil {
			inUse = append(inUse, lostName{c.session, name})
		}
		d.free(c)
	}
	return inUse
}

// everybody returns all sessions.
func (d *directory) everybody() (all []*session) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, o := range d.keys {
		all = append(all, o.sessions...)
	}
	return all
}
