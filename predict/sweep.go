package predict

import "time"

// Side is one end of a meeting of counters.
type Side struct {
	Model   Model         // Sequential; see Known for a port that is no prediction
	Elapsed time.Duration // between the Model's last sample and the first dial
	// Shared says that one mapping serves all ports of an address: the NAT's
	// mapping is address-dependent, or endpoint-independent.
	Shared bool
}

// Known returns the side of an end whose public port is known: behind an
// endpoint-independent mapping, or none.
func Known(port uint16) Side {
	return Side{Model: Model{Kind: Sequential, Last: port}, Shared: true}
}

// Sweep is the part of one end in a meeting: the ports of the other end's
// counter to dial, in this order, each from one local port.
type Sweep struct {
	Target Counter // of the other end
	Count  int     // how many dials
	Stride int     // indices of Target between one dial and the next
	Chance float64 // at least: that a dial of each end is between the same two ports
}

// Ports returns the ports to dial, in order.
func (s Sweep) Ports() []uint16 { return s.Target.Sweep(s.Count, s.Stride) }

// Pace is how a meeting is carried out.
type Pace struct {
	Between time.Duration // one dial and the next of one end
	Most    int           // dials of one end; 0 means 1,024
}

func (p Pace) most() int {
	if p.Most <= 0 {
		return 1024
	}
	return p.Most
}

// Meet plans how the ends behind two sequential NATs meet, and returns what
// each of them dials. Both compute the same plan from the same two sides, if
// they agree on which is the first (the one that called).
//
// The first end's i-th mapping has the index i+x of its counter, where x are
// the mappings that other hosts made since the prediction; the second's j-th
// has j+y. If the first dials the indices 0, 1, 2... of the second's counter and
// the second 0, 2, 4... of the first's, the dials i = x+2y and j = x+y are between
// the same two ports. That holds while x and y grow during the burst as well:
// f(j) = y(j) + x(j+y(j)) - j is not negative for j = 0, cannot fall by more than
// one from j to j+1 as x and y never fall, and is negative in the end; so it is
// zero somewhere. No other pair of strides has this property: s and t need
// st = 2. Of an end whose mapping is Shared all dials have the index x, so that
// the other can find it by stride 1.
//
// Neither end needs to know x or y, only bounds of them: the dials start at what
// both almost surely exceed and are as many as the wanted chance needs, with
// the time that the dials themselves take; or as many as the pace allows. It
// reports false where that gives less than [Worth].
func Meet(first, second Side, want float64, p Pace) (a, b Sweep, ok bool) {
	if first.Model.Kind != Sequential || second.Model.Kind != Sequential {
		return a, b, false
	}
	want = min(want, 1-1e-6)
	if a, b, ok = meet(first, second, want, p); ok {
		return a, b, true
	}
	// The best that fits.
	low, high := Worth, want
	for range 12 {
		mid := (low + high) / 2
		if x, y, fits := meet(first, second, mid, p); fits {
			a, b, ok, low = x, y, true, mid
		} else {
			high = mid
		}
	}
	return a, b, ok
}

// meet is Meet for one chance; it reports whether the dials are within the pace.
func meet(first, second Side, want float64, p Pace) (a, b Sweep, ok bool) {
	tail := (1 - want) / 4 // two ends with two tails each
	xlo, xlow := first.least(tail)
	ylo, ylow := second.least(tail)
	for {
		burst := time.Duration(max(a.Count, b.Count)) * p.Between
		xhi, xhigh := first.most(burst, tail)
		yhi, yhigh := second.most(burst, tail)
		m, n := dials(xhi-xlo, yhi-ylo, first.Shared, second.Shared)
		if max(m, n) > p.most() {
			return a, b, false
		}
		if m <= a.Count && n <= b.Count {
			a.Chance = max(1-xlow-ylow-xhigh-yhigh, 0)
			b.Chance = a.Chance
			break
		}
		a.Count, b.Count = m, n // a longer burst lets in more of the others' traffic
	}
	a.Stride, b.Stride = 1, 1
	if !first.Shared && !second.Shared {
		b.Stride = 2
	}
	a.Target, b.Target = second.from(ylo), first.from(xlo)
	return a, b, a.Chance >= Worth && len(a.Ports()) == a.Count && len(b.Ports()) == b.Count
}

// least returns the offset that the first dial's mapping almost surely has.
func (s Side) least(tail float64) (int, float64) {
	return s.Model.others(s.Elapsed).atLeast(tail, s.Model.Counter().Period())
}

// most returns the offset that the mappings of a burst almost surely do not
// exceed. A Shared one has that of the first dial.
func (s Side) most(burst time.Duration, tail float64) (int, float64) {
	if s.Shared {
		burst = 0
	}
	return s.Model.others(s.Elapsed+burst).atMost(tail, s.Model.Counter().Period())
}

// from returns the side's counter from an offset on.
func (s Side) from(offset int) Counter {
	c := s.Model.Counter()
	c.Base = c.Port(offset)
	return c
}

// dials returns how many dials each end needs for offsets up to x and y.
func dials(x, y int, firstShared, secondShared bool) (m, n int) {
	switch {
	case firstShared && secondShared: // one index each, to be found by the other
		return y + 1, x + 1
	case firstShared: // x is found by the dial j = x, from the index x+y
		return x + y + 1, x + 1
	case secondShared:
		return y + 1, x + y + 1
	}
	return x + 2*y + 1, x + y + 1
}
