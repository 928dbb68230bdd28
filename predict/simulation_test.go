package predict

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// share is a number of hits in a number of trials.
type share struct{ hits, trials int }

func (s *share) add(hit bool) {
	s.trials++
	if hit {
		s.hits++
	}
}

// interval returns the 95 % confidence interval of the rate (Wilson), in percent.
func (s share) interval() (lo, hi float64) {
	const z = 1.96
	n := float64(s.trials)
	p := float64(s.hits) / n
	mid := (p + z*z/(2*n)) / (1 + z*z/n)
	half := z / (1 + z*z/n) * math.Sqrt(p*(1-p)/n+z*z/(4*n*n))
	return 100 * (mid - half), 100 * (mid + half)
}

func (s share) percent() float64 { return 100 * float64(s.hits) / float64(s.trials) }

// XSTUNT's XPredict makes two connections and predicts the second one's port
// plus the increment, which it knows from before. It is given the right one.
func xstunt(s []Sample, delta int) uint16 {
	return s[len(s)-1].Mapped.Port() + uint16(delta)
}

// TestSimulation lets other hosts behind a sequential NAT make mappings, takes
// eight samples and asks for the port of the mapping that follows a while later:
// a server round trip and the way to the peer. The first candidate alone, and
// the window that promises 99 %, are compared with the two-sample predictor on
// the same traffic, and so is a window as wide that begins at the predicted
// port. The seeds are fixed, so the result is, too.
func TestSimulation(t *testing.T) {
	const trials = 4000
	for _, c := range []struct {
		name         string
		apart, after time.Duration
	}{
		{"probed a moment ago, 8 samples in 21 ms, dialled 50 ms later", 3 * time.Millisecond, 50 * time.Millisecond},
		{"8 samples in 210 ms, dialled 100 ms later", 30 * time.Millisecond, 100 * time.Millisecond},
		{"8 samples in 2.1 s, dialled 300 ms later", 300 * time.Millisecond, 300 * time.Millisecond},
	} {
		t.Log(c.name)
		t.Log("  others/s   two samples            first candidate        window                 ports in it   as many after two samples")
		for _, rate := range []float64{0, 1, 2, 5, 10, 20, 35, 50} {
			rng := rand.New(rand.NewPCG(uint64(rate), uint64(c.after)))
			var two, first, window, many share
			ports := 0
			for i := range trials {
				n := newNAT(rng, nat{kind: Sequential, delta: []int{1, 2, -1, -2}[i%4], rate: rate})
				s := n.samples(8, c.apart)
				m := Infer(s)
				port := n.next(0, m.At+c.after)
				w := m.Window(0, c.after, 0.99)
				two.add(xstunt(s, n.delta) == port)
				first.add(len(w) > 0 && w[0] == port)
				window.add(contains(w, port))
				many.add(contains(Counter{Base: xstunt(s, n.delta), Delta: n.delta}.Sweep(len(w), 1), port))
				ports += len(w)
			}
			tlo, thi := two.interval()
			flo, fhi := first.interval()
			wlo, whi := window.interval()
			t.Logf("  %8.0f   %5.1f %% (%5.1f-%5.1f)   %5.1f %% (%5.1f-%5.1f)   %5.1f %% (%5.1f-%5.1f)   %11.1f   %5.1f %%",
				rate, two.percent(), tlo, thi, first.percent(), flo, fhi, window.percent(), wlo, whi, float64(ports)/trials, many.percent())
			if rate == 0 {
				require.GreaterOrEqual(t, first.hits, two.hits, "nobody disturbs the counter, and nothing is lost by expecting it")
				require.Equal(t, trials, window.hits, "where it wraps, too")
				continue
			}
			require.Greater(t, fhi, two.percent(), "nor does one candidate do worse than two samples, as far as can be told")
			require.Greater(t, wlo, thi, "the window beats the two samples beyond doubt")
			require.Greater(t, whi, many.percent()-0.5, "and whoever tries as many ports from where they point to")
		}
	}
}

func contains(ports []uint16, port uint16) bool {
	for _, p := range ports {
		if p == port {
			return true
		}
	}
	return false
}
