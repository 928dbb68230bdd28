package sock

import (
	"net"
	"syscall"
)

// A Queue tells what a connection has received and nobody has read yet, and
// waits for it without a buffer: whoever copies for many connections need not
// hold one for each that is silent. It is used by one goroutine at a time.
type Queue struct {
	raw  syscall.RawConn
	look func(fd uintptr) bool // count, as RawConn.Read takes it, without an allocation for each call

	// Set by count:
	size   int
	err    error
	looked bool    // since Wait was called
	one    [1]byte // for a look that takes nothing
}

// NewQueue returns the queue of c, which stays the caller's.
func NewQueue(c *net.TCPConn) (*Queue, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	q := &Queue{raw: raw}
	q.look = q.count
	return q, nil
}

// Wait waits until a Read of the connection would not. It returns how many
// bytes there are to read; 1 where that is not known, or the end has come,
// which is then for Read to tell. The error is what ended the connection: the
// kernel tells it once, so Read may not know of it any more.
func (q *Queue) Wait() (int, error) {
	q.looked, q.err = false, nil
	if err := q.raw.Read(q.look); err != nil {
		return 0, err
	}
	return q.size, q.err
}
