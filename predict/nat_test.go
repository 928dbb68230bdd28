package predict

import (
	"math/rand/v2"
	"net/netip"
	"time"
)

var (
	inside  = netip.MustParseAddr("192.168.1.5")
	outside = netip.MustParseAddr("203.0.113.7")
	server  = netip.MustParseAddrPort("198.51.100.1:3478")
)

// seen makes samples of the public ports, a millisecond apart, from local ports
// 40000 on.
func seen(ports ...uint16) []Sample {
	s := make([]Sample, len(ports))
	for i, p := range ports {
		s[i] = sample(40000+uint16(i), p, time.Duration(i)*time.Millisecond)
	}
	return s
}

func sample(local, mapped uint16, at time.Duration) Sample {
	return Sample{netip.AddrPortFrom(inside, local), server, netip.AddrPortFrom(outside, mapped), at}
}

// nat assigns ports as the words say, in code that shares nothing with the
// package. Other hosts make mappings at random moments, rate of them a second.
type nat struct {
	kind   Kind
	delta  int
	lo, hi int
	rate   float64

	rng    *rand.Rand
	cursor int     // the next port of Sequential
	other  float64 // when another host makes a mapping, in seconds
}

func newNAT(rng *rand.Rand, n nat) *nat {
	if n.hi == 0 {
		n.lo, n.hi = 1024, 65535
	}
	if n.cursor == 0 {
		n.cursor = n.lo + rng.IntN(n.hi-n.lo+1)
	}
	n.rng = rng
	n.other = n.gap()
	return &n
}

func (n *nat) gap() float64 {
	if n.rate == 0 {
		return 1e18
	}
	return n.rng.ExpFloat64() / n.rate
}

// next makes a mapping at a moment that is not before the last one.
func (n *nat) next(local uint16, at time.Duration) uint16 {
	switch n.kind {
	case Preserving:
		return local
	case Sequential:
		for ; n.other <= at.Seconds(); n.other += n.gap() {
			n.step()
		}
		defer n.step()
		return uint16(n.cursor)
	}
	return uint16(n.lo + n.rng.IntN(n.hi-n.lo+1))
}

func (n *nat) step() {
	n.cursor += n.delta
	if n.cursor > n.hi {
		n.cursor -= n.hi - n.lo + 1
	}
	if n.cursor < n.lo {
		n.cursor += n.hi - n.lo + 1
	}
}

// samples makes a number of mappings, some time apart, and returns them and
// when the last of them was made.
func (n *nat) samples(count int, apart time.Duration) []Sample {
	var s []Sample
	for i := range count {
		at := time.Duration(i) * apart
		local := uint16(33000 + n.rng.IntN(20000))
		s = append(s, sample(local, n.next(local, at), at))
	}
	return s
}
