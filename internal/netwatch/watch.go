package netwatch

import (
	"context"
	"errors"
	"os"
	"time"
)

const (
	// News comes in bursts: joining a network takes the kernel an address, its
	// routes, and a second or two later the same for IPv6. It is passed on when
	// there was none for settle, or, if it does not end, after settleAtMost.
	settle       = 250 * time.Millisecond
	settleAtMost = 2 * time.Second

	// leastSleep is the shortest sleep that counts. Anything shorter is a pause
	// that connections and NATs live through, or a busy machine.
	leastSleep = 5 * time.Second
)

// news is where the kernel says that something may have changed.
type news interface {
	// wait returns nil when there is some, os.ErrDeadlineExceeded when it is
	// t, the zero time being never, and any other error when there is going to
	// be none any more, as after close.
	wait(t time.Time) error
	// slept returns how long the machine has slept since the last call.
	slept() time.Duration
	close() // may be repeated, and from elsewhere
}

// Watch calls c.Wake whenever it may be time to look, for the first time when
// it has begun to watch, until ctx ends. On Linux
// it costs nothing in between: two goroutines wait for the kernel. Elsewhere,
// and where Linux does not let it listen, it looks at the clock.
func Watch(ctx context.Context, c Config) {
	kernel, err := listen(c.Net)
	c.Wake(0)
	if err == nil {
		stop := context.AfterFunc(ctx, kernel.close)
		follow(kernel, c.Wake)
		stop()
		kernel.close()
	}
	if ctx.Err() == nil { // the kernel has nothing to say, or no more
		poll(ctx, c.poll(), c.Wake)
	}
}

// follow passes news on until there is going to be none.
func follow(k news, wake func(slept time.Duration)) {
	for k.wait(time.Time{}) == nil && quiet(k) == nil {
		wake(k.slept())
	}
}

// quiet waits until a burst of news is over.
func quiet(k news) error {
	for end := time.Now().Add(settleAtMost); ; {
		t := time.Now().Add(settle)
		if t.After(end) {
			t = end
		}
		err := k.wait(t)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil
		case err != nil:
			return err
		case !time.Now().Before(end):
			return nil
		}
	}
}

// poll wakes at fixed times. A time that comes much later than it should by
// the wall clock tells of sleep; a clock that was set does, too, which costs
// whoever is woken some work for nothing.
func poll(ctx context.Context, every time.Duration, wake func(slept time.Duration)) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for last := time.Now(); ; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		now := time.Now()
		wake(late(last, now, every))
		last = now
	}
}

// late is how long a machine has slept whose ticks came at these times.
func late(last, now time.Time, every time.Duration) time.Duration {
	d := now.Round(0).Sub(last.Round(0)) - every // without the monotonic clock, which may have slept too
	if d < leastSleep {
		return 0
	}
	return d
}
