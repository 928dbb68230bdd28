package predict

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// The table of docs and papers, 1-(1-N/S)^M, to its precision.
func TestChanceOneSided(t *testing.T) {
	for _, tt := range []struct {
		space, n, m int
		want        float64
	}{
		{64511, 16, 16, 0.004},
		{64511, 64, 64, 0.062},
		{64511, 64, 128, 0.12},
		{64511, 256, 256, 0.64},
		{64511, 256, 1024, 0.983},
		{28232, 64, 64, 0.14},
		{28232, 256, 256, 0.90},
		{2016, 16, 16, 0.12},
		{2016, 64, 64, 0.88},
		{2016, 64, 128, 0.986},
		{512, 16, 16, 0.40},
		{4, 1, 1, 0.25},
		{4, 2, 2, 1 - 1.0/6}, // of the 6 pairs one misses; with repeats it were 3/4
		{4, 3, 2, 1},
		{4, 0, 4, 0},
	} {
		got := chanceOneSided(tt.space, tt.n, tt.m)
		require.InDelta(t, tt.want, got, 0.006, "%d x %d in %d", tt.n, tt.m, tt.space)
		if tt.n < tt.space {
			repeating := 1 - math.Pow(1-float64(tt.n)/float64(tt.space), float64(tt.m))
			require.GreaterOrEqual(t, got+1e-12, repeating, "not to repeat a guess is never worse")
		}
		require.InDelta(t, got, chanceOneSided(tt.space, tt.m, tt.n), 1e-9, "either may be the one that guesses")
	}
}

// Both formulas against trials with ports drawn as NATs draw them.
func TestChancesAreThoseOfTrials(t *testing.T) {
	const trials = 6000
	rng := rand.New(rand.NewPCG(8, 9))
	block := func(s Space, n int) []uint16 { return Scatter(rng.Uint64(), 1, uint16(s.Ports), n) }
	mappings := func(s Space, n int) []uint16 {
		if !s.Overload {
			return block(s, n)
		}
		ports := make([]uint16, n)
		for i := range ports {
			ports[i] = uint16(1 + rng.IntN(s.Ports))
		}
		return ports
	}
	for _, tt := range []struct {
		mine, theirs Space
		k, l         int
	}{
		{Space{Ports: 40}, Space{Ports: 40}, 40, 40},
		{Space{Ports: 40}, Space{Ports: 40}, 20, 20},
		{Space{Ports: 30}, Space{Ports: 50}, 25, 30},
		{Space{40, true}, Space{40, true}, 40, 40},
		{Space{64, true}, Space{64, true}, 30, 60},
		{Space{Ports: 1}, Space{Ports: 1}, 1, 1},
	} {
		var two share
		for range trials {
			var a, b [][2]uint16
			from, to := mappings(tt.mine, tt.k), block(tt.theirs, tt.k)
			for i := range from {
				a = append(a, [2]uint16{from[i], to[i]})
			}
			from, to = mappings(tt.theirs, tt.l), block(tt.mine, tt.l)
			for i := range from {
				b = append(b, [2]uint16{from[i], to[i]})
			}
			two.add(meets(a, b))
		}
		want := chanceTwoSided(tt.mine, tt.theirs, tt.k, tt.l)
		require.InDelta(t, want, float64(two.hits)/trials, 0.03, "%+v", tt) // four standard deviations, and what the formula leaves out

		var one share
		for range trials {
			open := block(tt.mine, tt.k)
			one.add(slices.ContainsFunc(block(tt.mine, tt.l), func(p uint16) bool { return contains(open, p) }))
		}
		require.InDelta(t, chanceOneSided(tt.mine.Ports, tt.k, tt.l), float64(one.hits)/trials, 0.03, "%+v", tt)
	}
}

