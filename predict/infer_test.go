package predict

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The golden vectors of each model. Confidence is compared apart.
func TestInfer(t *testing.T) {
	ms := time.Millisecond
	for _, tt := range []struct {
		name  string
		ports []uint16
		want  Model
	}{
		{"nothing", nil, Model{}},
		{"one kept port is no accident", []uint16{40000}, Model{Kind: Preserving, Last: 40000}},
		{"one other port says nothing", []uint16{50000}, Model{Last: 50000}},
		{"two say nothing", []uint16{50000, 50001}, Model{Last: 50001}},
		{"preserving", []uint16{40000, 40001, 40002, 40003}, Model{Kind: Preserving, Last: 40003}},
		{"preserving, one taken", []uint16{40000, 40001, 1024, 40003}, Model{Kind: Preserving, Last: 40003}},
		{"half of the ports kept is something else", []uint16{40000, 9000, 40002, 31000, 40004, 55000}, Model{Kind: Random, Last: 55000}},
		{"delta 1", []uint16{50000, 50001, 50002}, Model{Kind: Sequential, Delta: 1, Last: 50002, Span: 2 * ms}},
		{"delta 2", []uint16{50000, 50002, 50004, 50006}, Model{Kind: Sequential, Delta: 2, Last: 50006, Span: 3 * ms}},
		{"delta 2, others connect too", []uint16{50000, 50004, 50006, 50012}, Model{Kind: Sequential, Delta: 2, Last: 50012, Drift: 1000, Span: 3 * ms}},
		{"delta 16", []uint16{50000, 50016, 50032, 50048}, Model{Kind: Sequential, Delta: 16, Last: 50048, Span: 3 * ms}},
		{"downwards", []uint16{50010, 50009, 50008, 50007}, Model{Kind: Sequential, Delta: -1, Last: 50007, Span: 3 * ms}},
		{"wrap", []uint16{65534, 65535, 1024, 1025, 1026}, Model{Kind: Sequential, Delta: 1, Last: 1026, Span: 4 * ms}},
		{"wrap at the end of a block", []uint16{2509, 2510, 2511, 2000, 2001}, Model{Kind: Sequential, Delta: 1, Lo: 2000, Hi: 2511, Last: 2001, Span: 4 * ms}},
		{"wrap at its beginning", []uint16{2002, 2001, 2000, 2511, 2510}, Model{Kind: Sequential, Delta: -1, Lo: 2000, Hi: 2511, Last: 2510, Span: 4 * ms}},
		{"a jump forwards is no wrap", []uint16{50000, 50001, 51002, 51003, 51004}, Model{Kind: Sequential, Delta: 1, Last: 51004, Span: 4 * ms}},
		{"two SYNs changed order", []uint16{50000, 50002, 50001, 50003, 50004}, Model{Kind: Sequential, Delta: 1, Last: 50004, Span: 4 * ms}},
		{"the last two SYNs changed order", []uint16{50000, 50001, 50002, 50004, 50003}, Model{Kind: Sequential, Delta: 1, Last: 50004, Span: 4 * ms}},
		{"many SYNs changed order", []uint16{50002, 50000, 50006, 50004, 50010, 50008}, Model{Kind: Sequential, Delta: 2, Last: 50010, Span: 5 * ms}},
		{"a small block is no counter", []uint16{8100, 8020, 8150, 8060, 8220}, Model{Kind: Block, Lo: 7970, Hi: 8270, Last: 8220}},
		{"a block", []uint16{9000, 8200, 8900, 8500, 8650}, Model{Kind: Block, Lo: 8000, Hi: 9200, Last: 8650}},
		{"a block at the end", []uint16{65500, 65100, 65300, 65200, 65400}, Model{Kind: Block, Lo: 65000, Hi: 65535, Last: 65400}},
		{"random", []uint16{5000, 61000, 33211, 12000, 48123, 20001}, Model{Kind: Random, Last: 20001}},
		{"random, one of two ports twice", []uint16{5000, 61000, 5000}, Model{Kind: Random, Last: 5000, Overload: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := tt.want
			if n := len(tt.ports); n > 0 {
				want.Samples, want.Addresses, want.At = n, 1, time.Duration(n-1)*ms
			}
			got := Infer(seen(tt.ports...))
			if want.Kind == Unknown {
				require.Zero(t, got.Confidence)
			} else {
				require.Greater(t, got.Confidence, 0.5, "of a kind that is claimed")
			}
			require.LessOrEqual(t, got.Confidence, 1.0)
			got.Confidence = 0
			require.InDelta(t, want.Drift, got.Drift, 1e-9)
			got.Drift = want.Drift
			require.Equal(t, want, got)
		})
	}
}

