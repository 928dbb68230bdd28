package probe

import "sync/atomic"

// Stats are what a [Server] has done, and does now.
type Stats struct {
	Answered, Refused, Discarded int64            // messages, by what they got: an answer, an error, nothing
	DialBacks                    map[string]int64 // by how they ended; those for clients of other servers, too
	Borrowed                     map[string]int64 // dial backs of lenders, likewise
	DialingBack, Holding         int              // now
	// Met is how often each limit was met, by the name of its field in snake case.
	Met map[string]int64
}

// counters are what a server counts. The zero value is ready.
type counters struct {
	answered, refused, discarded                 atomic.Int64
	dialBacks, borrowed                          [outcomes]atomic.Int64
	metDialRate, metDialBacks, metLent, metHolds atomic.Int64
}

// Stats returns the counters.
func (s *Server) Stats() Stats {
	s.once.Do(s.init)
	st := Stats{
		Answered: s.counts.answered.Load(), Refused: s.counts.refused.Load(), Discarded: s.counts.discarded.Load(),
		DialBacks: make(map[string]int64), Borrowed: make(map[string]int64), DialingBack: len(s.slots), Holding: len(s.holds),
		Met: map[string]int64{
			"dial_back_rate": s.counts.metDialRate.Load(), "dial_backs": s.counts.metDialBacks.Load(),
			"lent_dial_backs": s.counts.metLent.Load(), "holds": s.counts.metHolds.Load(),
		},
	}
	for o := untried + 1; o < outcomes; o++ {
		st.DialBacks[o.String()] = s.counts.dialBacks[o].Load()
		st.Borrowed[o.String()] = s.counts.borrowed[o].Load()
	}
	return st
}
