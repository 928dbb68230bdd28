package predict

import (
	"math"
	"slices"
)

// evidence holds, for each kind, the logarithm of the probability that a NAT of
// that kind would have made just these samples, times that of meeting one. Zero
// means that the kind is out of the question.
type evidence [len(kindNames)]float64

// How often NATs of each kind are met, roughly; what a handful of samples says
// outweighs it.
var prior = evidence{
	Preserving: math.Log(0.5),
	Sequential: math.Log(0.2),
	Block:      math.Log(0.1),
	Random:     math.Log(0.2),
}

const (
	allPorts = lastPort - firstPort + 1

	// How often a preserving NAT finds the port taken by another host.
	taken = 0.02
	// How often two SYNs of a burst change order on the way.
	swapped = 1.0 / 16

	// Carriers give a subscriber 252 to 4,032 ports; home routers draw from
	// the ephemeral range of Linux, 28,232 ports. A wider one is Random.
	minBlock = 64
	maxBlock = 32768
)

// likeliest returns the kind with most evidence and its share of all.
func (e evidence) likeliest() (Kind, float64) {
	best := Unknown
	for k := range e {
		if e[k] != 0 {
			e[k] += prior[k]
		}
		if e[k] != 0 && (best == Unknown || e[k] > e[best]) {
			best = Kind(k)
		}
	}
	sum := 0.0
	for k := range e {
		if e[k] != 0 {
			sum += math.Exp(e[k] - e[best])
		}
	}
	return best, 1 / sum
}

// preservingEvidence is that of n samples of which so many kept their port.
// Less than three of four are not what the word means.
func preservingEvidence(kept, n int) float64 {
	if kept*4 < n*3 {
		return 0
	}
	return float64(kept)*math.Log1p(-taken) + float64(n-kept)*math.Log(taken/allPorts)
}

// randomEvidence is that of n draws from all ports.
func randomEvidence(n int) float64 { return -float64(n) * math.Log(allPorts) }

// blockEvidence is that of draws from a block anywhere, of a size of which
// nothing is known but the order of magnitude.
func blockEvidence(s []Sample) float64 {
	lo, hi := extent(s)
	seen := hi - lo + 1
	sum := 0.0
	const perOctave = 16
	for i := 0; ; i++ {
		size := minBlock * math.Exp2(float64(i)/perOctave)
		if size > maxBlock {
			break
		}
		if size < float64(seen) {
			continue
		}
		places := (size - float64(seen) + 1) / (allPorts - size + 1) // of the blocks of this size that hold them all
		// Relative to the smallest block, as it could be too small for a float.
		sum += places * math.Exp(-float64(len(s))*math.Log(size/minBlock))
	}
	if sum == 0 {
		return 0
	}
	sizes := perOctave*math.Log2(maxBlock/minBlock) + 1
	return math.Log(sum/sizes) - float64(len(s))*math.Log(minBlock)
}

// evidence is that of a counter: a first port, a delta, of which half are 1 and
// a quarter 2, and the steps. Others' mappings between them are Poisson with a
// rate of which only the prior is known (see priorCount), each gap in its own
// time: twenty mappings in the three seconds that a machine stood still are
// none too many for a counter that gave six ports in a row before.
func (w *walk) evidence() float64 {
	if w.delta == 0 {
		return 0
	}
	e := -math.Log(allPorts) - math.Ln2*float64(min(abs(w.delta), 16))
	marks := w.marks()
	for i := range w.steps {
		if w.steps[i].far() {
			e -= math.Log(allPorts)
		} else if marks[i+1].at < marks[i].at {
			e += math.Log(swapped)
		}
	}
	slices.SortStableFunc(marks, func(a, b mark) int { return a.at - b.at })
	k, t := 0.0, 0.0
	for i := 1; i < len(marks); i++ {
		gap := max(marks[i].at-marks[i-1].at-1, 0)
		// The resolution of what is known about arrivals is about a millisecond.
		dt := max((marks[i].t - marks[i-1].t).Abs().Seconds(), 0.001)
		e += float64(gap)*math.Log(dt) - lfact(gap)
		k, t = k+float64(gap), t+dt
	}
	return e + lgamma(priorCount+k) - lgamma(priorCount) + priorCount*math.Log(priorTime) - (priorCount+k)*math.Log(priorTime+t)
}

func lgamma(x float64) float64 {
	l, _ := math.Lgamma(x)
	return l
}

// lfact returns log n!.
func lfact(n int) float64 { return lgamma(float64(n) + 1) }
