package crowd

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// BenchmarkSoak is a short soaking: the server is none the bigger for it.
func BenchmarkSoak(b *testing.B) {
	for b.Loop() {
		s, err := Soak(b.Context(), SoakConfig{For: 8 * time.Second, Nodes: 200, Mortals: 20})
		require.NoError(b, err)
		require.Empty(b, s.Grown())
		require.Zero(b, s.Failed, "of %d dials", s.Dials)
		b.ReportMetric(float64(s.Marks[3].Heap), "B-heap")
		b.ReportMetric(float64(s.Dials), "dials")
		b.ReportMetric(float64(s.Raids.Tried), "blows")
	}
}

// BenchmarkSiege tells by how much dials are slower under the attack that costs a
// server most.
func BenchmarkSiege(b *testing.B) {
	for b.Loop() {
		s, err := Besiege(b.Context(), SiegeConfig{Nodes: 200, Rate: 200, For: 2 * time.Second, Attacks: []string{"handshakes"}})
		require.NoError(b, err)
		failed, of := s[0].Failed()
		require.Zero(b, failed, "of %d", of)
		b.ReportMetric(s[0].Ratio(), "times-p99")
		b.ReportMetric(float64(typical(s[0].Under, answers).P99.Microseconds()), "µs-p99")
	}
}

func TestGrown(t *testing.T) {
	mark := func(heap int64, goroutines int) Mark {
		return Mark{HostStats: HostStats{Heap: heap, Goroutines: goroutines}}
	}
	flat := Soaking{Marks: [4]Mark{mark(50<<20, 10), mark(60<<20, 12), mark(40<<20, 9), mark(66<<20, 40)}}
	require.Empty(t, flat.Grown())
	leaks := Soaking{Marks: [4]Mark{mark(50<<20, 1000), mark(60<<20, 2000), mark(80<<20, 3000), mark(100<<20, 4000)}}
	require.Len(t, leaks.Grown(), 2)
}
