package rendezvous

import (
	"crypto/ed25519"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// frameTime is how long a peer may take over one frame once it has begun.
const frameTime = 10 * time.Second

// A session is the server's side of one client's connection.
type session struct {
	server      *Server
	link        *link
	key         ed25519.PublicKey
	fingerprint string
	observed    netip.AddrPort
	since       time.Time
	version     uint16
	pass        Pass

	info  atomic.Pointer[Info] // never nil; the Info is not changed
	heard atomic.Int64         // when the last message came, in Unix ns
	beat  atomic.Uint32        // of the door, when it came

	dialable bool  // guarded by the directory's mu
	calls    calls // guarded by the dialTable's mu

	// Owned by run, of which there is one at a time:
	messages *rate.Limiter
	owed     bool // the message that was served last was waited for: who began the dial has paid for it
}

func newSession(s *Server, l *link, key ed25519.PublicKey, from netip.AddrPort, version uint16) *session {
	sess := &session{server: s, link: l, key: key, fingerprint: Fingerprint(key), observed: from, version: version,
		since: s.now(), messages: s.Limits.messages()}
	sess.info.Store(&Info{})
	sess.heard.Store(sess.since.UnixNano())
	sess.beat.Store(s.door.beat.Load())
	return sess
}

// shown is where peers are told that the session comes from.
func (s *session) shown(info *Info) netip.AddrPort {
	if info.Hidden {
		return netip.AddrPort{}
	}
	return s.observed
}

func (s *session) heardAt() time.Time { return time.Unix(0, s.heard.Load()) }

// tell queues a message to the client and never waits.
func (s *session) tell(m message) {
	frame, err := encode(m)
	if err != nil { // a bound that the other end's message had passed
		s.server.logger().Warn("message not sent", "peer", s.fingerprint, "err", err)
		return
	}
	s.link.send(frame)
}

// run serves the client until it has nothing more to say, and then waits for
// it without this goroutine, or ends the session. The link's spot calls it, one
// at a time; readable is false if the client need not have said anything.
func (s *session) run(readable bool) {
	rest, err := s.listen(readable)
	switch {
	case err != nil:
		s.server.end(s, err)
	case rest > 0:
		s.link.spot.Rest(rest)
	default:
		s.link.spot.Wait()
	}
}

// listen reads and serves messages. It returns when there are no more, or not
// to be read before some time has gone by; the error is why the session is over.
func (s *session) listen(readable bool) (rest time.Duration, err error) {
	for {
		m, err := s.next(readable)
		if s.link.over() { // whatever crypto/tls still has
			s.link.linger()
			return 0, net.ErrClosed
		}
		if err == nil && m == nil {
			return 0, nil
		}
		if err == nil {
			s.heard.Store(s.server.now().UnixNano())
			s.beat.Store(s.server.door.beat.Load())
			err = s.serve(m)
		}
		if e, ok := errors.AsType[*Error](err); ok {
			s.link.finish(e)
			s.link.linger()
		}
		if err != nil {
			return 0, err
		}
		if rest = s.rest(m); rest > 0 {
			return rest, nil
		}
		readable = false
	}
}

// next reads one message; nil if there is none. What crypto/tls has read ahead
// is taken at once; for what the kernel has, readable must be true, and then a
// part of a TLS record may keep us for the time of a frame.
func (s *session) next(readable bool) (message, error) {
	frame := min(frameTime, s.server.door.silence)
	if readable {
		s.link.expect(frame)
	} else {
		s.link.expect(-1)
	}
	began := false
	m, err := readMessage(s.link.conn, func() {
		if began = true; !readable {
			s.link.expect(frame)
		}
	})
	if !began && errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, nil
	}
	return m, err
}

// serve handles one message. An error ends the session.
func (s *session) serve(m message) error {
	srv := s.server
	if err := s.stands(); err != nil {
		return err
	}
	switch m := m.(type) {
	case *ping:
		s.tell(&pong{Spread: srv.spread()})
	case *Info:
		s.info.Store(m)
	case *register:
		s.register(m)
	case *deregister:
		srv.directory.deregister(s, m.ID, srv.now())
		srv.changed()
		s.tell(&deregistered{Ref: m.Ref})
	case *lookup:
		s.lookup(m)
	case *DialRequest:
		srv.dial(s, m)
	case *Answer:
		s.owed = srv.answer(s, m)
	case *cancel:
		if d := srv.dials.cancel(m.DialID, s.seat()); d != nil {
			srv.seeAnswered(d, CodeCanceled)
			srv.tellEnd(d.to, &cancel{DialID: d.id, Code: CodeCanceled})
		}
	case *Outcome:
		s.owed = srv.outcome(s.seat(), m)
	case *unknown:
	default:
		return errorf(CodeBadMessage, "a client does not send this (kind %d)", m.kind())
	}
	return nil
}

func (s *session) register(m *register) {
	var old *session
	err := s.mayListen(m.ID)
	if err == nil {
		old, err = s.server.directory.register(s, m.ID, s.server.now())
	}
	if err != nil {
		s.refuse(m, asError(err))
		return
	}
	if old != nil {
		e := errorf(CodeReplaced, "a newer session of this key took %q", m.ID)
		e.ID = m.ID
		old.link.finish(e)
	}
	if s.server.cluster != nil {
		s.server.cluster.register(s, m)
		return
	}
	s.grant(m)
}

// grant answers a registration, refuse with an error.
func (s *session) grant(m *register) {
	s.server.seeRegistered(&Error{})
	s.tell(&registered{Ref: m.Ref, ID: m.ID})
}

func (s *session) refuse(m *register, e *Error) {
	e.Ref, e.ID = m.Ref, m.ID
	s.server.seeRegistered(e)
	s.tell(e)
}

// lookup says that a peer is there, and how the two have met. A peer that is
// not there, and one that never was, are the same, and so is one that s may not
// dial.
func (s *session) lookup(m *lookup) {
	// Each may be a question to every server of a cluster.
	if !s.server.pace.lookups.Allow(s.fingerprint, time.Now()) {
		s.server.seeLimit(limitDialRate)
		s.tell(&Error{Code: CodeBusy, Text: "too many lookups per second", Ref: m.Ref})
		return
	}
	if _, err := s.mayDial(m.ID); err != nil {
		e := asError(err)
		e.Ref = m.Ref
		s.tell(e)
		return
	}
	peer := s.server.directory.find(m.ID)
	switch {
	case peer != nil:
		p := s.server.presence(s.party(), m.ID, peer)
		p.Ref = m.Ref
		s.tell(p)
	case s.server.together() && ValidID(m.ID) == nil:
		s.inquire(m)
	default:
		s.tell(&Error{Code: CodeUnknownPeer, Ref: m.Ref})
	}
}

// presence is what a node that asks, here or at another server, is told of one
// that is here.
func (s *Server) presence(asking party, id string, peer *session) *Presence {
	p := &Presence{ID: id, Key: peer.key, Since: peer.since}
	if info := peer.info.Load(); !info.Ask {
		p.Report = info.Report
	}
	p.Last, p.LastAt = s.learnt.pairs.of(asking, peer.party(), s.now())
	return p
}

func addrPort(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := t.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
}
