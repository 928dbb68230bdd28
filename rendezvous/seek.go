package rendezvous

import (
	"errors"
	"time"
)

const (
	// maxHold bounds how long an Offer is held back for a caller who is further
	// away: half way around the world, with some queues.
	maxHold = 300 * time.Millisecond

	// minHold is not worth a timer.
	minHold = time.Millisecond

	// overtime is what the callee's server gets to say that an answer is late,
	// before the caller's says it.
	overtime = time.Second
)

// together reports whether there are other servers.
func (s *Server) together() bool { return s.cluster != nil && s.cluster.members.any() }

// seek looks for the callee of a dial at the other servers. The one that has it
// introduces the two: it knows what the callee has said of itself.
func (s *Server) seek(from *session, names []string, m *DialRequest) error {
	if !s.together() || ValidID(m.Peer) != nil {
		return &Error{Code: CodeUnknownPeer}
	}
	d := &dial{id: m.DialID, from: from.party(), to: party{calls: new(calls)}, began: time.Now(), kinds: [2]string{m.Kind, ""}}
	if err := s.dials.add(d, seekTime+overtime, s.unanswered); err != nil {
		return err
	}
	s.cluster.ask(subjectID+m.Peer, &seek{Server: s.cluster.me, Key: from.key, IDs: names, Observed: from.observed,
		Relay: d.from.relay, Dial: *m}, seekTime, func(b []byte, err error) { s.rang(d, b, err) })
	return nil
}

// rang takes in what came of a seek.
func (s *Server) rang(d *dial, b []byte, err error) {
	r, err := answerTo[*rung](b, err)
	if err == nil && r.Code == CodeNone && r.Ringing.DialID != d.id {
		err = errorf(CodeInternal, "another dial than the one asked for")
	}
	if err != nil || r.Code != CodeNone {
		e := &Error{DialID: d.id}
		switch {
		case err == nil:
			e.Code, e.Text = r.Code, r.Text
		case errors.Is(err, ErrNobody):
			e.Code = CodeUnknownPeer
		default:
			e.Code, e.Text = CodeTimeout, "the peer's server does not answer"
		}
		if s.dials.end(d.id, d.to.seat) == d {
			s.seeAnswered(d, e.Code)
			s.tellEnd(d.from, e)
		}
		return
	}
	to := party{seat: seat{at: r.Server}, key: r.Ringing.Key, observed: r.Observed, calls: new(calls)}
	next := &dial{id: d.id, from: d.from, to: to, began: d.began, kinds: [2]string{d.kinds[0], r.Kind}, nats: natsOf(d.kinds[0], r.Kind), hint: r.Hint}
	frame, err := encode(r.Ringing)
	if err != nil {
		return // it was decoded with the same bounds
	}
	if code := s.dials.found(d, next, span(s.Patience, defaultPatience)+overtime, s.unanswered); code != CodeNone {
		s.tellEnd(to, &cancel{DialID: d.id, Code: code})
		return
	}
	d.from.here.link.send(frame)
}

// sought introduces a node here to a caller of another server.
func (s *Server) sought(m *seek, reply func([]byte)) {
	to := s.directory.find(m.Dial.Peer)
	if to == nil {
		s.cluster.absent(m.Dial.Peer, func() { s.cluster.answerWith(&rung{Code: CodeUnknownPeer}, reply) })
		return
	}
	from := party{seat: seat{at: m.Server}, key: m.Key, observed: m.Observed, relay: m.Relay, calls: new(calls)}
	in, err := s.prepare(from, m.IDs, to, &m.Dial)
	if err == nil {
		err = s.dials.add(in.dial, span(s.Patience, defaultPatience), s.unanswered)
	}
	if err != nil {
		e := asError(err)
		s.cluster.answerWith(&rung{Code: e.Code, Text: e.Text}, reply)
		return
	}
	s.cluster.answerWith(&rung{Server: s.cluster.me, Observed: to.observed, Kind: to.info.Load().Kind,
		Hint: in.dial.hint, Ringing: in.ringing}, reply)
	s.hold(in.dial, in.offer)
}

