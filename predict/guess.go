package predict

import (
	"math"
	"math/rand/v2"
)

// Worth is the chance below which guessing is not worth the packets: a plan
// that promises less is not started.
const Worth = 0.1

// Wanted is the chance that a dial sizes its guesses and sweeps for: with the
// default [Budget] it can be had of all ports.
const Wanted = 0.99

// Budget bounds what one attempt may spend. Zero fields mean the defaults, 320
// sockets and 1,024 SYNs: together they find one of all 64,512 ports with 99 %.
type Budget struct {
	Sockets int // local ports on the side whose NAT draws at random
	SYNs    int // destination ports that one side dials
}

func (b Budget) sockets() int {
	if b.Sockets <= 0 {
		return 320
	}
	return b.Sockets
}

func (b Budget) syns() int {
	if b.SYNs <= 0 {
		return 1024
	}
	return b.SYNs
}

// Space is where a NAT draws from.
type Space struct {
	Ports    int  // public endpoints that a new mapping may get
	Overload bool // mappings to different destinations may share one, as behind Linux
}

// Guess is a plan of guessing and the chance of at least one hit that it gives.
type Guess struct {
	Sockets int // local ports to dial from
	SYNs    int // distinct destination ports to dial
	Chance  float64
}

// SizeOneSided sizes the guessing between a side whose public port is known and
// one whose NAT draws from space: the latter dials the known port from Sockets
// local ports, the former dials SYNs ports of the space. The plan is the one
// with the fewest packets in all that gives the wanted chance, or else all that
// the budget allows. It reports false where that is less than [Worth].
//
// Several mappings to one destination never share a port, even behind a NAT
// that overloads, so the chance is exact.
func SizeOneSided(space Space, want float64, b Budget) (Guess, bool) {
	maxN, maxM := min(b.sockets(), space.Ports), min(b.syns(), space.Ports)
	if maxN <= 0 {
		return Guess{}, false
	}
	best := Guess{maxN, maxM, chanceOneSided(space.Ports, maxN, maxM)}
	if best.Chance < want {
		return best, best.Chance >= Worth
	}
	// More sockets need fewer SYNs: one walk along the edge sees every pair.
	m := maxM
	for n := 1; n <= maxN; n++ {
		for m > 1 && chanceOneSided(space.Ports, n, m-1) >= want {
			m--
		}
		if c := chanceOneSided(space.Ports, n, m); c >= want && n+m < best.Sockets+best.SYNs {
			best = Guess{n, m, c}
		}
	}
	return best, best.Chance >= Worth
}

// SizeTwoSided sizes the guessing between two sides whose NATs both draw at
// random: each dials distinct ports of the other's space, and a dial of each
// must meet the other's. The plan is for the side whose space is mine; the
// other gets its own by exchanging the arguments, with the same chance. It is
// the smallest that gives the wanted chance, or else all that the budget and
// the spaces allow, and reports false where that is less than [Worth].
//
// A NAT that does not overload has one mapping per port, so a side's dials
// cannot outnumber its ports, and the chance cannot exceed 1-1/e: that of a
// random permutation to have a fixed point.
func SizeTwoSided(mine, theirs Space, want float64, b Budget) (Guess, bool) {
	if mine.Ports <= 0 || theirs.Ports <= 0 {
		return Guess{}, false
	}
	plan := func(dials int) Guess {
		k, l := mine.dials(dials), theirs.dials(dials)
		return Guess{
			Sockets: (k + theirs.Ports - 1) / theirs.Ports, // a local port dials each of theirs once
			SYNs:    k,
			Chance:  chanceTwoSided(mine, theirs, k, l),
		}
	}
	lo, hi := 1, min(b.syns(), b.sockets()*min(mine.Ports, theirs.Ports))
	for lo < hi {
		if mid := (lo + hi) / 2; plan(mid).Chance >= want {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	g := plan(lo)
	return g, g.Chance >= Worth
}

// dials returns how many of n dials get a mapping.
func (s Space) dials(n int) int {
	if s.Overload {
		return n
	}
	return min(n, s.Ports)
}

// chanceOneSided returns the chance that n distinct ports and m distinct
// guesses in s ports share one: 1 - C(s-n, m)/C(s, m), which is a little more
// than 1 - (1-n/s)^m, where guesses may repeat.
func chanceOneSided(s, n, m int) float64 {
	if n <= 0 || m <= 0 {
		return 0
	}
	if n+m > s {
		return 1
	}
	miss := lfact(s-n) - lfact(s-n-m) - lfact(s) + lfact(s-m)
	return -math.Expm1(miss)
}

// chanceTwoSided returns the chance that one of k dials from mine to theirs
// and one of l the other way are between the same two ports.
func chanceTwoSided(mine, theirs Space, k, l int) float64 {
	s, t := float64(mine.Ports), float64(theirs.Ports)
	if mine.Overload || theirs.Overload || max(k, l) > min(mine.Ports, theirs.Ports) {
		return -math.Expm1(float64(k) * float64(l) * math.Log1p(-1/(s*t))) // every pair of dials for itself: a little less than exact
	}
	// No port twice on either side of either list: both are matchings between
	// the spaces, and inclusion and exclusion over the edges that they share
	// gives the chance of none. Terms fall faster than 1/i!.
	none, term := 1.0, 1.0
	for i := 0.0; i < float64(min(k, l)) && math.Abs(term) > 1e-17; i++ {
		term *= -(float64(k) - i) * (float64(l) - i) / ((i + 1) * (s - i) * (t - i))
		none += term
	}
	return 1 - none
}

// Scatter returns n distinct ports of lo to hi, all of them if there are not so
// many, in random order: every prefix is a fair sample. Equal arguments give
// equal ports.
func Scatter(seed uint64, lo, hi uint16, n int) []uint16 {
	size := int(hi) - int(lo) + 1
	n = min(n, size)
	if n <= 0 {
		return nil
	}
	rng := rand.New(rand.NewPCG(seed, 0))
	moved := make(map[int]int, n) // of a shuffle in place (Fisher and Yates), only what was touched
	at := func(i int) int {
		if v, ok := moved[i]; ok {
			return v
		}
		return i
	}
	ports := make([]uint16, n)
	for i := range ports {
		j := i + rng.IntN(size-i)
		ports[i] = lo + uint16(at(j))
		moved[j] = at(i)
	}
	return ports
}
