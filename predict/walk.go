package predict

import (
	"slices"
	"time"
)

// step is the way from one mapping to the next.
type step struct {
	from, to uint16
	d        int // the short way round: from 65535 to 1 it is 2
	dt       time.Duration
}

// walk is the samples read as those of a counter.
type walk struct {
	steps []step // of all bursts, in the order of time
	first int    // of steps, of the last burst
	delta int    // 0: no counter
	long  int    // steps that do not fit: wraps, jumps
}

// walkOf reads samples, in the order of their time, as a counter's.
func walkOf(s []Sample) walk {
	var w walk
	for i := 1; i < len(s); i++ {
		from, to := s[i-1].Mapped.Port(), s[i].Mapped.Port()
		if dt := s[i].At - s[i-1].At; dt <= maxGap {
			w.steps = append(w.steps, step{from, to, int(int16(to - from)), dt})
		} else {
			w.first = len(w.steps)
		}
	}
	w.delta = w.findDelta()
	return w
}

// far reports whether a step is too long for others' traffic, or none at all.
func (s step) far() bool {
	return s.d == 0 || float64(abs(s.d)) > maxStep+maxRate*s.dt.Seconds()
}

// findDelta returns the step of the counter that the ports look like a walk of:
// short ones in one direction, or ports so close together that their order does
// not matter. Other hosts' connections make multiples of the step, so it is the
// greatest common divisor and not the mean. Of four steps or more one may break
// the rule: a wrap, a port that was skipped for being reserved, or two SYNs that
// changed order.
func (w *walk) findDelta() int {
	up, down := 0, 0
	g, at, trend := 0, 0, 0
	for i, s := range w.steps {
		d := s.d
		if s.far() {
			w.long++
			d = 0
		}
		if d > 0 {
			up++
		} else if d < 0 {
			down++
		}
		g = gcd(g, abs(d))
		at += d
		trend += (2*i + 2 - len(w.steps)) * at // the slope of the line through all, but for its scale
	}
	ordered := w.long+min(up, down) <= len(w.steps)/4
	if len(w.steps) < minSteps || !ordered && !w.dense() {
		return 0
	}
	if trend < 0 {
		g = -g
	}
	return g
}

// dense reports whether the ports lie closer together than random ones of even
// the smallest block would: five within 32 of 252 are 1 case in 800.
func (w *walk) dense() bool {
	at, lo, hi := 0, 0, 0
	for _, s := range w.steps {
		at += s.d
		lo, hi = min(lo, at), max(hi, at)
	}
	return hi-lo <= maxDense*len(w.steps)
}

// track returns where the counter was at each sample of its bursts put one
// behind the other, in steps of delta; one that is far counts as one step.
func (w *walk) track() []int {
	at := []int{0}
	for i, s := range w.steps {
		d := 1
		if !s.far() {
			d = s.d / w.delta
		}
		at = append(at, at[i]+d)
	}
	return at
}

// mark is where the counter was when a sample was taken.
type mark struct {
	at int           // as in track
	t  time.Duration // since the first sample, without the time between bursts
}

// marks returns the samples as marks, in the order of time.
func (w *walk) marks() []mark {
	marks := make([]mark, 0, len(w.steps)+1)
	var t time.Duration
	for i, at := range w.track() {
		if i > 0 {
			t += w.steps[i-1].dt
		}
		marks = append(marks, mark{at, t})
	}
	return marks
}

// traffic returns the mappings of others between the samples, and in how long.
func (w *walk) traffic() (count int, span time.Duration) {
	at := w.track()
	for _, s := range w.steps {
		span += s.dt
	}
	return max(slices.Max(at)-slices.Min(at)-len(w.steps), 0), span
}

// describe sets what the model says of a counter.
func (w *walk) describe(m *Model) {
	m.Delta = w.delta
	count, span := w.traffic()
	if m.Span = span; span > 0 {
		m.Drift = float64(count) / span.Seconds()
	}
	m.Lo, m.Hi = w.bounds()
	// Where SYNs changed order the newest is not the furthest.
	at := w.track()
	best := len(w.steps)
	for i := best - 1; i > w.first; i-- {
		if at[i] > at[best] {
			best = i
		}
	}
	if best > w.first {
		m.Last = w.steps[best-1].to
	}
}

// bounds returns the range of a counter that was seen to wrap, or zeros. A wrap
// is a jump against the direction, from about the last port to about the first.
func (w *walk) bounds() (lo, hi uint16) {
	lo, hi = lastPort, 0
	wrapped := 0
	for _, s := range w.steps {
		lo, hi = min(lo, s.from, s.to), max(hi, s.from, s.to)
		if s.far() && s.from > s.to == (w.delta > 0) {
			wrapped++
		}
	}
	if wrapped != 1 || lo <= firstPort+maxStep && hi >= lastPort-maxStep {
		return 0, 0
	}
	return lo, hi
}
