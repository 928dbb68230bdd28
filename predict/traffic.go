package predict

import (
	"math"
	"time"
)

// What is believed of other hosts' traffic before any was watched, as if it had
// been watched for priorTime and half a mapping had been seen: 17 a second in
// the mean, which may as well be none or 60. It matters only until the samples
// span more than that, and errs to the busy side: a window too wide by ten
// ports costs ten SYNs, one too narrow costs the connection.
const (
	priorCount = 0.5
	priorTime  = 0.03 // seconds

	// More mappings of others than this are not predicted: 50 a second for
	// five minutes. A new sample costs less than so wide a window, and reports
	// come from strangers, who must not make long tables.
	farthest = 16384
)

// traffic is the distribution of the number of mappings that other hosts make
// in some time. Connections of many hosts are a Poisson process; the rate of it
// is only as well known as the count over the watched time tells (a gamma
// distribution), which makes the number negative binomial: the same mean, with
// a longer tail.
type traffic struct {
	mean float64
	r, q float64 // of the negative binomial; q is 0 for a Poisson
}

// others returns the traffic of the model in an elapsed time.
func (m Model) others(elapsed time.Duration) traffic {
	t := max(elapsed.Seconds(), 0)
	rate := max(m.Drift, 0)
	if m.Span <= 0 {
		return traffic{mean: rate * t}
	}
	span := m.Span.Seconds()
	r := priorCount + rate*span
	scale := priorTime + span
	return traffic{mean: r * t / scale, r: r, q: t / (scale + t)}
}

// masses returns the probability of 0, 1, 2... mappings, at most so many, and
// without the last 1e-9; where even farthest are too few, nothing.
func (x traffic) masses(most int) []float64 {
	if x.mean == 0 {
		return []float64{1}
	}
	if !(x.mean <= farthest) {
		return []float64{0}
	}
	most = min(most, farthest)
	log := -x.mean // of the probability of none
	if x.q > 0 {
		log = x.r * math.Log1p(-x.q)
	}
	var p []float64
	sum := 0.0
	for k := 0.0; len(p) < most && sum < 1-1e-9; k++ {
		p = append(p, math.Exp(log))
		sum += p[len(p)-1]
		if x.q > 0 {
			log += math.Log((x.r + k) * x.q / (k + 1))
		} else {
			log += math.Log(x.mean / (k + 1))
		}
	}
	return p
}

// atLeast returns the highest number that the traffic almost surely reaches, and
// the chance, at most tail, that it does not.
func (x traffic) atLeast(tail float64, most int) (n int, missed float64) {
	p := x.masses(most)
	for n < len(p)-1 && missed+p[n] <= tail {
		missed += p[n]
		n++
	}
	return n, missed
}

// atMost returns the lowest number that the traffic almost surely does not
// exceed, and the chance that it does: more than tail only where that number
// were most or higher.
func (x traffic) atMost(tail float64, most int) (n int, missed float64) {
	p := x.masses(most)
	missed = 1 - p[0]
	for n < len(p)-1 && missed > tail {
		n++
		missed -= p[n]
	}
	return n, max(missed, 0)
}
