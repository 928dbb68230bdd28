package predict

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A window holds the next port as often as it promises, whatever others do: its
// mass is a probability and no score. The rate of hits is held against the
// promise, or against all the mass there is where that is less, as of a block
// whose bounds were seen in eight samples only. It may be higher: ports are whole.
func TestWindowsAreCalibrated(t *testing.T) {
	const trials = 2000
	const ms = time.Millisecond
	promises := [...]float64{0.5, 0.8, 0.9, 0.95, 0.99}
	for _, c := range []struct {
		name         string
		nat          nat
		apart, after time.Duration
	}{
		{"preserving", nat{kind: Preserving}, 3 * ms, 50 * ms},
		{"quiet counter", nat{kind: Sequential, delta: 2}, 3 * ms, 50 * ms},
		{"5/s, seen for 210 ms", nat{kind: Sequential, delta: 1, rate: 5}, 30 * ms, 100 * ms},
		{"20/s, seen for 210 ms", nat{kind: Sequential, delta: 1, rate: 20}, 30 * ms, 100 * ms},
		{"20/s, seen for 2.1 s", nat{kind: Sequential, delta: -1, rate: 20}, 300 * ms, 300 * ms},
		{"50/s, seen for 2.1 s", nat{kind: Sequential, delta: 1, rate: 50}, 300 * ms, 300 * ms},
		{"block", nat{kind: Block, lo: 33792, hi: 34303}, 3 * ms, 50 * ms},
	} {
		rng := rand.New(rand.NewPCG(21, 22))
		var hits [len(promises)]share
		var promised [len(promises)]float64
		for range trials {
			n := newNAT(rng, c.nat)
			m := Infer(n.samples(8, c.apart))
			port := n.next(40000, m.At+c.after)
			for i, promise := range promises {
				w := m.Window(40000, c.after, promise)
				hits[i].add(contains(w, port))
				promised[i] += min(promise, mass(m.Rank(40000, c.after, len(w)))) / trials
			}
		}
		line := fmt.Sprintf("%-22s", c.name)
		for i := range promises {
			lo, hi := hits[i].interval()
			line += fmt.Sprintf("  %4.1f: %5.1f (%5.1f-%5.1f)", 100*promised[i], hits[i].percent(), lo, hi)
			require.GreaterOrEqual(t, hi, 100*promised[i]-0.5, "%s: a promise of %v", c.name, promises[i])
		}
		t.Log(line)
	}
}

func mass(ranked []Ranked) (sum float64) {
	for _, r := range ranked {
		sum += r.Mass
	}
	return sum
}

// A model may be a stranger's, who wrote the report that it is made from:
// whatever is in it, what comes out is bounded and a probability.
func FuzzModel(f *testing.F) {
	f.Add(uint8(Sequential), 1, uint16(0), uint16(0), 20.0, int64(time.Second), uint16(50000), int64(300*time.Millisecond))
	f.Add(uint8(Sequential), -4096, uint16(65535), uint16(1), 1e4, int64(1), uint16(0), int64(-1))
	f.Add(uint8(Block), 0, uint16(33792), uint16(34303), 0.0, int64(0), uint16(33800), int64(0))
	f.Fuzz(func(t *testing.T, kind uint8, delta int, lo, hi uint16, drift float64, span int64, last uint16, elapsed int64) {
		m := Model{Kind: Kind(kind % 5), Delta: delta, Lo: lo, Hi: hi, Drift: drift, Span: time.Duration(span), Last: last}
		after := time.Duration(elapsed)
		if sum := mass(m.Rank(40000, after, 1<<17)); !(sum >= 0 && sum < 1+1e-6) {
			t.Fatalf("mass %v", sum)
		}
		if w := m.Window(40000, after, 0.99); len(w) > 1<<16 {
			t.Fatalf("a window of %d", len(w))
		}
		other := Side{Model: Model{Kind: Sequential, Delta: 1, Last: 50000}}
		a, b, ok := Meet(Side{Model: m, Elapsed: after}, other, 0.98, Pace{Between: time.Millisecond, Most: 256})
		if ok && (len(a.Ports()) > 256 || len(b.Ports()) > 256 || !(a.Chance >= Worth && a.Chance <= 1)) {
			t.Fatalf("%+v, %+v", a, b)
		}
		for _, size := range []func() (Guess, bool){
			func() (Guess, bool) { return SizeOneSided(m.Space(), 0.98, Budget{}) },
			func() (Guess, bool) { return SizeTwoSided(m.Space(), Space{Ports: 512}, 0.98, Budget{}) },
		} {
			if g, ok := size(); ok && (g.Sockets > 320 || g.SYNs > 1024 || !(g.Chance >= Worth && g.Chance <= 1)) {
				t.Fatalf("%+v", g)
			}
		}
	})
}