// hold sends a frame to the callee of a dial when the caller's server has what
// was sent to it just now, so that both ends are told at one moment, whichever
// servers they have. It costs a dial nothing where the servers lie about on the
// way between the nodes, as TCP stands no earlier; and that time at worst.
func (s *Server) hold(d *dial, frame []byte) {
	to := d.to.here
	var wait time.Duration
	if d.from.at != "" {
		wait = min(s.cluster.members.delay(d.from.at), maxHold)
	}
	if wait < minHold {
		to.link.send(frame)
		return
	}
	time.AfterFunc(wait, func() {
		if s.dials.goesOn(d) {
			to.link.send(frame)
		}
	})
}

// tellEnd queues a message of a dial to one of its ends, wherever that is.
func (s *Server) tellEnd(p party, m message) {
	switch {
	case p.here != nil:
		p.here.tell(m)
	case p.at != "":
		frame, err := encode(m)
		if err != nil {
			s.logger().Warn("message not sent", "remote", p.at, "err", err)
			return
		}
		s.sendEnd(p, frame)
	}
}

// sendEnd does it with a frame.
func (s *Server) sendEnd(p party, frame []byte) {
	if p.here != nil {
		p.here.link.send(frame)
	} else {
		s.cluster.send(subjectAt+p.at, &word{Server: s.cluster.me, Message: frame[headLen:]})
	}
}

// heardWord takes a message of the other end of a dial from the server that has
// that end. None of them is believed of a dial of somebody else's.
func (s *Server) heardWord(w *word) {
	m, err := decode(w.Message)
	if err != nil {
		s.logger().Debug("message of another server not understood", "remote", w.Server, "err", err)
		return
	}
	by := seat{at: w.Server}
	switch m := m.(type) {
	case *Answer:
		if d := s.dials.answer(m.DialID, by, m.Code == CodeNone); d != nil {
			s.seeAnswered(d, m.Code)
			s.tellEnd(d.from, m)
		}
	case *cancel:
		if d := s.dials.cancel(m.DialID, by); d != nil {
			s.tellEnd(d.to, m)
		}
	case *Error:
		if d := s.dials.end(m.DialID, by); d != nil {
			s.seeAnswered(d, m.Code)
			s.tellEnd(d.from, m)
		}
	case *Outcome:
		s.outcome(by, m)
	}
}

// cut tells the other end of a dial that one is gone.
func (s *Server) cut(d *dial, gone seat) {
	if d.from.seat == gone {
		s.tellEnd(d.to, &cancel{DialID: d.id, Code: CodePeerGone})
	} else {
		s.tellEnd(d.from, &Error{Code: CodePeerGone, DialID: d.id})
	}
}

// inquire looks a peer up at the other servers. The client is answered when one
// of them has.
func (s *session) inquire(m *lookup) {
	srv := s.server
	srv.cluster.ask(subjectID+m.ID, &inquiry{ID: m.ID, Key: s.key, Observed: s.observed}, seekTime, func(b []byte, err error) {
		f, err := answerTo[*found](b, err)
		switch {
		case err == nil && f.Presence != nil && f.Presence.ID == m.ID:
			f.Presence.Ref = m.Ref
			s.tell(f.Presence)
		case err == nil || errors.Is(err, ErrNobody):
			s.tell(&Error{Code: CodeUnknownPeer, Ref: m.Ref})
		default:
			s.tell(&Error{Code: CodeTimeout, Ref: m.Ref, Text: "the peer's server does not answer"})
		}
	})
}

// inquired answers for a node that is here.
func (s *Server) inquired(m *inquiry, reply func([]byte)) {
	peer := s.directory.find(m.ID)
	if peer == nil {
		s.cluster.absent(m.ID, func() { s.cluster.answerWith(&found{}, reply) })
		return
	}
	s.cluster.answerWith(&found{Presence: s.presence(party{key: m.Key, observed: m.Observed}, m.ID, peer)}, reply)
}