func TestConfidenceGrows(t *testing.T) {
	const atLeast = 1 - 1e-6
	require.Greater(t, Infer(seen(50000, 50001, 50002)).Confidence, 0.99)
	require.Greater(t, Infer(seen(50000, 50001, 50002, 50003, 50004)).Confidence, atLeast)
	few, more := Infer(seen(9000, 8200, 8900)), Infer(seen(9000, 8200, 8900, 8500, 8650, 8333))
	require.Equal(t, Block, few.Kind)
	require.Greater(t, more.Confidence, few.Confidence)
	wide := Infer(seen(9000, 30000, 20000, 15000, 24000))
	require.Less(t, wide.Confidence, 0.9, "random ports may as well lie in a third of all")
}

func TestOneMappingCountsOnce(t *testing.T) {
	s := seen(50000, 50001)
	for _, dst := range []string{"198.51.100.1:3479", "198.51.100.2:3478"} {
		again := s[0]
		again.Dst = netip.MustParseAddrPort(dst)
		again.At += time.Second
		s = append(s, again)
	}
	m := Infer(s)
	require.Equal(t, 2, m.Samples, "an endpoint-independent NAT shows the same mapping to each server")
	require.False(t, m.Overload)
}

func TestInvalidSamplesAreIgnored(t *testing.T) {
	require.Equal(t, Model{}, Infer([]Sample{{}, {Local: server}}))
}

// A counter keeps its delta and drift when one sample is taken much later, and
// goes on from there.
func TestLaterSample(t *testing.T) {
	s := append(seen(50000, 50001, 50002, 50003), sample(41000, 9000, time.Hour))
	m := Infer(s)
	require.Equal(t, Sequential, m.Kind)
	require.Equal(t, 1, m.Delta)
	require.Equal(t, uint16(9000), m.Last)
	require.Equal(t, time.Hour, m.At)
	require.Equal(t, 3*time.Millisecond, m.Span, "the hour says nothing of the traffic: the counter may have been round")

	for i := range s {
		s[i].At = time.Duration(i) * time.Minute
	}
	require.Equal(t, Unknown, Infer(s).Kind, "of samples minutes apart nothing can be told")
}

func TestPool(t *testing.T) {
	s := seen(5000, 61000, 33211, 12000, 48123, 20001)
	second := netip.MustParseAddr("203.0.113.8")
	s[4].Mapped = netip.AddrPortFrom(second, 48123)
	m := Infer(s)
	require.Equal(t, Arbitrary, m.Pooling, "one host has two addresses")
	require.Equal(t, 2, m.Addresses)
	require.Equal(t, 2*64512, m.Space().Ports, "the address is to be guessed, too")
	require.Equal(t, "random on 2 addresses", m.String())

	s[4].Local = netip.MustParseAddrPort("192.168.1.6:40004")
	m = Infer(s)
	require.Equal(t, Paired, m.Pooling, "each of two hosts has its own")
	require.Equal(t, 64512, m.Space().Ports)

	require.Equal(t, Single, Infer(s[:4]).Pooling)
}

