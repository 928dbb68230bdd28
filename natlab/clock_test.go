package natlab

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Events come in the order of their times, equal ones in that of scheduling,
// and never early.
func TestClockOrder(t *testing.T) {
	Need(t)
	c, err := newClock()
	require.NoError(t, err)
	defer c.close()
	const n = 2000
	arrived := make(chan event, n)
	r := rand.New(rand.NewPCG(1, 1))
	begin := c.now() + 50*time.Millisecond // after all are scheduled, on any machine that is not hung
	for i := range n {
		at := begin + time.Duration(r.IntN(200))*100*time.Microsecond
		c.at(at, newPacket(1), func(p *packet) {
			if c.now() < at {
				t.Error("early")
			}
			p.free()
			arrived <- event{at: at, seq: uint64(i)}
		})
	}
	if c.now() >= begin {
		t.Skip("the machine was too slow to schedule in time")
	}
	last := <-arrived
	for range n - 1 {
		next := <-arrived
		require.True(t, last.before(&next), "%v then %v", last, next)
		last = next
	}
}

func TestHeap(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var c clock
	for i := range 5000 {
		c.push(event{at: time.Duration(r.IntN(100)), seq: uint64(i)})
		if i%3 == 0 {
			c.pop()
		}
	}
	last := c.pop()
	for len(c.heap) > 0 {
		next := c.pop()
		require.True(t, last.before(&next))
		last = next
	}
}

// A link holds maxQueued bytes and drops what comes then.
func TestQueueIsBounded(t *testing.T) {
	t.Parallel()
	lab := Start(t, Config{})
	never := func(*packet) { t.Error("arrived an hour early") }
	w := lab.newWire("link", Link{Delay: time.Hour}, never, never)
	b := segment(t, from4, to4, 64, 1400)
	for range 2 * maxQueued / len(b) {
		p := newPacket(len(b))
		copy(p.b, b)
		w.up.send(p)
	}
	queued := w.up.queued.Load()
	require.LessOrEqual(t, queued, int64(maxQueued))
	require.Greater(t, queued, int64(maxQueued-len(b)))
	require.Contains(t, lab.trace.String(), "drop: queue full")
}
