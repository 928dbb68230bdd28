package rendezvous

import (
	"crypto/ed25519"
	"time"
)

// A Trace sees what a [Server] does, for those who count it. Each func may be
// nil. They are called from whatever goroutine it happens on, many at once, must
// not block, and must not call the server.
type Trace struct {
	// Session: one began (CodeNone), or the client was told why not.
	Session func(Code)
	// Ended: a session that had begun is over, and why.
	Ended func(reason error)
	// Registered: a key asked for a name, or to be dialable, and got it
	// (CodeNone) or was told why not.
	Registered func(Code)
	// Answered: the caller of a dial was told that it is accepted (CodeNone), or
	// why it is not: by the peer, or by the server. after is the time since the
	// dial came in, zero where the server refused it itself. A dial that its
	// caller gives up first ends with CodeCanceled.
	Answered func(c Code, after time.Duration)
	// Outcome: an end has said what became of a dial, at most once either end.
	Outcome func(Verdict)
	// Limited: somebody met a limit, which is one of the names that
	// [LimitNames] returns.
	Limited func(name string)
}

// A Verdict is one end's report of a dial between two keys.
type Verdict struct {
	Caller, Callee         ed25519.PublicKey
	CallerKind, CalleeKind string // as their Info had it when the dial began; each end chooses its own
	ByCaller               bool
	Outcome                Outcome
}

// Limits have names, which are for counting: what a client is told is a Code
// and a text.
const (
	limitSource       = "sessions_per_source"
	limitKey          = "sessions_per_key"
	limitIDs          = "ids_per_key"
	limitDialRate     = "dial_rate"
	limitMessageRate  = "message_rate"
	limitSourceRate   = "message_rate_of_source"
	limitDialsOut     = "pending_dials_of_caller"
	limitDialsIn      = "pending_dials_of_callee"
	limitDialsBetween = "pending_dials_of_source"
	limitUnread       = "unread_messages"
)

// LimitNames returns what [Trace.Limited] may be called with.
func LimitNames() []string {
	return []string{limitSource, limitKey, limitIDs, limitDialRate, limitMessageRate, limitSourceRate, limitDialsOut, limitDialsIn, limitDialsBetween, limitUnread}
}

// of says which limit an Error is about.
func (e *Error) of(limit string) *Error {
	e.limit = limit
	return e
}

// seeLimit tells the Trace of a limit, unless it is none.
func (s *Server) seeLimit(name string) {
	if name != "" && s.Trace != nil && s.Trace.Limited != nil {
		s.Trace.Limited(name)
	}
}

func (s *Server) seeSession(e *Error) {
	s.seeLimit(e.limit)
	if s.Trace != nil && s.Trace.Session != nil {
		s.Trace.Session(e.Code)
	}
}

func (s *Server) seeRegistered(e *Error) {
	s.seeLimit(e.limit)
	if s.Trace != nil && s.Trace.Registered != nil {
		s.Trace.Registered(e.Code)
	}
}

// seeAnswered tells the Trace how a dial was answered, once, and only where the
// caller is; d is nil where none came about.
func (s *Server) seeAnswered(d *dial, c Code) {
	if s.Trace == nil || s.Trace.Answered == nil || d != nil && (d.from.here == nil || d.seen.Swap(true)) {
		return
	}
	var after time.Duration
	if d != nil {
		after = time.Since(d.began)
	}
	s.Trace.Answered(c, after)
}

func (s *Server) seeOutcome(v Verdict) {
	if s.Trace != nil && s.Trace.Outcome != nil {
		s.Trace.Outcome(v)
	}
}
