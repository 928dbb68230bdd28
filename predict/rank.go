package predict

import (
	"math"
	"slices"
	"time"
)

// Ranked is a port and the probability that the next mapping gets it, given
// that the model's Kind is right. Where Pooling is Arbitrary it says nothing of
// the address.
type Ranked struct {
	Port uint16
	Mass float64
}

// Rank returns at most n ports that the next mapping of a socket with the given
// local port may get when elapsed has passed since m.At, the likeliest first,
// without repeats. It is a pure function of the model and its arguments, so
// both ends of a dial can compute the same list.
//
//   - Preserving: the local port, and then those after it, which is where such
//     a NAT looks when the port is taken.
//   - Sequential: the ports after the last one seen, in steps of Delta, by the
//     probability that others behind the NAT took those before; but the next one
//     is the first unless another is clearly likelier. None if that is too long
//     ago to tell.
//   - Block: the ports of the block, all alike, spread evenly over it.
//   - Random and Unknown: none. A guess in all of 64 Ki ports is not a
//     candidate; guessing in numbers is sized by [SizeOneSided].
func (m Model) Rank(local uint16, elapsed time.Duration, n int) []Ranked {
	if n <= 0 {
		return nil
	}
	switch m.Kind {
	case Preserving:
		return m.rankPreserving(local, n)
	case Sequential:
		return m.rankSequential(elapsed, n)
	case Block:
		return m.rankBlock(n)
	}
	return nil
}

// Window returns the fewest ports that hold the wanted mass, or all that the
// model knows, in the order of [Model.Rank]; but at least one.
func (m Model) Window(local uint16, elapsed time.Duration, mass float64) []uint16 {
	var ports []uint16
	sum := 0.0
	for _, r := range m.Rank(local, elapsed, math.MaxInt) {
		ports = append(ports, r.Port)
		if sum += r.Mass; sum >= mass {
			break
		}
	}
	return ports
}

// Candidates returns the ports of [Model.Rank] where the time since the last
// sample is not known: those of a Sequential model are in the order in which
// the NAT comes to them.
func (m Model) Candidates(local uint16, n int) []uint16 {
	if m.Kind == Sequential {
		if c := m.Counter(); c.Base != m.Last {
			return c.Sweep(min(n, c.Period()-1), 1) // all but Last
		}
		return nil
	}
	var ports []uint16
	for _, r := range m.Rank(local, 0, n) {
		ports = append(ports, r.Port)
	}
	return ports
}

// Space returns where a mapping is drawn from whose port cannot be told. An
// Arbitrary pool multiplies it: the address is to be guessed as well.
func (m Model) Space() Space {
	_, size := Counter{Lo: m.Lo, Hi: m.Hi}.bounds()
	if m.Kind == Preserving {
		size = 1
	}
	if m.Pooling == Arbitrary {
		size *= max(m.Addresses, 1)
	}
	return Space{Ports: size, Overload: m.Overload}
}

// rankPreserving gives the local port what Laplace's rule of succession does
// after so many samples, and halves the rest from port to port.
func (m Model) rankPreserving(local uint16, n int) []Ranked {
	if local == 0 {
		return nil
	}
	mass, rest := 1.0, 0.0
	if m.Samples > 0 {
		mass = float64(m.Samples+1) / float64(m.Samples+2)
		rest = 1 - mass
	}
	ranked := []Ranked{{local, mass}}
	next := Counter{Base: local, Delta: 1}
	// After 16 halvings the rest is no use to anybody who adds masses up.
	for i := 1; i < min(n, 17); i++ {
		rest /= 2
		ranked = append(ranked, Ranked{next.Port(i), rest})
	}
	return ranked
}

// clearly is how much likelier than the next port another one must be to come
// before it. A handful of samples that happened to see others makes a quiet NAT
// look busy. With 1.5 the first candidate hits as often as the next port where
// that is seldom missed, and still many times as often where it mostly is
// (TestSimulation).
const clearly = 1.5

func (m Model) rankSequential(elapsed time.Duration, n int) []Ranked {
	c := m.Counter()
	if c.Base == m.Last {
		return nil // no step, no counter
	}
	masses := m.others(elapsed).masses(c.Period())
	ranked := make([]Ranked, len(masses))
	known := 0.0
	for k, mass := range masses {
		ranked[k] = Ranked{c.Port(k), mass}
		known += mass
	}
	if !(known >= 0.5) {
		return nil // too long ago: it may have been round, and every port is as good as another
	}
	rest := ranked
	if slices.Max(masses) < clearly*masses[0] {
		rest = ranked[1:]
	}
	slices.SortStableFunc(rest, func(a, b Ranked) int {
		switch {
		case a.Mass > b.Mass:
			return -1
		case a.Mass < b.Mass:
			return 1
		}
		return 0
	})
	return ranked[:min(n, len(ranked))]
}

func (m Model) rankBlock(n int) []Ranked {
	ports := spread(m.Lo, m.Hi, n)
	mass := m.covered() / float64(int(m.Hi)-int(m.Lo)+1)
	ranked := make([]Ranked, len(ports))
	for i, p := range ports {
		ranked[i] = Ranked{p, mass}
	}
	return ranked
}

// covered returns the chance that the next port is within the bounds of a
// block that were estimated from the samples. Of n draws and one more, the last
// is the lowest or the highest with 2/(n+1), and then further out than the mean
// gap, by which the bounds were widened, with (1+1/(n-1))^-(n-1).
func (m Model) covered() float64 {
	n := float64(m.Samples)
	if n < 2 {
		return 1 // not estimated: the caller knows them
	}
	return 1 - 2/(n+1)*math.Pow(1+1/(n-1), 1-n)
}

// spread returns up to n ports between lo and hi at even distances.
func spread(lo, hi uint16, n int) []uint16 {
	if lo > hi {
		return nil
	}
	size := int(hi) - int(lo) + 1
	n = min(n, size)
	ports := make([]uint16, n)
	for i := range ports {
		ports[i] = lo + uint16(i*size/n)
	}
	return ports
}
