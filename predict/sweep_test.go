package predict

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestCounter(t *testing.T) {
	for _, tt := range []struct {
		name          string
		c             Counter
		count, stride int
		want          []uint16
	}{
		{"up", Counter{Base: 50000, Delta: 1}, 3, 1, []uint16{50000, 50001, 50002}},
		{"stride 2", Counter{Base: 50000, Delta: 1}, 3, 2, []uint16{50000, 50002, 50004}},
		{"delta 2, stride 2", Counter{Base: 50000, Delta: 2}, 3, 2, []uint16{50000, 50004, 50008}},
		{"down", Counter{Base: 1025, Delta: -1}, 3, 1, []uint16{1025, 1024, 65535}},
		{"wrap", Counter{Base: 65534, Delta: 1}, 3, 1, []uint16{65534, 65535, 1024}},
		{"wrap in a block", Counter{2510, 1, 2000, 2511}, 4, 1, []uint16{2510, 2511, 2000, 2001}},
		{"wrap past the end", Counter{2511, 2, 2000, 2511}, 2, 1, []uint16{2511, 2001}},
		{"all of a block", Counter{7, 1, 5, 8}, 9, 1, []uint16{7, 8, 5, 6}},
		{"every other of an even block", Counter{7, 1, 5, 8}, 9, 2, []uint16{7, 5}},
		{"every other of an odd block", Counter{7, 1, 5, 7}, 9, 2, []uint16{7, 6, 5}},
		{"a NAT that uses low ports", Counter{Base: 800, Delta: -1}, 2, 1, []uint16{800, 65535}},
		{"no delta", Counter{Base: 4000}, 9, 1, []uint16{4000}},
		{"none", Counter{Base: 4000, Delta: 1}, 0, 1, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			require.Equal(t, tt.want, tt.c.Sweep(tt.count, tt.stride))
		})
	}
	require.Equal(t, uint16(50003), Model{Kind: Sequential, Delta: 3, Last: 50000}.Counter().Base)
}

// Offsets that grow as they like, within bounds, always let the two meet: no
// traffic is assumed, only that counters do not go back.
func TestStridesMeetWhateverOthersDo(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for range 3000 {
		most := [2]int{rng.IntN(40), rng.IntN(40)}
		count := [2]int{}
		count[0], count[1] = dials(most[0], most[1], false, false)
		var offsets [2][]int
		for e := range offsets {
			offset := rng.IntN(most[e] + 1)
			for range count[e] {
				if rng.IntN(3) == 0 {
					offset += rng.IntN(most[e] - offset + 1)
				}
				offsets[e] = append(offsets[e], offset)
			}
		}
		met := false
		for j, y := range offsets[1] {
			i := j + y // the dial of the first to the second's j-th mapping
			met = met || i < count[0] && i+offsets[0][i] == 2*j
		}
		require.True(t, met, "%v", offsets)
	}
}

// A meeting is as likely as it says: both ends infer their own model from
// samples, other hosts go on connecting, and the dials of one end are compared
// with those of the other.
func TestSimulationOfMeetings(t *testing.T) {
	const (
		trials = 1500
		pace   = time.Millisecond
		want   = 0.99
	)
	shared := map[bool]string{false: "APDM", true: "ADM"}
	t.Log("  NATs          others/s   met                     promised   dials")
	for _, s := range [][2]bool{{false, false}, {true, false}, {false, true}, {true, true}} {
		for _, rate := range []float64{0, 5, 20} {
			rng := rand.New(rand.NewPCG(uint64(rate), 7))
			var met share
			dialled, promised := 0, 0.0
			for i := range trials {
				var ends [2]*end
				for e := range ends {
					n := nat{kind: Sequential, rate: rate, delta: []int{1, 2, -1, -2}[rng.IntN(4)]}
					if i%2 == 1 { // a block, and near its end
						n.lo, n.hi = 2000, 4047
						n.cursor = []int{2000, 4047}[rng.IntN(2)]
					}
					ends[e] = newEnd(newNAT(rng, n), s[e])
				}
				a, b, ok := Meet(ends[0].side, ends[1].side, want, Pace{Between: pace})
				require.True(t, ok)
				require.GreaterOrEqual(t, a.Chance, want)
				met.add(meets(ends[0].dial(a, pace), ends[1].dial(b, pace)))
				dialled += max(a.Count, b.Count)
				promised += a.Chance / trials
			}
			lo, hi := met.interval()
			t.Logf("  %4s x %-4s   %8.0f   %5.1f %% (%5.1f-%5.1f)   %5.1f %%   %6.1f",
				shared[s[0]], shared[s[1]], rate, met.percent(), lo, hi, 100*promised, float64(dialled)/trials)
			require.Greater(t, hi, 98.0, "as promised, but for what a model inferred from eight samples is off")
			require.Greater(t, met.percent(), 98.0)
		}
	}
}

// end is one end of a simulated meeting.
type end struct {
	nat  *nat
	side Side
}