// A model's own samples are inferred back, with its parameters, and where there
// are candidates the port that the NAT takes next is among them as often as
// they promise.
func TestModelsAreInferredBack(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	right, hits, drift := map[Kind]int{}, map[Kind]int{}, 0.0
	const rounds = 1000
	for range rounds {
		lo := 2000 + rng.IntN(50000)
		for _, want := range []nat{
			{kind: Preserving},
			{kind: Sequential, delta: []int{1, 2, -1, -2, 4}[rng.IntN(5)], rate: 20},
			{kind: Block, lo: lo, hi: lo + 251 + rng.IntN(3800)},
			{kind: Random},
		} {
			n := newNAT(rng, want)
			got := Infer(n.samples(8, 20*time.Millisecond))
			if got.Kind != want.kind {
				continue
			}
			right[got.Kind]++
			switch got.Kind {
			case Sequential:
				require.Positive(t, got.Delta*want.delta, "its direction")
				require.Zero(t, got.Delta%want.delta, "a multiple of the step")
				drift += got.Drift / rounds
			case Block:
				require.Less(t, int(got.Hi)-int(got.Lo), 2*(want.hi-want.lo), "not far beyond the block")
			}
			const after = 50 * time.Millisecond
			port := n.next(40000, got.At+after)
			for _, p := range got.Window(40000, after, 0.95) {
				if p == port {
					hits[got.Kind]++
				}
			}
		}
	}
	require.Equal(t, rounds, right[Preserving])
	require.Equal(t, rounds, hits[Preserving])
	require.Greater(t, right[Sequential], rounds*99/100)
	require.Greater(t, hits[Sequential], rounds*93/100)
	require.InDelta(t, 20, drift, 1, "on average")
	require.Greater(t, right[Block], rounds*99/100)
	require.Greater(t, hits[Block], rounds*88/100, "the bounds of a block cover 92 %")
	require.Greater(t, right[Random], rounds*97/100)
}

// A machine that stood still while it sampled a busy counter sees a long gap in
// a long time: that is a counter's, too, and no block.
func TestCounterAcrossStandstill(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	const rounds = 500
	right := 0
	for range rounds {
		n := newNAT(rng, nat{kind: Sequential, delta: 1, rate: []float64{5, 20}[rng.IntN(2)]})
		var s []Sample
		for i, at := range []int{0, 3, 6, 9, 12, 250, 310, 3720, 3723, 3726} { // milliseconds
			when := time.Duration(at) * time.Millisecond
			s = append(s, sample(uint16(40000+i), n.next(uint16(40000+i), when), when))
		}
		if m := Infer(s); m.Kind == Sequential && m.Delta == 1 {
			right++
		}
	}
	require.Greater(t, right, rounds*99/100)
}

// With no other traffic the step is exact and the first candidate is the port.
func TestQuietSequentialIsExact(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 500 {
		d := 1 + rng.IntN(16)
		if rng.IntN(2) == 0 {
			d = -d
		}
		n := newNAT(rng, nat{kind: Sequential, delta: d})
		got := Infer(n.samples(5, time.Millisecond))
		require.Equal(t, d, got.Delta)
		require.Equal(t, n.next(0, got.At), got.Rank(0, 0, 1)[0].Port)
	}
}

func FuzzInfer(f *testing.F) {
	f.Add([]byte{0xc3, 0x50, 0xc3, 0x51, 0xc3, 0x52}, 8, int64(time.Millisecond))
	f.Add([]byte{0, 0, 0xff, 0xff, 4, 0, 0xff, 0xff}, 70000, int64(-1))
	f.Add([]byte{0xc3, 0x50, 0xc3, 0x50, 0xc3, 0x50, 0xc3, 0x50}, 3, int64(0))
	f.Fuzz(func(t *testing.T, b []byte, n int, apart int64) {
		var s []Sample
		for i := 0; len(b) > 1 && i < 64; i++ {
			s = append(s, sample(uint16(i), uint16(b[0])<<8|uint16(b[1]), time.Duration(int64(i)*apart)))
			b = b[2:]
		}
		m := Infer(s)
		if !(m.Confidence >= 0 && m.Confidence <= 1) || !(m.Drift >= 0) || m.Lo > m.Hi {
			t.Fatalf("%+v", m)
		}
		for _, got := range [][]uint16{m.Candidates(40000, n), m.Window(40000, time.Duration(apart), 0.9)} {
			unique := map[uint16]bool{}
			for _, p := range got {
				unique[p] = true
			}
			if len(unique) != len(got) {
				t.Fatalf("%v: %d candidates, %d of them distinct", m, len(got), len(unique))
			}
		}
		sum := 0.0
		for _, r := range m.Rank(40000, time.Duration(apart), max(n, 0)) {
			sum += r.Mass
		}
		if !(sum < 1+1e-6) {
			t.Fatalf("%v: mass %v", m, sum)
		}
	})
}
