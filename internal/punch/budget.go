package punch

import (
	"context"
	"errors"

	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"
)

// Budget bounds what guessing takes of a process and of its network: routers
// count half-open connections, and some count SYNs. It is shared by the races
// of a process and safe for concurrent use.
type Budget struct {
	size    int
	sockets *semaphore.Weighted
	syns    *rate.Limiter
}

// burst is how many SYNs of a guess may leave at once.
const burst = 128

var errBudget = errors.New("guessing takes more sockets than its budget has")

// NewBudget returns a budget of so many sockets at once and SYNs a second.
func NewBudget(sockets, synsPerSecond int) *Budget {
	return &Budget{sockets, semaphore.NewWeighted(int64(sockets)), rate.NewLimiter(rate.Limit(synsPerSecond), burst)}
}

// acquire takes n sockets, all or none, in the order of asking.
func (b *Budget) acquire(ctx context.Context, n int) error {
	if b == nil || n > b.size {
		return errBudget
	}
	return b.sockets.Acquire(ctx, int64(n))
}

func (b *Budget) release(n int) { b.sockets.Release(int64(n)) }

// pace waits until one more SYN may leave.
func (b *Budget) pace(ctx context.Context) error { return b.syns.Wait(ctx) }