func TestSizeOneSided(t *testing.T) {
	for _, tt := range []struct {
		name   string
		space  int
		want   float64
		budget Budget
		guess  Guess
		worth  bool
	}{
		{"full range", 64512, 0.99, Budget{}, Guess{320, 920, 0.99}, true},
		{"full range, many sockets", 64512, 0.98, Budget{Sockets: 1024}, Guess{500, 501, 0.98}, true},
		{"full range, more than can be had", 64512, 0.999, Budget{}, Guess{320, 1024, 0.994}, true},
		{"the range of Linux", 28232, 0.98, Budget{}, Guess{320, 342, 0.98}, true},
		{"a block of 2,048", 2048, 0.98, Budget{}, Guess{88, 88, 0.98}, true},
		{"a block of 512", 512, 0.98, Budget{}, Guess{43, 43, 0.98}, true},
		{"certainty", 4, 1, Budget{}, Guess{1, 4, 1}, true},
		{"one port", 1, 0.99, Budget{}, Guess{1, 1, 1}, true},
		{"hopeless", 64512, 0.98, Budget{Sockets: 64, SYNs: 64}, Guess{64, 64, 0.062}, false},
		{"no space", 0, 0.98, Budget{}, Guess{}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g, ok := SizeOneSided(Space{Ports: tt.space}, tt.want, tt.budget)
			require.Equal(t, tt.worth, ok)
			require.InDelta(t, tt.guess.Chance, g.Chance, 0.005)
			require.InDelta(t, tt.guess.Sockets+tt.guess.SYNs, g.Sockets+g.SYNs, 2, "%+v", g)
			require.LessOrEqual(t, g.Sockets, tt.budget.sockets())
			require.LessOrEqual(t, g.SYNs, tt.budget.syns())
			if g.Chance >= tt.want && g.SYNs > 1 {
				require.Less(t, chanceOneSided(tt.space, g.Sockets, g.SYNs-1), tt.want, "not a SYN too many")
			}
		})
	}
}

func TestSizeTwoSided(t *testing.T) {
	for _, tt := range []struct {
		name         string
		mine, theirs Space
		want         float64
		budget       Budget
		guess        Guess
		worth        bool
	}{
		{"blocks of 512", Space{512, true}, Space{512, true}, 0.95, Budget{}, Guess{2, 887, 0.95}, true},
		{"blocks of 512, half a chance", Space{512, true}, Space{512, true}, 0.5, Budget{}, Guess{1, 427, 0.5}, true},
		{"blocks of 512 without overloading", Space{Ports: 512}, Space{Ports: 512}, 0.95, Budget{}, Guess{1, 512, 1 - 1/math.E}, true},
		{"blocks of 2,000", Space{2000, true}, Space{2000, true}, 0.95, Budget{}, Guess{1, 1024, 0.23}, true},
		{"full range", Space{64512, true}, Space{64512, true}, 0.95, Budget{}, Guess{1, 1024, 0.0003}, false},
		{"a block and one port", Space{1, true}, Space{512, true}, 0.9, Budget{}, Guess{1, 35, 0.909}, true},
		{"nothing", Space{}, Space{Ports: 4}, 0.9, Budget{}, Guess{}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g, ok := SizeTwoSided(tt.mine, tt.theirs, tt.want, tt.budget)
			require.Equal(t, tt.worth, ok)
			require.InDelta(t, tt.guess.Chance, g.Chance, 0.005)
			require.Equal(t, [2]int{tt.guess.Sockets, tt.guess.SYNs}, [2]int{g.Sockets, g.SYNs})
			other, ok := SizeTwoSided(tt.theirs, tt.mine, tt.want, tt.budget)
			require.Equal(t, tt.worth, ok)
			require.InDelta(t, g.Chance, other.Chance, 1e-9, "both ends plan for the same chance")
		})
	}
}

func TestScatter(t *testing.T) {
	got := Scatter(1, 2000, 2511, 5)
	require.Equal(t, got, Scatter(1, 2000, 2511, 5), "the seed decides")
	require.Equal(t, got[:3], Scatter(1, 2000, 2511, 3), "fewer are the first of more")
	require.NotEqual(t, got, Scatter(2, 2000, 2511, 5))
	require.Empty(t, Scatter(1, 2000, 2511, 0))
	require.Empty(t, Scatter(1, 2000, 1999, 5))
	require.Equal(t, []uint16{65535}, Scatter(1, 65535, 65535, 5))

	all := Scatter(3, 0, 65535, 1<<20)
	slices.Sort(all)
	require.Len(t, all, 65536)
	require.Len(t, slices.Compact(all), 65536, "each once")

	var counts [16]int
	for seed := range uint64(4000) {
		for _, p := range Scatter(seed, 100, 115, 4) {
			counts[p-100]++
		}
	}
	for p, n := range counts {
		require.InDelta(t, 1000, n, 110, "port %d as often as the others", 100+p) // four standard deviations
	}
}

func ExampleSizeOneSided() {
	carrier := Model{Kind: Block, Lo: 33792, Hi: 35839}
	g, ok := SizeOneSided(carrier.Space(), 0.98, Budget{})
	fmt.Printf("%v: %d sockets, %d SYNs, %.0f %%\n", ok, g.Sockets, g.SYNs, 100*g.Chance)
	_, ok = SizeTwoSided(Model{Kind: Random}.Space(), Model{Kind: Random}.Space(), 0.98, Budget{})
	fmt.Println(ok, "for two at random among all ports")
	// Output:
	// true: 80 sockets, 96 SYNs, 98 %
	// false for two at random among all ports
}
