// Package predict says which public port a NAT will use next.
//
// It is pure: samples of what a NAT did go in, a [Model] comes out, and the
// model ranks the ports to try. There is no socket, no clock and no goroutine
// here, so that the same code can be tabled, fuzzed and simulated.
//
// The words are those of RFC 4787 section 4.2.1 and of the STUNT papers: a NAT
// preserves ports, or steps through them by a constant (the binding delta,
// usually 1 or 2), or draws them at random from all ports or from a block.
package predict

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Sample is one mapping that was seen from outside.
type Sample struct {
	Local  netip.AddrPort // the socket's own endpoint
	Dst    netip.AddrPort // whom it connected to
	Mapped netip.AddrPort // what Dst saw
	At     time.Duration  // when the SYN left, since any fixed moment
}

// Kind is how a NAT assigns ports. The zero value is unknown.
type Kind uint8

// The kinds of port assignment.
const (
	Unknown    Kind = iota // too few samples
	Preserving             // the public port is the local one
	Sequential             // each new mapping is Delta after the last
	Block                  // at random within Lo to Hi
	Random                 // at random among all ports
)

var kindNames = [...]string{"unknown", "preserving", "sequential", "block", "random"}

// String returns the kind in one word.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return kindNames[Unknown]
}

// Pooling says how a NAT with several public addresses gives them to mappings
// (RFC 4787 section 4.1).
type Pooling uint8

// The kinds of pooling.
const (
	Single    Pooling = iota // one address was seen
	Paired                   // several; each inside host keeps to one
	Arbitrary                // several, and a host's mappings have different ones
)

// Model is what samples say about a NAT's ports. It is a value; the zero Model
// is Unknown and has no candidates.
type Model struct {
	Kind  Kind
	Delta int // of Sequential: ports per new mapping, negative if they go down
	// Lo and Hi are the bounds, both inclusive: of Block the estimate, of
	// Sequential where the counter was seen to wrap. Zero means 1024 to 65535.
	Lo, Hi uint16
	// Drift is how many mappings per second other hosts make, of Sequential,
	// counted over Span. A Span of zero means that Drift is exact.
	Drift float64
	Span  time.Duration

	Last    uint16        // of Sequential the port furthest along, of others that of the newest sample
	At      time.Duration // when the newest mapping was made, as in its Sample
	Samples int           // distinct mappings that the model rests on

	Addresses  int // public addresses seen
	Pooling    Pooling
	Overload   bool    // two mappings were seen to share a public endpoint
	Confidence float64 // 0 to 1: that Kind is right, given the samples
}

// String returns the model in a few words, for logs.
func (m Model) String() string {
	switch m.Kind {
	case Sequential:
		return fmt.Sprintf("sequential %+d", m.Delta)
	case Block:
		return fmt.Sprintf("block %d-%d", m.Lo, m.Hi)
	}
	return m.Kind.String()
}

const (
	// A NAT that steps seldom skips more ports than this between two
	// connections of one host, even if others behind it are busy; two random
	// ports are this close in 1 of 500 cases.
	maxStep = 64

	// The mean distance of neighbours up to which ports are a counter's in any
	// order. Connections that start together may reach the NAT in another one.
	maxDense = 8

	// Six random ports out of 64 Ki fall into a window of this width in 1 of
	// 5,000 cases. Carriers give a subscriber 252 to 4,032 ports.
	maxBlock = 8192

	// How many distinct mappings a claim needs. Three steps in a row in one
	// direction, all short, are no accident; a block has to show its width.
	minSequential = 3
	minBlock      = 5
)

// Infer returns the model that explains the samples, in any order. Several
// samples of one mapping (a NAT that keeps its port for every destination)
// count once. The answer is Unknown where fewer than three mappings were seen
// and none of them kept its port.
func Infer(samples []Sample) Model {
	s := distinct(samples)
	if len(s) == 0 {
		return Model{}
	}
	m := Model{Samples: len(s), Last: s[len(s)-1].Mapped.Port()}

	kept := 0
	for _, x := range s {
		if x.Mapped.Port() == x.Local.Port() {
			kept++
		}
	}
	// A preserving NAT takes another port where the first is in use by another
	// host: one in four may differ. One that is equal by accident is 1 in 28,000.
	if kept*4 >= len(s)*3 {
		m.Kind = Preserving
		return m
	}
	if len(s) < minSequential {
		return m
	}
	if d, ok := delta(steps(s)); ok {
		m.Kind, m.Delta = Sequential, d
		return m
	}
	m.Kind = Random
	if len(s) >= minBlock {
		if lo, hi, ok := block(s); ok {
			m.Kind, m.Lo, m.Hi = Block, lo, hi
		}
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

// steps returns the signed distances between consecutive ports, the short way
// round: a counter that wraps from 65535 to 1024 makes one long step, which
// delta tolerates.
func steps(s []Sample) []int {
	d := make([]int, 0, len(s)-1)
	for i := 1; i < len(s); i++ {
		d = append(d, int(int16(s[i].Mapped.Port()-s[i-1].Mapped.Port())))
	}
	return d
}

// delta returns the step of the counter that the distances look like a walk of:
// short ones in one direction, or ports so close together that their order does
// not matter. Other hosts' connections make multiples of the step, so it is the
// greatest common divisor and not the mean. Of four distances or more one may
// break the rule: a wrap, a port that was skipped for being reserved, or two
// SYNs that changed order.
func delta(steps []int) (int, bool) {
	up, down, long := 0, 0, 0
	g, at, trend := 0, 0, 0
	for i, d := range steps {
		if d == 0 || abs(d) > maxStep {
			long++
			d = 0
		}
		if d > 0 {
			up++
		} else if d < 0 {
			down++
		}
		g = gcd(g, abs(d))
		at += d
		trend += (2*i + 2 - len(steps)) * at // the slope of the line through all, but for its scale
	}
	ordered := long+min(up, down) <= len(steps)/4
	if !ordered && !dense(steps) {
		return 0, false
	}
	if trend < 0 {
		g = -g
	}
	return g, g != 0
}

// dense reports whether the ports lie closer together than random ones of even
// the smallest block would: five within 32 of 252 are 1 case in 800.
func dense(steps []int) bool {
	at, lo, hi := 0, 0, 0
	for _, d := range steps {
		at += d
		lo, hi = min(lo, at), max(hi, at)
	}
	return hi-lo <= maxDense*len(steps)
}

// block returns bounds around the ports, wider than what was seen by the mean
// gap on each side: that is the unbiased guess for a uniform draw.
func block(s []Sample) (lo, hi uint16, ok bool) {
	ports := make([]int, len(s))
	for i, x := range s {
		ports[i] = int(x.Mapped.Port())
	}
	l, h := slices.Min(ports), slices.Max(ports)
	if h-l > maxBlock {
		return 0, 0, false
	}
	margin := (h - l) / (len(s) - 1)
	return uint16(max(l-margin, firstPort)), uint16(min(h+margin, lastPort)), true
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

func abs(x int) int {
	if x < 0 {
		return -x
	}
	return x
}
