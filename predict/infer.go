package predict

import (
	"cmp"
	"net/netip"
	"slices"
	"time"
)

const (
	// A NAT that steps seldom skips more ports than this between two
	// connections of one host made one after the other; two random ports are
	// this close in 1 of 500 cases.
	maxStep = 64

	// What others behind it may add to that per second. Beyond maxGap a
	// distance says nothing any more: such samples are of different bursts.
	maxRate = 256
	maxGap  = 4 * time.Second

	// The mean distance of neighbours up to which ports are a counter's in any
	// order. Connections that start together may reach the NAT in another one.
	maxDense = 8

	// What a claim needs, other than that of Preserving: one step confirms the
	// other.
	minSteps = 2
)

// Infer returns the model that explains the samples, in any order, of one
// burst or of several. Several samples of one mapping (a NAT that keeps its
// port for every destination) count once. The answer is Unknown where fewer
// than three mappings were seen within seconds and they did not keep their ports.
//
// Samples of a counter should be some milliseconds apart, as the order in which
// SYNs arrive is their only clock, and span as much time as there is: Drift is
// known no better than from what happened in it.
func Infer(samples []Sample) Model {
	s := distinct(samples)
	if len(s) == 0 {
		return Model{}
	}
	last := s[len(s)-1]
	m := Model{Samples: len(s), Last: last.Mapped.Port(), At: last.At}
	m.Addresses, m.Pooling = pool(s)
	m.Overload = overload(s)

	kept := 0
	for _, x := range s {
		if x.Mapped.Port() == x.Local.Port() {
			kept++
		}
	}
	w := walkOf(s)
	e := evidence{
		Preserving: preservingEvidence(kept, len(s)),
		Random:     randomEvidence(len(s)),
	}
	// Samples too far apart for steps may be a counter's just as well.
	enough := len(w.steps) >= minSteps
	if enough {
		e[Sequential] = w.evidence()
		e[Block] = blockEvidence(s)
	}
	m.Kind, m.Confidence = e.likeliest()
	switch {
	case m.Kind == Preserving: // of one sample, too: an accident is 1 in 64,512
	case !enough:
		m.Kind, m.Confidence = Unknown, 0
	case m.Kind == Sequential:
		w.describe(&m)
	case m.Kind == Block:
		m.Lo, m.Hi = block(s)
	}
	return m
}

// distinct returns the samples in the order of their time, one for each
// mapping: the same local port with the same public endpoint is one.
func distinct(samples []Sample) []Sample {
	s := slices.Clone(samples)
	slices.SortStableFunc(s, func(a, b Sample) int { return cmp.Compare(a.At, b.At) })
	type mapping struct{ local, mapped netip.AddrPort }
	seen := make(map[mapping]bool, len(s))
	return slices.DeleteFunc(s, func(x Sample) bool {
		k := mapping{x.Local, x.Mapped}
		dup := seen[k] || !x.Mapped.IsValid()
		seen[k] = true
		return dup
	})
}

// pool returns how many public addresses there are and who gets which.
func pool(s []Sample) (n int, p Pooling) {
	seen := map[netip.Addr]bool{}
	of := map[netip.Addr]netip.Addr{} // by inside host, its first
	for _, x := range s {
		seen[x.Mapped.Addr()] = true
		if first, ok := of[x.Local.Addr()]; !ok {
			of[x.Local.Addr()] = x.Mapped.Addr()
		} else if first != x.Mapped.Addr() {
			p = Arbitrary
		}
	}
	if len(seen) > 1 && p != Arbitrary {
		p = Paired
	}
	return len(seen), p
}

// overload reports whether two local endpoints had one public one.
func overload(s []Sample) bool {
	of := map[netip.AddrPort]netip.AddrPort{}
	for _, x := range s {
		if first, ok := of[x.Mapped]; ok && first != x.Local {
			return true
		}
		of[x.Mapped] = x.Local
	}
	return false
}

// block returns bounds around the ports, wider than what was seen by the mean
// gap on each side: that is the unbiased guess for a uniform draw.
func block(s []Sample) (lo, hi uint16) {
	l, h := extent(s)
	margin := (h - l) / max(len(s)-1, 1)
	return uint16(max(l-margin, min(l, firstPort))), uint16(min(h+margin, lastPort))
}

// extent returns the lowest and the highest port.
func extent(s []Sample) (lo, hi int) {
	lo, hi = lastPort, 0
	for _, x := range s {
		p := int(x.Mapped.Port())
		lo, hi = min(lo, p), max(hi, p)
	}
	return lo, hi
}
