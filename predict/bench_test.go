package predict

import (
	"math/rand/v2"
	"testing"
	"time"
)

func BenchmarkInfer(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 1))
	for _, kind := range []Kind{Preserving, Sequential, Block, Random} {
		s := newNAT(rng, nat{kind: kind, delta: 1, rate: 20}).samples(8, 3*time.Millisecond)
		b.Run(kind.String(), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Infer(s)
			}
		})
	}
}

func BenchmarkWindow(b *testing.B) {
	m := Model{Kind: Sequential, Delta: 1, Last: 50000, Drift: 20, Span: 100 * time.Millisecond}
	b.ReportAllocs()
	for b.Loop() {
		m.Window(0, 300*time.Millisecond, 0.99)
	}
}

func BenchmarkMeet(b *testing.B) {
	s := Side{Model: Model{Kind: Sequential, Delta: 1, Last: 50000, Drift: 20, Span: 100 * time.Millisecond}, Elapsed: 300 * time.Millisecond}
	for _, most := range []int{1024, 16} { // the second finds the best that fits
		b.Run(map[int]string{1024: "fits", 16: "best"}[most], func(b *testing.B) {
			for b.Loop() {
				Meet(s, s, 0.99, Pace{Between: time.Millisecond, Most: most})
			}
		})
	}
}

// What the worst report of a stranger costs.
func BenchmarkMeetHostile(b *testing.B) {
	s := Side{Model: Model{Kind: Sequential, Delta: 1, Last: 50000, Drift: 16000, Span: 1}, Elapsed: 30 * time.Millisecond}
	for b.Loop() {
		Meet(s, s, 0.99, Pace{Between: time.Millisecond})
	}
}

func BenchmarkSizeOneSided(b *testing.B) {
	for b.Loop() {
		SizeOneSided(Space{Ports: 64512}, 0.98, Budget{})
	}
}

func BenchmarkSizeTwoSided(b *testing.B) {
	for b.Loop() {
		SizeTwoSided(Space{Ports: 512}, Space{Ports: 512}, 0.6, Budget{})
	}
}

func BenchmarkScatter(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		Scatter(1, 1024, 65535, 1024)
	}
}
