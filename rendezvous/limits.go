package rendezvous

import (
	"math"

	"golang.org/x/time/rate"
)

// Limits bound what a stranger can take from a Server. In every field zero is
// the default and a negative value is no limit.
type Limits struct {
	Handshakes        int // connections that have not said Hello yet; default 512
	SessionsPerSource int // connections per IPv4 address or IPv6 /64; default 256
	SessionsPerKey    int // sessions of one key at a time; default 16
	IDsPerKey         int // names of one key, held ones included; default 32
	// PendingDials is how many unanswered dials there may be of one caller, and
	// to one callee; of the second half of the latter one source gets no more
	// than an eighth of all. Default 256.
	PendingDials int

	// DialRate is how many dials a key may begin per second, in all its sessions,
	// in bursts of up to four times as many, and how many lookups beside them; more
	// are refused with CodeBusy. Default 100.
	DialRate int
	// MessageRate is how many messages per second are read from a session, in
	// bursts of up to four times as many. More wait in the sender's own
	// buffers. A dial counts for four, with its answer and what its ends report, and where
	// there are other servers, which all are asked, a registration for eight. Default 500.
	MessageRate int
	// MessageRatePerSource is how many messages per second are read from all sessions
	// of an IPv4 address or IPv6 /64 together, in bursts of as many, counted the same;
	// of an IPv6 /48, four times as many. Default 1000.
	MessageRatePerSource int
}

func (l Limits) handshakes() int        { return limit(l.Handshakes, 512) }
func (l Limits) sessionsPerSource() int { return limit(l.SessionsPerSource, 256) }
func (l Limits) sessionsPerKey() int    { return limit(l.SessionsPerKey, 16) }
func (l Limits) idsPerKey() int         { return limit(l.IDsPerKey, 32) }
func (l Limits) pendingDials() int      { return limit(l.PendingDials, 256) }

// openDials counts answered dials too, until both ends have reported or
// settleTime is over. Honest callers report; this is for the others.
func (l Limits) openDials() int { return limit(8*l.PendingDials, 8*256) }

func (l Limits) dialRate() int           { return limit(l.DialRate, 100) }
func (l Limits) messages() *rate.Limiter { return limiter(limit(l.MessageRate, 500)) }
func (l Limits) messagesPerSource() int  { return limit(l.MessageRatePerSource, 1000) }

func limit(n, byDefault int) int {
	switch {
	case n < 0:
		return math.MaxInt
	case n == 0:
		return byDefault
	}
	return n
}

func limiter(perSecond int) *rate.Limiter {
	if perSecond == math.MaxInt {
		return rate.NewLimiter(rate.Inf, 0)
	}
	return rate.NewLimiter(rate.Limit(perSecond), 4*perSecond)
}
