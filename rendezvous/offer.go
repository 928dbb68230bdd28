package rendezvous

import (
	"crypto/ed25519"
	"errors"
	"net/netip"
)

// maxOffers bounds the dials that a server may have one client answer at a
// time. More than a real one lets through; a hostile one stops here.
const maxOffers = 1024

// errAnswered is returned for a second answer to one offer.
var errAnswered = errors.New("rendezvous: the offer has been answered")

// An Offer is a dial that another node makes to this one. Answer it, and
// Conclude it when you accepted; until then the client keeps it.
// Its fields are not changed. Its methods never block.
type Offer struct {
	DialID     DialID            `cbor:"2,keyasint"`
	From       ed25519.PublicKey `cbor:"4,keyasint"`           // the caller's key, as it proved to the server
	FromIDs    []string          `cbor:"12,keyasint,omitzero"` // the names that key has
	To         string            `cbor:"3,keyasint"`           // the name dialled, or our fingerprint
	Port       uint16            `cbor:"5,keyasint,omitzero"`
	Noise      []byte            `cbor:"6,keyasint,omitzero"`
	Candidates []byte            `cbor:"7,keyasint,omitzero"`
	Report     []byte            `cbor:"8,keyasint,omitzero"`
	// Ask says that the caller has been told nothing about us: an Answer that
	// accepts brings our candidates, and Go says when it reaches the caller.
	Ask  bool   `cbor:"11,keyasint,omitzero"`
	Hint string `cbor:"24,keyasint,omitzero"` // see Ringing
	// Ticket is the other one of the dial's two; see Ringing.
	Ticket []byte `cbor:"25,keyasint,omitzero"`
	// Observed is where the server sees the caller; see Ringing.
	Observed netip.AddrPort `cbor:"16,keyasint,omitzero"`

	// Go is closed when it is time to fire: at once, or with Ask when the
	// server has passed our answer on.
	Go <-chan struct{} `cbor:"-"`
	// Done is closed when the dial cannot come about: the caller gave it up,
	// or the session was lost before the server had our part of it.
	Done <-chan struct{} `cbor:"-"`

	session  *clientSession
	goAhead  chan struct{} // see Go; closed by the session
	done     chan struct{} // see Done; closed by the session
	answered bool          // guarded by the session's mu, as err
	err      error
}

// Answer sends a's Code and, if that is CodeNone, the rest of it to the
// caller. The DialID is set from the offer.
func (o *Offer) Answer(a Answer) error {
	a.DialID, a.Text = o.DialID, clip(a.Text, MaxText)
	frame, err := encode(&a)
	if err != nil {
		return err
	}
	s := o.session
	s.mu.Lock()
	switch {
	case o.err != nil:
		err = o.err
	case o.answered:
		err = errAnswered
	default:
		if o.answered = true; a.Code != CodeNone {
			delete(s.offers, o.DialID)
		}
	}
	s.mu.Unlock()
	if err == nil {
		s.link.send(frame)
	}
	return err
}

// Conclude tells the server what became of the dial, and the client that the
// offer is over. The DialID is set from the offer.
func (o *Offer) Conclude(out Outcome) {
	s := o.session
	s.mu.Lock()
	delete(s.offers, o.DialID)
	s.mu.Unlock()
	s.report(o.DialID, out)
}

// Err returns why Done is closed: an *Error or ErrDisconnected.
func (o *Offer) Err() error {
	o.session.mu.Lock()
	defer o.session.mu.Unlock()
	return o.err
}

// fail ends the offer. Caller holds the session's mu.
func (o *Offer) fail(err error) {
	if o.err == nil {
		o.err = err
		close(o.done)
	}
}

// needsServer reports whether the loss of the session ends the dial. Caller
// holds the session's mu.
func (o *Offer) needsServer() bool {
	select {
	case <-o.goAhead:
		return !o.answered
	default:
		return true
	}
}

// offered takes in an Offer and hands it on.
func (s *clientSession) offered(o *Offer) {
	o.session, o.goAhead, o.done = s, make(chan struct{}), make(chan struct{})
	o.Go, o.Done = o.goAhead, o.done
	if !o.Ask {
		close(o.goAhead)
	}
	s.mu.Lock()
	twice, full := s.offers[o.DialID] != nil, len(s.offers) >= maxOffers
	if !twice && !full {
		s.offers[o.DialID] = o
	}
	s.mu.Unlock()
	switch accept := s.client.cfg.OnOffer; {
	case twice: // an answer to it would be one to the first
	case full:
		o.Answer(Answer{Code: CodeBusy})
	case accept == nil:
		o.Answer(Answer{Code: CodePortClosed})
	default:
		accept(o)
	}
}

// told marks the time to fire, or the end, of an offer.
func (s *clientSession) told(id DialID, end error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.offers[id]
	if o == nil {
		return
	}
	if end != nil {
		delete(s.offers, id)
		o.fail(end)
		return
	}
	if o.needsServer() && o.answered {
		close(o.goAhead)
	}
}
