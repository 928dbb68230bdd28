package park

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"github.com/gostunt/stunt/internal/sock"
)

// NewSplit returns a lot in which each connection that waits has a goroutine,
// on every system. It is a new one for each wait, and so has not the stack that
// a TLS handshake, or a message, has grown: that is the most of what a
// goroutine per connection costs.
func NewSplit() Lot { return &split{} }

type split struct {
	watching sync.WaitGroup
}

// Close: each wait has ended, but its goroutine may have to learn of it.
func (l *split) Close() { l.watching.Wait() }

type splitSpot struct {
	turn
	lot   *split
	conn  *net.TCPConn
	queue *sock.Queue
}

func (l *split) Enter(c net.Conn, wake func(bool)) (Spot, error) {
	tcp := sock.TCPOf(c)
	if tcp == nil {
		return nil, errNotTCP
	}
	q, err := sock.NewQueue(tcp)
	if err != nil {
		return nil, err
	}
	return &splitSpot{turn: turn{wake: wake}, lot: l, conn: tcp, queue: q}, nil
}

func (s *splitSpot) Wait() {
	s.begin(func() error {
		if err := s.conn.SetReadDeadline(time.Time{}); err != nil {
			return err
		}
		s.lot.watching.Go(s.watch)
		return nil
	})
}

// watch waits, and wakes. Wake ends it, as closing the connection does.
func (s *splitSpot) watch() {
	_, err := s.queue.Wait()
	if s.end() {
		// What the connection ended with is for the read to tell.
		go s.wake(!errors.Is(err, os.ErrDeadlineExceeded)) // serves, and ends in the next wait or with the connection
	}
}

func (s *splitSpot) Rest(d time.Duration) {
	s.begin(func() error {
		s.rest = time.AfterFunc(d, s.Wake)
		return nil
	})
}

// Wake leaves it to the goroutine that watches to end its wait: as long as that
// has the connection, the deadline for reads is nobody else's.
func (s *splitSpot) Wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.waiting && s.rest == nil:
		s.conn.SetReadDeadline(time.Unix(1, 0)) // long over; does not block
	case s.waiting:
		s.awake()
		go s.wake(false)
	default:
		s.poked = true
	}
}

func (s *splitSpot) Leave() {}
