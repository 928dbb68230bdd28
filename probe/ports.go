package probe

import (
	"context"
	"math"
	"net/netip"
	"sync"
	"time"

	"github.com/gostunt/stunt/internal/sock"
	"github.com/gostunt/stunt/predict"
)

const (
	// A range shows itself slowly: of n random ports the extremes span all but
	// 2/(n+1) of it, so these and the first eight see 94 % of a block.
	moreSamples = 24

	// Below, all of them may have kept their parity by accident.
	minParity = 6
)

// Other hosts' connections are counted over this time: of 5 a second some six
// come in it. The silence that the knocks wait out is longer.
var driftAt = []time.Duration{400 * time.Millisecond, 800 * time.Millisecond, 1200 * time.Millisecond}

// sample takes the samples that the model lacks: later ones of a sequential
// NAT, whose counter others move on, many of one that draws ports at random.
func (p *prober) sample(ctx context.Context) {
	var at []time.Duration
	switch {
	case p.mapping == NoNAT || p.model.Kind == predict.Preserving:
	case p.model.Kind == predict.Sequential:
		at = driftAt
	default:
		at = make([]time.Duration, moreSamples)
	}
	var wg sync.WaitGroup
	for _, t := range at {
		c := call{at: max(t, p.reserve()), local: netip.AddrPortFrom(p.from, 0), server: p.server}
		wg.Go(func() {
			if s, err := p.open(ctx, c); err == nil {
				sock.Abort(s.TCPConn)
			}
		})
	}
	wg.Wait()
}

// ports judges the samples.
func ports(m predict.Model, samples []predict.Sample) Ports {
	r := Ports{Confidence: round(m.Confidence, 100), Pool: m.Addresses}
	switch m.Kind {
	case predict.Preserving:
		r.Assignment = Preserving
	case predict.Sequential:
		r.Assignment, r.Drift = Sequential, min(round(max(m.Drift, 0), 10), maxDrift)
	case predict.Block:
		r.Assignment, r.Lo, r.Hi = Block, m.Lo, m.Hi
	case predict.Random:
		r.Assignment, r.Lo, r.Hi = Random, 1024, math.MaxUint16 // RFC 4787 REQ-3: no well-known ones
	}
	if m.Samples > 0 {
		r.Pooling = map[predict.Pooling]Pooling{predict.Single: Single, predict.Paired: Paired, predict.Arbitrary: Arbitrary}[m.Pooling]
	}
	r.Parity, r.Contiguity = parity(samples), contiguity(m.Kind, samples)
	return r
}

func round(x, per float64) float64 { return math.Round(x*per) / per }

// parity reports whether public ports are even and odd as the local ones are.
func parity(samples []predict.Sample) Tri {
	even := 0
	for _, s := range samples {
		if (s.Local.Port()^s.Mapped.Port())&1 != 0 {
			return No
		}
		even += int(^s.Local.Port() & 1)
	}
	if len(samples) < minParity || even == 0 || even == len(samples) {
		return Unknown
	}
	return Yes
}

// contiguity reports whether adjacent local ports have adjacent public ones. A
// counter makes neighbours of whatever comes one after the other.
func contiguity(kind predict.Kind, samples []predict.Sample) Tri {
	if kind == predict.Sequential {
		return No
	}
	found := Unknown
	for _, a := range samples {
		for _, b := range samples {
			if a.Dst != b.Dst || a.Local.Port()+1 != b.Local.Port() {
				continue
			}
			if b.Mapped != netip.AddrPortFrom(a.Mapped.Addr(), a.Mapped.Port()+1) {
				return No
			}
			found = Yes
		}
	}
	return found
}
