package rendezvous

import (
	"errors"
	"time"
)

// ErrNobody is what an Ask ends with when nobody listens.
var ErrNobody = errors.New("nobody listens")

// A Bus connects the servers of a cluster, of which it is trusted to let in
// nobody else. Whoever listens to a subject hears what the others send to it;
// what one server sends to another arrives in order, or not at all. Subjects
// are words of a-z, 0-9 and hyphens, with dots between. None of the methods
// waits for another server, and they may be called from any goroutine.
type Bus interface {
	// Listen calls hear with every message to the subject, one after the other
	// in all, until stop is called; one subject has one hearer at a time. hear must
	// not block; it may keep message. reply answers, once; it is nil if the sender
	// has not asked.
	Listen(subject string, hear func(message []byte, reply func([]byte))) (stop func(), err error)
	// Send sends a message to all who listen to the subject.
	Send(subject string, message []byte) error
	// Ask sends a message, and calls done once, but for a Bus that was closed:
	// with the first answer, ErrNobody at once, or another error, at the latest
	// when patience is over. done must not block; it may be called before Ask
	// returns.
	Ask(subject string, message []byte, patience time.Duration, done func(answer []byte, err error))
}
