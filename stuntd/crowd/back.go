package crowd

import (
	"cmp"
	"context"
	"fmt"
	"time"
)

// look is how often nodes are counted while they come and go.
const look = 100 * time.Millisecond

// count adds up all processes.
func (r *run) count(ctx context.Context) (all Count, err error) {
	for _, p := range r.guests {
		var c Count
		if err := p.call(ctx, "Count", Nothing(0), &c); err != nil {
			return all, err
		}
		all.add(c)
	}
	return all, nil
}

// wait counts until done is content.
func (r *run) wait(ctx context.Context, total int, done func(Count) bool) (c Count, err error) {
	ctx, cancel := context.WithTimeout(ctx, r.Patience)
	defer cancel()
	tick := time.NewTicker(look)
	defer tick.Stop()
	began, said := time.Now(), time.Now()
	for {
		if c, err = r.count(ctx); err != nil {
			return c, fmt.Errorf("after %v, with %d of %d nodes: %w", time.Since(began).Round(time.Second), c.Standing, total, err)
		}
		if done(c) {
			return c, nil
		}
		if time.Since(said) > time.Second {
			said = time.Now()
			r.say("%6.1f s: %d of %d nodes are there; %d attempts have failed", time.Since(began).Seconds(), c.Standing, total, c.Failed)
		}
		select {
		case <-tick.C:
		case <-ctx.Done(): // the next count tells
		}
	}
}

// away ends the server with stop, starts another at once, and measures how all
// come back to that: since the server is gone, which may be before stop returns.
func (r *run) away(ctx context.Context, how string, total int, stop func() (gone time.Time, err error)) (back Return, err error) {
	back = Return{How: how, Nodes: total}
	before, err := r.count(ctx)
	if err != nil {
		return back, err
	}
	began := time.Now()
	type end struct {
		gone time.Time
		err  error
	}
	stopped := make(chan end, 1) // capacity for the one result
	go func() {
		gone, err := stop()
		stopped <- end{gone, err}
	}()
	// While it drains, they leave; each look sees how many.
	lost, tick := before.Lost, time.NewTicker(look)
	defer tick.Stop()
	var over end
	for over.gone.IsZero() {
		select {
		case over = <-stopped:
		case <-tick.C:
		}
		c, err := r.count(ctx)
		if err = cmp.Or(over.err, err); err != nil {
			return back, err
		}
		back.Spread = max(back.Spread, float64(c.Lost-lost)/float64(total))
		lost = c.Lost
	}
	if err := r.hosts.start(ctx); err != nil {
		return back, err
	}
	back.Away = time.Since(over.gone)
	r.say("%s: another server is there %v after the end of the first, which took %v", how,
		back.Away.Round(time.Millisecond), over.gone.Sub(began).Round(time.Millisecond))
	c, err := r.wait(ctx, total, func(c Count) bool {
		all := c.Lost-before.Lost >= int64(total) // else it may be old sessions, whose end nobody has read yet
		if all && back.Half == 0 && c.Standing >= int64(total)/2 {
			back.Half = time.Since(over.gone)
		}
		return all && c.Standing == int64(total)
	})
	if err != nil {
		return back, err
	}
	back.Back, back.Failed = time.Since(over.gone), c.Failed-before.Failed
	r.say("%s: all %d are back after %v", how, total, back.Back.Round(time.Millisecond))
	return back, nil
}