func newEnd(n *nat, shared bool) *end {
	const after = 60 * time.Millisecond
	m := Infer(n.samples(8, 10*time.Millisecond))
	if n.hi < lastPort {
		m.Lo, m.Hi = uint16(n.lo), uint16(n.hi) // eight samples do not show where the block ends
	}
	return &end{n, Side{m, after, shared}}
}

// dial returns source and destination of each dial.
func (e *end) dial(s Sweep, pace time.Duration) [][2]uint16 {
	var d [][2]uint16
	at := e.side.Model.At + e.side.Elapsed
	for _, dst := range s.Ports() {
		if !e.side.Shared || len(d) == 0 {
			d = append(d, [2]uint16{e.nat.next(0, at), dst})
		} else {
			d = append(d, [2]uint16{d[0][0], dst})
		}
		at += pace
	}
	return d
}

func meets(a, b [][2]uint16) bool {
	dialled := map[[2]uint16]bool{}
	for _, x := range a {
		dialled[x] = true
	}
	for _, x := range b {
		if dialled[[2]uint16{x[1], x[0]}] {
			return true
		}
	}
	return false
}

func TestMeet(t *testing.T) {
	a := Side{Model: Model{Kind: Sequential, Delta: 1, Last: 50000, Drift: 20}, Elapsed: 200 * time.Millisecond}
	b := Side{Model: Model{Kind: Sequential, Delta: -2, Last: 3000}}
	x, y, ok := Meet(a, b, 0.99, Pace{})
	require.True(t, ok)
	require.Equal(t, Sweep{Counter{Base: 2998, Delta: -2}, 12, 1, x.Chance}, x, "b stands still, and a has at most 11 behind it")
	require.Equal(t, Sweep{Counter{Base: 50001, Delta: 1}, 12, 2, x.Chance}, y, "every other of a's")
	require.InDelta(t, 0.998, x.Chance, 0.002)

	y2, x2, ok := Meet(b, a, 0.99, Pace{})
	require.True(t, ok)
	require.Equal(t, 12, y2.Count-11, "as the first, b needs a's offset twice")
	require.Equal(t, 12, x2.Count)

	a.Elapsed = 5 * time.Second
	x, y, ok = Meet(a, b, 0.99, Pace{})
	require.True(t, ok)
	require.Equal(t, uint16(50001+73), y.Target.Base, "of 100 expected, 73 are certain to have come")
	require.Equal(t, 57, x.Count)

	few, _, ok := Meet(a, b, 0.99, Pace{Most: 20})
	require.True(t, ok)
	require.LessOrEqual(t, few.Count, 20)
	require.Less(t, few.Chance, 0.9)
	_, _, ok = Meet(a, b, 0.99, Pace{Most: 1})
	require.False(t, ok, "one dial of a hundred is not worth it")
}

func TestMeetKnownPort(t *testing.T) {
	a := Side{Model: Model{Kind: Sequential, Delta: 1, Last: 50000, Drift: 5}, Elapsed: 100 * time.Millisecond}
	x, y, ok := Meet(a, Known(443), 0.99, Pace{})
	require.True(t, ok)
	require.Equal(t, []uint16{443}, x.Ports(), "all that there is to dial")
	require.Equal(t, []uint16{50001, 50002, 50003, 50004}, y.Ports(), "the window of the other's next mapping")
	_, _, ok = Meet(Known(443), Known(80), 0.99, Pace{})
	require.True(t, ok)
}

func TestMeetNotWorthIt(t *testing.T) {
	counter := Side{Model: Model{Kind: Sequential, Delta: 1, Last: 50000}}
	for _, kind := range []Kind{Unknown, Preserving, Block, Random} {
		_, _, ok := Meet(counter, Side{Model: Model{Kind: kind}}, 0.9, Pace{})
		require.False(t, ok, "%v is no counter", kind)
	}
	busy := counter
	busy.Model.Drift = 500
	_, _, ok := Meet(busy, busy, 0.9, Pace{Between: 10 * time.Millisecond})
	require.False(t, ok, "others take five ports in the time of one dial: no sweep catches up")
	busy.Elapsed = time.Hour
	_, _, ok = Meet(busy, counter, 0.9, Pace{})
	require.False(t, ok, "it has been round since")
}

func ExampleMeet() {
	// Two NATs that count, each with a host or two besides ours.
	alice := Side{Model: Model{Kind: Sequential, Delta: 1, Last: 40000, Drift: 5}, Elapsed: 100 * time.Millisecond}
	bob := Side{Model: Model{Kind: Sequential, Delta: 2, Last: 60000, Drift: 2}, Elapsed: 100 * time.Millisecond}
	a, b, ok := Meet(alice, bob, 0.98, Pace{Between: time.Millisecond})
	fmt.Println(ok, a.Chance > 0.98)
	fmt.Println("alice dials", a.Ports())
	fmt.Println("bob dials", b.Ports())
	// Output:
	// true true
	// alice dials [60002 60004 60006 60008 60010 60012 60014 60016]
	// bob dials [40001 40003 40005 40007 40009 40011]
}
