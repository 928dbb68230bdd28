package punch

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"
)

// Budget bounds what guessing takes of a process and of its network: routers
// count half-open connections, and some count SYNs. It also bounds what peers
// and servers that lie can make a process send. It is shared by the races
// of a process and safe for concurrent use.
type Budget struct {
	size    int
	sockets *semaphore.Weighted
	syns    *rate.Limiter

	plains    *rate.Limiter // SYNs that are no guesses
	strangers strangers
}

// burst is how many SYNs of a guess may leave at once.
const burst = 128

var errBudget = errors.New("guessing takes more sockets than its budget has")

// NewBudget returns a budget of so many sockets at once and SYNs a second.
func NewBudget(sockets, synsPerSecond int) *Budget {
	return &Budget{
		size:    sockets,
		sockets: semaphore.NewWeighted(int64(sockets)),
		syns:    rate.NewLimiter(rate.Limit(synsPerSecond), burst),
		plains:  rate.NewLimiter(plainSYNs, plainSYNs),
	}
}

// BusyError ends a dial whose guess the budget has no room for now.
type BusyError struct{ Sockets int }

// Error says how much it would have taken.
func (e *BusyError) Error() string {
	return fmt.Sprintf("guessing takes %d sockets, and the budget has not so many left now", e.Sockets)
}

// Take waits for n sockets and takes them, all or none, in the order of
// asking. Whoever took them gives them back by Return.
func (b *Budget) Take(ctx context.Context, n int) error {
	if b == nil || n > b.size {
		return errBudget
	}
	return b.sockets.Acquire(ctx, int64(n))
}

// Return gives n sockets back.
func (b *Budget) Return(n int) { b.sockets.Release(int64(n)) }

// try is Take that does not wait.
func (b *Budget) try(n int) error {
	if b == nil || n > b.size {
		return errBudget
	}
	if !b.sockets.TryAcquire(int64(n)) {
		return &BusyError{n}
	}
	return nil
}

// pace waits until one more SYN may leave.
func (b *Budget) pace(ctx context.Context) error { return b.syns.Wait(ctx) }
