package crowd

import (
	"crypto/rand"
	mathrand "math/rand/v2"
	"slices"
	"sync"
	"time"
)

// dialTime is how long a dial may take before it counts as lost.
const dialTime = 5 * time.Second

// dials are those under way in one process.
type dials struct {
	mu      sync.Mutex           // guards following
	waiting map[string]time.Time // when each began, by its id
	done    Dialled
}

// Dialled is what came of dials.
type Dialled struct {
	Ringing []time.Duration // from the Dial to the Ringing: one round trip to the server
	Answer  []time.Duration // to the Answer: over the server to the peer and back
	Failed  int             // refused by the server, or lost
}

func (d *Dialled) add(more Dialled) {
	d.Ringing, d.Answer, d.Failed = append(d.Ringing, more.Ringing...), append(d.Answer, more.Answer...), d.Failed+more.Failed
}

// run dials from random nodes of this process, and returns what came of it.
func (c *nodes) run(d Dialling) Dialled {
	tick := time.NewTicker(time.Second / time.Duration(d.Rate))
	defer tick.Stop()
	over := time.After(d.For)
	peers := (d.Last - d.First + d.Step - 1) / d.Step
	for {
		select {
		case <-over:
			return c.dials.finish()
		case <-c.ctx.Done():
			return c.dials.finish()
		case <-tick.C:
			c.dial(name(d.First + d.Step*mathrand.N(peers)))
		}
	}
}

// dial begins one from a random node that is there.
func (c *nodes) dial(peer string) {
	c.mu.Lock()
	n := c.all[mathrand.N(len(c.all))]
	c.mu.Unlock()
	n.mu.Lock()
	s := n.session
	n.mu.Unlock()
	if s == nil || name(n.index) == peer {
		return
	}
	id := make([]byte, 16)
	rand.Read(id) // never fails, by its documentation
	f := encode(frame{Kind: kindDial, DialID: id, ID: peer, Noise: someNoise, Candidates: someCandidates, Report: someReport})
	c.dials.mu.Lock()
	c.dials.waiting[string(id)] = time.Now()
	c.dials.mu.Unlock()
	s.conn.Write(f) // an error is for the reader
}

// heard notes a Ringing or an Answer and reports whether the dial is over.
func (d *dials) heard(f *frame) bool {
	now := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	began, ours := d.waiting[string(f.DialID)]
	switch {
	case !ours:
		return false
	case f.Kind == kindRinging:
		d.done.Ringing = append(d.done.Ringing, now.Sub(began))
		return false
	}
	delete(d.waiting, string(f.DialID))
	if f.Code != 0 {
		d.done.Failed++
		return false
	}
	d.done.Answer = append(d.done.Answer, now.Sub(began))
	return true
}

// refused reports whether an Error is about a dial.
func (d *dials) refused(f *frame) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(f.DialID) == 0 {
		return false
	}
	if _, ours := d.waiting[string(f.DialID)]; ours {
		delete(d.waiting, string(f.DialID))
		d.done.Failed++
	}
	return true
}

// finish waits for the dials under way, and returns what came of all.
func (d *dials) finish() Dialled {
	for end := time.Now().Add(dialTime); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		d.mu.Lock()
		under := len(d.waiting)
		d.mu.Unlock()
		if under == 0 {
			break
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	done := d.done
	done.Failed += len(d.waiting)
	clear(d.waiting)
	d.done = Dialled{}
	return done
}

// A Quantile is of durations: the median and the one of a hundred.
type Quantile struct{ P50, P99 time.Duration }

func quantile(ds []time.Duration) Quantile {
	if len(ds) == 0 {
		return Quantile{}
	}
	ds = slices.Sorted(slices.Values(ds))
	return Quantile{ds[len(ds)/2], ds[len(ds)*99/100]}
}
