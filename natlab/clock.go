package natlab

import (
	"sync"
	"time"
)

// clock delivers packets when they are due. It runs on an alarm of the kernel:
// Go's own timers are rounded to milliseconds when the process is idle, and
// latency is measured here in fractions of that.
type clock struct {
	start time.Time
	alarm *alarm
	done  chan struct{} // closed when run has returned

	mu     sync.Mutex // guards following
	heap   []event    // the earliest first, in the order of container/heap
	seq    uint64     // of the next event: equal times keep their order
	closed bool
}

// event is a packet that arrives somewhere at a time since the lab's start.
type event struct {
	at     time.Duration
	seq    uint64
	p      *packet
	arrive func(*packet)
}

func (e *event) before(f *event) bool {
	return e.at < f.at || e.at == f.at && e.seq < f.seq
}

func newClock() (*clock, error) {
	a, err := newAlarm()
	if err != nil {
		return nil, err
	}
	c := &clock{start: time.Now(), alarm: a, done: make(chan struct{})}
	go c.run() // until close, which waits
	return c, nil
}

// now is the time since the lab's start.
func (c *clock) now() time.Duration { return time.Since(c.start) }

// at calls arrive with the packet at a time since the lab's start. Calls come
// one at a time, in the order of time and then of scheduling.
func (c *clock) at(t time.Duration, p *packet, arrive func(*packet)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		p.free()
		return
	}
	c.push(event{t, c.seq, p, arrive})
	c.seq++
	if c.heap[0].seq == c.seq-1 {
		c.alarm.set(max(t-c.now(), 1))
	}
}

func (c *clock) run() {
	defer close(c.done)
	var due []event
	for c.alarm.wait() == nil {
		for due = c.due(due[:0]); len(due) > 0; due = c.due(due[:0]) {
			for i := range due {
				due[i].arrive(due[i].p)
				due[i] = event{}
			}
		}
	}
}

// due moves what has come due to list; if that is nothing, it sets the alarm
// for what comes next.
func (c *clock) due(list []event) []event {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	for len(c.heap) > 0 && c.heap[0].at <= now {
		list = append(list, c.pop())
	}
	if len(list) == 0 && len(c.heap) > 0 && !c.closed {
		c.alarm.set(max(c.heap[0].at-now, 1))
	}
	return list
}

func (c *clock) close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.alarm.close()
	<-c.done
}

// push and pop are container/heap without the boxing of every event, which
// would be an allocation per packet.
func (c *clock) push(e event) {
	h := append(c.heap, e)
	i := len(h) - 1
	for i > 0 && h[i].before(&h[(i-1)/2]) {
		h[i], h[(i-1)/2] = h[(i-1)/2], h[i]
		i = (i - 1) / 2
	}
	c.heap = h
}

func (c *clock) pop() event {
	h := c.heap
	first, n := h[0], len(h)-1
	h[0], h[n] = h[n], event{}
	h = h[:n]
	for i := 0; ; {
		child := 2*i + 1
		if child >= n {
			break
		}
		if child+1 < n && h[child+1].before(&h[child]) {
			child++
		}
		if !h[child].before(&h[i]) {
			break
		}
		h[i], h[child] = h[child], h[i]
		i = child
	}
	c.heap = h
	return first
}
