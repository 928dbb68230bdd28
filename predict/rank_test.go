package predict

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestCandidates(t *testing.T) {
	for _, tt := range []struct {
		name  string
		model Model
		n     int
		want  []uint16
	}{
		{"unknown", Model{}, 5, nil},
		{"random", Model{Kind: Random, Last: 5000}, 5, nil},
		{"none asked", Model{Kind: Preserving}, 0, nil},
		{"fewer than none", Model{Kind: Sequential, Delta: 1, Last: 5000}, -1, nil},
		{"preserving", Model{Kind: Preserving}, 3, []uint16{40000, 40001, 40002}},
		{"sequential", Model{Kind: Sequential, Delta: 2, Last: 50000}, 3, []uint16{50002, 50004, 50006}},
		{"in order, whatever the traffic", Model{Kind: Sequential, Delta: 1, Last: 50000, Drift: 50, Span: time.Second}, 3, []uint16{50001, 50002, 50003}},
		{"down", Model{Kind: Sequential, Delta: -1, Last: 1025}, 3, []uint16{1024, 65535, 65534}},
		{"wrap", Model{Kind: Sequential, Delta: 1, Last: 65534}, 3, []uint16{65535, 1024, 1025}},
		{"wrap in a block", Model{Kind: Sequential, Delta: 1, Last: 8, Lo: 5, Hi: 8}, 9, []uint16{5, 6, 7}},
		{"block", Model{Kind: Block, Lo: 1000, Hi: 1999}, 4, []uint16{1000, 1250, 1500, 1750}},
		{"block smaller than asked", Model{Kind: Block, Lo: 7, Hi: 8}, 4, []uint16{7, 8}},
		{"no delta", Model{Kind: Sequential, Last: 50000}, 3, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			require.Equal(t, tt.want, tt.model.Candidates(40000, tt.n))
		})
	}
}

// Golden vectors of the ranking; masses by hand.
func TestRank(t *testing.T) {
	p := func(mean float64, k int) float64 { // Poisson
		return math.Exp(-mean) * math.Pow(mean, float64(k)) / math.Gamma(float64(k)+1)
	}
	for _, tt := range []struct {
		name    string
		model   Model
		elapsed time.Duration
		want    []Ranked
	}{
		{"quiet", Model{Kind: Sequential, Delta: 2, Last: 50000}, time.Second, []Ranked{{50002, 1}}},
		{"two others expected", Model{Kind: Sequential, Delta: 1, Last: 50000, Drift: 20}, 100 * time.Millisecond,
			[]Ranked{{50002, p(2, 1)}, {50003, p(2, 2)}, {50004, p(2, 3)}, {50001, p(2, 0)}}},
		{"downwards round the end", Model{Kind: Sequential, Delta: -2, Last: 1025, Drift: 1}, time.Second,
			[]Ranked{{65535, p(1, 0)}, {65533, p(1, 1)}, {65531, p(1, 2)}, {65529, p(1, 3)}}},
		// Half a mapping and 30 ms of prior, none in 70 ms: r = 0.5 in 100 ms.
		{"nobody seen, in a short time", Model{Kind: Sequential, Delta: 1, Last: 50000, Span: 70 * time.Millisecond}, 100 * time.Millisecond,
			[]Ranked{{50001, math.Sqrt(0.5)}, {50002, math.Sqrt(0.5) * 0.25}, {50003, math.Sqrt(0.5) * 0.25 * 0.375}, {50004, math.Sqrt(0.5) * 0.25 * 0.375 * 2.5 / 6}}},
		{"preserving, surely", Model{Kind: Preserving}, 0, []Ranked{{40000, 1}, {40001, 0}, {40002, 0}, {40003, 0}}},
		{"preserving, after two samples", Model{Kind: Preserving, Samples: 2}, 0, []Ranked{{40000, 0.75}, {40001, 0.125}, {40002, 0.0625}, {40003, 0.03125}}},
		{"block", Model{Kind: Block, Lo: 1000, Hi: 1999}, 0, []Ranked{{1000, 0.001}, {1250, 0.001}, {1500, 0.001}, {1750, 0.001}}},
		{"an hour ago", Model{Kind: Sequential, Delta: 1, Last: 50000, Drift: 20}, time.Hour, nil},
		{"random", Model{Kind: Random}, 0, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := tt.model.Rank(40000, tt.elapsed, 4)
			require.Len(t, got, len(tt.want))
			for i, want := range tt.want {
				require.Equal(t, want.Port, got[i].Port)
				require.InDelta(t, want.Mass, got[i].Mass, 1e-9)
			}
		})
	}
}

func TestMassesAreADistribution(t *testing.T) {
	for _, span := range []time.Duration{0, time.Millisecond, time.Second} {
		for _, drift := range []float64{0, 0.1, 5, 50, 1000} {
			m := Model{Kind: Sequential, Delta: 1, Last: 50000, Drift: drift, Span: span}
			sum, mean := 0.0, 0.0
			x := m.others(time.Second)
			for k, p := range x.masses(1 << 16) {
				sum += p
				mean += p * float64(k)
			}
			require.InDelta(t, 1, sum, 1e-6, "%v", m)
			require.InDelta(t, 1, (mean+1)/(x.mean+1), 1e-4, "%v", m)
		}
	}
}

func TestWindow(t *testing.T) {
	m := Model{Kind: Sequential, Delta: 1, Last: 50000, Drift: 20}
	const after = 100 * time.Millisecond
	require.Equal(t, []uint16{50002}, m.Window(0, after, 0))
	require.Equal(t, []uint16{50002, 50003, 50004, 50001, 50005}, m.Window(0, after, 0.94))
	require.Equal(t, []uint16{40000}, Model{Kind: Preserving}.Window(40000, 0, 0.99))
	require.Len(t, Model{Kind: Block, Lo: 1000, Hi: 1999}.Window(0, 0, 1.1), 1000, "all that there is")
	require.Nil(t, Model{Kind: Random}.Window(0, 0, 0.5))
	require.Nil(t, Model{Kind: Sequential, Delta: 1, Last: 5, Drift: math.Inf(1)}.Window(0, after, 0.5), "a stranger's nonsense")
	require.Nil(t, Model{Kind: Sequential, Delta: 1, Last: 5, Drift: math.NaN()}.Window(0, after, 0.5))
}

func TestSpace(t *testing.T) {
	require.Equal(t, 64512, Model{}.Space().Ports)
	require.Equal(t, 1, Model{Kind: Preserving}.Space().Ports)
	require.Equal(t, Space{512, true}, Model{Kind: Block, Lo: 2000, Hi: 2511, Overload: true}.Space())
	require.Equal(t, 65536, Model{Kind: Block, Lo: 0, Hi: 65535}.Space().Ports)
}

func TestStrings(t *testing.T) {
	require.Equal(t, "sequential -2", Model{Kind: Sequential, Delta: -2}.String())
	require.Equal(t, "block 2000-2511", Model{Kind: Block, Lo: 2000, Hi: 2511}.String())
	require.Equal(t, "unknown", Model{Kind: 99}.String())
	require.Equal(t, "paired", Paired.String())
	require.Equal(t, "unknown", Pooling(99).String())
}
