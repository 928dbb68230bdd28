package relay

import (
	"errors"
	"fmt"
	"io"
)

const (
	magic   = "rlay"
	version = 1

	// FirstByte is what a stream begins with.
	FirstByte = 'r'

	headSize     = len(magic) + 1
	preambleSize = headSize + TicketSize
)

// A Status is the relay's word on a stream.
type Status uint8

// The statuses. All but Paired end the stream.
const (
	Paired    Status = 0 // the other end is there
	BadTicket Status = 1 // another secret signed the ticket, or nobody
	Expired   Status = 2
	Used      Status = 3 // the ticket has served already
	Busy      Status = 4 // a limit is reached: of the relay, the key or the source
	Alone     Status = 5 // the other end did not come in time
	Closing   Status = 6 // the relay is shutting down
)

// Error returns the status in a few words.
func (s Status) Error() string {
	switch s {
	case Paired:
		return "relay: paired"
	case BadTicket:
		return "relay: it does not accept the ticket"
	case Expired:
		return "relay: the ticket has expired"
	case Used:
		return "relay: the ticket has been used"
	case Busy:
		return "relay: a limit is reached"
	case Alone:
		return "relay: the peer did not come to it"
	case Closing:
		return "relay: it is shutting down"
	}
	return fmt.Sprintf("relay: status %d", uint8(s))
}

var (
	errTicket   = errors.New("relay: a ticket has another length")
	errPreamble = errors.New("relay: not a stream for a relay of this version")
)

// Preamble returns what a client begins its stream with. Data may follow at
// once. The ticket comes from a server, so it may be anything.
func Preamble(ticket []byte) ([]byte, error) {
	if len(ticket) != TicketSize {
		return nil, errTicket
	}
	return append(append([]byte(magic), version), ticket...), nil
}

// ReadStatus waits for the relay's word, and reads no byte beyond it. It returns
// nil when the other end is there, and a [Status] when the relay said why not.
func ReadStatus(r io.Reader) error {
	var b [1]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return err
	}
	if s := Status(b[0]); s != Paired {
		return s
	}
	return nil
}

// readPreamble reads what a client begins with and not a byte beyond it.
// Whatever else speaks to us is refused after its first bytes.
func readPreamble(r io.Reader) (t [TicketSize]byte, err error) {
	var head [headSize]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return t, err
	}
	if string(head[:len(magic)]) != magic || head[len(magic)] != version {
		return t, errPreamble
	}
	_, err = io.ReadFull(r, t[:])
	return t, err
}
