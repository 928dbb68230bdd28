// Package predict says which public port a NAT will use next, and what it
// takes to hit a port that cannot be told.
//
// It is pure: samples of what a NAT did go in, a [Model] comes out; the model
// ranks the ports to try, and plans are sized for a wanted chance. There is no
// socket, no clock and no goroutine here, so that the same code can be tabled,
// fuzzed and simulated. All functions may be called concurrently.
//
// # Models
//
// The words are those of RFC 4787 section 4.2.1 and of the STUNT papers: a NAT
// preserves ports, or steps through them by a constant (the binding delta,
// usually 1 or 2: "DELTA-N-SYMMETRIC" in the XSTUNT reference of 2006, NB and
// SB types in Gaballo's NTCP thesis of 2005), or draws them at random from all
// ports or from a block (RFC 6888, RFC 7422: what a carrier gives one
// subscriber). [Infer] compares how likely each of these would have made the
// samples, and says how sure it is of the likeliest.
//
// # A counter that others use too
//
// XSTUNT (XPredict) takes two samples and predicts one port, the last plus the
// increment. That is right as long as nobody else behind the NAT connects in
// between: with r mappings per second and t seconds, with probability e^-rt.
// Here the number of others' mappings is a distribution, Poisson in r*t, and a
// negative binomial as long as r itself is known from few samples only. So the
// answer is a window: the fewest ports that hold a wanted mass. A simulation
// prints what that is worth against the two-sample predictor, from 0 to 50
// mappings per second:
//
//	go test ./predict -run Simulation -v
//
// The mass that a window promises is a probability: at each of these rates the
// next port is in it as often (go test ./predict -run Calibrated -v).
//
// Two such NATs against each other need no exact prediction either: see [Meet].
//
// # Guessing
//
// Where a port is drawn at random, numbers help: N mappings on one side and M
// guesses on the other hit in S ports with 1 - (1-N/S)^M, and a little more as
// neither repeats a port. [SizeOneSided] and [SizeTwoSided] size such plans and
// report false below [Worth].
package predict

import (
	"fmt"
	"net/netip"
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
// (RFC 4787 section 4.1). Samples of one inside host cannot tell Single from
// Paired.
type Pooling uint8

// The kinds of pooling.
const (
	Single    Pooling = iota // one address was seen
	Paired                   // several; each inside host keeps to one
	Arbitrary                // several, for one inside host
)

var poolingNames = [...]string{"single", "paired", "arbitrary"}

// String returns the kind in one word.
func (p Pooling) String() string {
	if int(p) < len(poolingNames) {
		return poolingNames[p]
	}
	return "unknown"
}

// Model is what samples say about a NAT's ports. It is a value; the zero Model
// is Unknown and has no candidates. A later mapping keeps it up to date: set
// Last and At.
type Model struct {
	Kind  Kind
	Delta int // of Sequential: ports per new mapping, negative if they go down
	// Lo and Hi are the bounds, both inclusive: of Block the estimate, of
	// Sequential where the counter was seen to wrap. Zero means 1024 to 65535.
	Lo, Hi uint16
	// Drift is how many mappings per second other hosts make, of Sequential,
	// as counted over Span. A Span of zero means that Drift is exact.
	Drift float64
	Span  time.Duration

	Last    uint16        // of Sequential the port furthest along, of others that of the newest sample
	At      time.Duration // when the newest mapping was made, as in its Sample
	Samples int           // distinct mappings that the model rests on

	Addresses  int // public addresses seen
	Pooling    Pooling
	Overload   bool    // mappings of two local ports were seen to have one public endpoint
	Confidence float64 // 0 to 1: that Kind is right, given the samples
}

// String returns the model in a few words, for logs.
func (m Model) String() string {
	s := m.Kind.String()
	switch m.Kind {
	case Sequential:
		s = fmt.Sprintf("sequential %+d", m.Delta)
	case Block:
		s = fmt.Sprintf("block %d-%d", m.Lo, m.Hi)
	}
	if m.Pooling == Arbitrary {
		s = fmt.Sprintf("%s on %d addresses", s, m.Addresses)
	}
	return s
}
