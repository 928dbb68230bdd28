package nat

import "time"

// State is where a session stands.
type State uint8

// Sessions other than TCP's stay in HalfOpen.
const (
	HalfOpen    State = iota // no TCP connection yet: not both SYNs acknowledged
	Established              // a TCP connection
	Closing                  // after an RST or both FINs; admits no SYN from the outside
)

// half is what was seen of one sender of a TCP connection, in the inside's
// sequence numbers.
type half struct {
	syn, acked, fin bool
	isn             uint32 // of its last SYN
	ack             uint32 // what it last acknowledged
}

// rstWindow is how far beyond the last acknowledgement an RST still counts as
// in window. Window scaling is not followed: the point is that a blind RST, or
// one for a connection before this one, misses (RFC 5961 section 3).
const rstWindow = 1 << 20

func (n *NAT) admitTCPOut(p *packet, s *session, now time.Time) *session {
	t := p.tcp
	switch {
	case t.isSYN():
		if s != nil && s.isNew(t) {
			s = n.renew(s, now)
		} else if s == nil {
			s = n.start(protoTCP, p.src, p.dst, now)
			n.number(s)
		}
	case s == nil:
		// Only what can belong to a live connection is picked up.
		if !n.c.PickUp || !t.has(flagACK) || t.has(flagSYN|flagFIN|flagRST) {
			return nil
		}
		if s = n.start(protoTCP, p.src, p.dst, now); s != nil {
			s.state, s.loose = Established, true
		}
	case t.isSYNACK() && n.c.RefuseSYNACKOut && s.half[Inside].syn && !s.half[Outside].syn:
		return nil
	case n.c.Strict && !s.valid(Inside, t):
		return nil
	}
	if s == nil {
		return nil
	}
	s.track(Inside, t)
	return n.touch(s, now)
}

// isNew reports whether an outbound SYN opens another connection than the one
// that the session is for. A retransmission has the same sequence number, and
// so has the SYN of a kept socket in a simultaneous open.
func (s *session) isNew(t segment) bool {
	return s.state == Closing || s.half[Inside].syn && s.half[Inside].isn != t.seq
}

// renew makes s, whose inside host opens a new connection, a fresh session: in
// the same mapping, or in a new one if the mapping is session-dependent. The
// old one then stays for what still comes to its port.
func (n *NAT) renew(s *session, now time.Time) *session {
	if n.c.Mapping == SessionDependent && !isV6(s.m.inside) {
		s = n.start(protoTCP, s.m.inside, s.remote, now)
	} else {
		s.reset()
	}
	n.number(s)
	return s
}

func (s *session) reset() {
	s.half = [2]half{}
	s.state, s.offset, s.loose = HalfOpen, 0, false
}

// number draws the session's sequence offset. It takes nil.
func (n *NAT) number(s *session) {
	if s != nil && n.c.RewriteSeq && !isV6(s.m.inside) {
		s.offset = n.rng.Uint32() | 1 // never 0
	}
}

func (n *NAT) admitTCPIn(p *packet, s *session, now time.Time) *session {
	t := p.tcp
	if s != nil {
		t.ack -= s.offset
	}
	switch {
	case t.isSYN():
		if s = n.admitSYNIn(p, s, now); s == nil {
			return nil
		}
	case s == nil:
		return nil
	case n.c.Strict && !s.valid(Outside, t):
		return nil
	case t.has(flagRST) && s.state == HalfOpen:
		return n.onError(n.c.OnRST, s)
	}
	s.track(Outside, t)
	return n.touch(s, now)
}

// admitSYNIn returns the session that an inbound SYN is for or makes. What is
// not let in gets its answer.
func (n *NAT) admitSYNIn(p *packet, s *session, now time.Time) *session {
	refused := false
	if s != nil && s.state != Closing {
		refused = n.c.RefuseSYNIn && s.state == HalfOpen && s.half[Inside].syn
		if !refused {
			if n.c.Strict && s.state == Established {
				return nil
			}
			return s
		}
	}
	var fresh *session
	switch {
	case refused:
	case s == nil:
		fresh = n.accept(p, now)
		n.number(fresh)
	case n.filterAllows(s.m, p.src, now): // closing: a new connection, as if s were not there
		s.reset()
		n.number(s)
		fresh = s
	}
	if fresh == nil {
		n.unsolicited(p, now)
	}
	return fresh
}

// onError applies an inbound RST or ICMP error to a half-open session, and
// returns the session if the error is to be passed on.
func (n *NAT) onError(r Reaction, s *session) *session {
	if r.Close {
		n.remove(s) // the pointer stays good for translating this packet
	}
	if r.Swallow {
		return nil
	}
	return s
}

// track follows the connection (RFC 5382 section 5: partially open,
// established, closing).
func (s *session) track(from Dir, t segment) {
	if t.has(flagRST) {
		s.state = Closing
		return
	}
	h := &s.half[from]
	if t.has(flagSYN) {
		h.syn, h.isn = true, t.seq
	}
	if t.has(flagACK) {
		h.acked, h.ack = true, t.ack
	}
	h.fin = h.fin || t.has(flagFIN)
	in, out := &s.half[Outside], &s.half[Inside]
	switch {
	case in.fin && out.fin:
		s.state = Closing
	case s.state == HalfOpen && in.syn && out.syn && in.acked && out.acked:
		s.state = Established
	}
}

// valid reports whether a strict connection tracker takes t from that side for
// a part of the connection.
func (s *session) valid(from Dir, t segment) bool {
	if s.loose {
		return true
	}
	own, peer := &s.half[from], &s.half[1-from]
	switch {
	case t.isSYNACK():
		return peer.syn && t.ack == peer.isn+1 && (!own.syn || t.seq == own.isn)
	case t.has(flagRST):
		// The answer to a SYN acknowledges it; every other one is in window
		// (RFC 9293 section 3.10.7).
		answers := s.state == HalfOpen && peer.syn && t.has(flagACK) && t.ack == peer.isn+1
		return answers || peer.acked && t.seq-peer.ack < rstWindow
	}
	return true
}
