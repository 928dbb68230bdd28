package rendezvous

import (
	"net/netip"
	"time"
)

// dial introduces a caller to a peer: one message to each, at one moment.
func (s *Server) dial(from *session, m *DialRequest) {
	if err := s.introduce(from, m); err != nil {
		e := asError(err)
		e.DialID = m.DialID
		s.seeLimit(e.limit)
		s.seeAnswered(nil, e.Code)
		from.tell(e)
	}
}

func (s *Server) introduce(from *session, m *DialRequest) error {
	began := time.Now()
	if !s.pace.dials.Allow(from.fingerprint, began) {
		return errorf(CodeBusy, "too many dials per second").of(limitDialRate)
	}
	names, err := from.mayDial(m.Peer)
	if err != nil {
		return err
	}
	to := s.directory.find(m.Peer)
	switch to {
	case nil:
		return s.seek(from, names, m)
	case from:
		return errorf(CodeSelf, "%s is this session", m.Peer)
	}
	in, err := s.prepare(from.party(), names, to, m)
	if err != nil {
		return err
	}
	in.dial.began = began
	if err := s.dials.add(in.dial, span(s.Patience, defaultPatience), s.unanswered); err != nil {
		return err
	}
	// The caller's is first, so that no answer can overtake it.
	from.link.send(in.toCaller)
	to.link.send(in.offer)
	s.logger().Debug("dial", "peer", to.fingerprint, "remote", from.observed, "took", time.Since(began))
	return nil
}

// An introduction is a dial with what its two ends are told. Everything is
// encoded before anything is sent, so that between the two lies only the time to
// append to a queue: both ends fire on receipt, and what lies between is what
// their SYNs may miss each other by.
type introduction struct {
	dial     *dial
	ringing  *Ringing
	toCaller []byte // ringing
	offer    []byte // to the callee
}

// prepare makes the introduction of a caller, who may be at another server, to a
// node here, unless there is no room for it. It tells nobody.
func (s *Server) prepare(from party, ids []string, to *session, m *DialRequest) (in introduction, err error) {
	if err := s.dials.room(m.DialID, from, to.party()); err != nil {
		return in, err
	}
	info := to.info.Load()
	between := natsOf(m.Kind, info.Kind)
	hint := s.learnt.hint(from, to.party(), between, s.now())
	ringing := &Ringing{DialID: m.DialID, Key: to.key}
	var ticket, toCalleeTicket []byte
	if s.Tickets != nil && from.relay && to.pass.MayRelay() {
		ticket, toCalleeTicket = s.Tickets(m.DialID, from.key, to.key)
	}
	if !info.Ask { // a hint would say something about the callee, too
		ringing.Candidates, ringing.Report, ringing.Hint, ringing.Ticket = info.Candidates, info.Report, hint, ticket
		ringing.Observed = to.shown(info)
	}
	offer := &Offer{DialID: m.DialID, From: from.key, FromIDs: ids,
		To: m.Peer, Port: m.Port, Noise: m.Noise, Candidates: m.Candidates, Report: m.Report, Ask: info.Ask, Hint: hint, Ticket: toCalleeTicket}
	if !m.Hidden {
		offer.Observed = from.observed
	}
	in.dial = &dial{id: m.DialID, from: from, to: to.party(), ask: info.Ask, kinds: [2]string{m.Kind, info.Kind}, nats: between, hint: hint, ticket: ticket}
	in.ringing = ringing
	if in.toCaller, err = encode(ringing); err != nil {
		return in, err
	}
	if in.offer, err = encode(offer); err == nil && !to.link.hasRoom(len(in.offer)) {
		err = errorf(CodeBusy, "the peer has too much to read").of(limitUnread)
	}
	return in, err
}

// unanswered ends a dial for which the callee's answer is late.
func (s *Server) unanswered(d *dial) {
	s.seeAnswered(d, CodeTimeout)
	s.tellEnd(d.from, &Error{Code: CodeTimeout, DialID: d.id})
	s.tellEnd(d.to, &cancel{DialID: d.id, Code: CodeTimeout})
}

// answer carries the callee's word to the caller. A callee that was asked
// first fires on Go, which leaves at the moment at which the caller is told. It
// reports whether there was a dial to answer.
func (s *Server) answer(by *session, m *Answer) bool {
	if m.Code != CodeNone && !m.Code.byPeer() {
		m.Code = CodeRefused // the rest are the server's to say
	}
	d := s.dials.answer(m.DialID, by.seat(), m.Code == CodeNone)
	if d == nil {
		return false // too late: a Cancel is on its way to by
	}
	m.Hint, m.Ticket, m.Observed = "", nil, netip.AddrPort{}
	if d.ask && m.Code == CodeNone {
		m.Hint, m.Ticket, m.Observed = d.hint, d.ticket, by.shown(by.info.Load())
	}
	toCaller, err := encode(m)
	if err != nil {
		return true // it was decoded with the same bounds
	}
	var toCallee []byte
	if d.ask && m.Code == CodeNone {
		if toCallee, err = encode(&goAhead{DialID: d.id}); err != nil {
			return true
		}
	}
	s.seeAnswered(d, m.Code)
	s.sendEnd(d.from, toCaller)
	if toCallee != nil {
		s.hold(d, toCallee)
	}
	return true
}

// outcome takes in what one end of a dial says of it. Each end's server learns
// from both, and counts what its own end says. It reports whether there was a dial
// that the end had not told of.
func (s *Server) outcome(by seat, m *Outcome) bool {
	d, byCaller, both := s.dials.report(m, by)
	if d == nil {
		return false
	}
	if both {
		s.learnt.learn(d, s.now())
	}
	if by.here == nil {
		return true
	}
	if d.to.at != "" || d.from.at != "" {
		other := d.to
		if !byCaller {
			other = d.from
		}
		s.tellEnd(other, m)
	}
	if byCaller {
		s.learnt.tally.add(m.Method, m.OK)
	}
	s.seeOutcome(Verdict{Caller: d.from.key, Callee: d.to.key, CallerKind: d.kinds[0], CalleeKind: d.kinds[1], ByCaller: byCaller, Outcome: *m})
	return true
}
