package predict

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var (
	inside  = netip.MustParseAddr("192.168.1.5")
	outside = netip.MustParseAddr("203.0.113.7")
	server  = netip.MustParseAddrPort("198.51.100.1:3478")
)

// seen makes samples of the public ports, in order, from local ports 40000 on.
func seen(ports ...uint16) []Sample {
	s := make([]Sample, len(ports))
	for i, p := range ports {
		s[i] = Sample{
			Local:  netip.AddrPortFrom(inside, 40000+uint16(i)),
			Dst:    server,
			Mapped: netip.AddrPortFrom(outside, p),
			At:     time.Duration(i) * time.Millisecond,
		}
	}
	return s
}

func TestInfer(t *testing.T) {
	for _, tt := range []struct {
		name  string
		ports []uint16
		want  Model
	}{
		{"nothing", nil, Model{}},
		{"one kept port is no accident", []uint16{40000}, Model{Kind: Preserving, Last: 40000, Samples: 1}},
		{"one other port says nothing", []uint16{50000}, Model{Last: 50000, Samples: 1}},
		{"two say nothing", []uint16{50000, 50001}, Model{Last: 50001, Samples: 2}},
		{"preserving", []uint16{40000, 40001, 40002, 40003}, Model{Kind: Preserving, Last: 40003, Samples: 4}},
		{"preserving, one taken", []uint16{40000, 40001, 1024, 40003}, Model{Kind: Preserving, Last: 40003, Samples: 4}},
		{"delta 1", []uint16{50000, 50001, 50002}, Model{Kind: Sequential, Delta: 1, Last: 50002, Samples: 3}},
		{"delta 2", []uint16{50000, 50002, 50004, 50006}, Model{Kind: Sequential, Delta: 2, Last: 50006, Samples: 4}},
		{"delta 2, others connect too", []uint16{50000, 50006, 50008, 50018}, Model{Kind: Sequential, Delta: 2, Last: 50018, Samples: 4}},
		{"downwards", []uint16{50010, 50009, 50008, 50007}, Model{Kind: Sequential, Delta: -1, Last: 50007, Samples: 4}},
		{"wrap", []uint16{65534, 65535, 1024, 1025, 1026}, Model{Kind: Sequential, Delta: 1, Last: 1026, Samples: 5}},
		{"two SYNs changed order", []uint16{50000, 50002, 50001, 50003, 50004}, Model{Kind: Sequential, Delta: 1, Last: 50004, Samples: 5}},
		{"many SYNs changed order", []uint16{50002, 50000, 50006, 50004, 50010, 50008}, Model{Kind: Sequential, Delta: 2, Last: 50008, Samples: 6}},
		{"a small block is no counter", []uint16{8100, 8020, 8150, 8060, 8220}, Model{Kind: Block, Lo: 7970, Hi: 8270, Last: 8220, Samples: 5}},
		{"random", []uint16{5000, 61000, 33211, 12000, 48123, 20001}, Model{Kind: Random, Last: 20001, Samples: 6}},
		{"a block", []uint16{9000, 8200, 8900, 8500, 8650}, Model{Kind: Block, Lo: 8000, Hi: 9200, Last: 8650, Samples: 5}},
		{"too few for a block", []uint16{9000, 8200, 8900, 8500}, Model{Kind: Random, Last: 8500, Samples: 4}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			require.Equal(t, tt.want, Infer(seen(tt.ports...)))
		})
	}
}

func TestOneMappingCountsOnce(t *testing.T) {
	s := seen(50000, 50001)
	for _, dst := range []string{"198.51.100.1:3479", "198.51.100.2:3478"} {
		again := s[0]
		again.Dst = netip.MustParseAddrPort(dst)
		again.At += time.Second
		s = append(s, again)
	}
	require.Equal(t, 2, Infer(s).Samples, "an endpoint-independent NAT shows the same mapping to each server")
}

func TestInvalidSamplesAreIgnored(t *testing.T) {
	require.Equal(t, Model{}, Infer([]Sample{{}, {Local: server}}))
}

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
		{"preserving", Model{Kind: Preserving}, 3, []uint16{40000, 40001, 40002}},
		{"sequential", Model{Kind: Sequential, Delta: 2, Last: 50000}, 3, []uint16{50002, 50004, 50006}},
		{"down", Model{Kind: Sequential, Delta: -1, Last: 1025}, 3, []uint16{1024, 65535, 65534}},
		{"wrap", Model{Kind: Sequential, Delta: 1, Last: 65534}, 3, []uint16{65535, 1024, 1025}},
		{"block", Model{Kind: Block, Lo: 1000, Hi: 1999}, 4, []uint16{1000, 1250, 1500, 1750}},
		{"block smaller than asked", Model{Kind: Block, Lo: 7, Hi: 8}, 4, []uint16{7, 8}},
		{"no delta", Model{Kind: Sequential, Last: 50000}, 3, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			require.Equal(t, tt.want, tt.model.Candidates(40000, tt.n))
		})
	}
}

// nat assigns ports as a model says, with other hosts connecting in between.
type nat struct {
	Model
	rng  *rand.Rand
	busy int // at most so many connections of others before each of ours
}

func (n *nat) next(local uint16) uint16 {
	switch n.Kind {
	case Preserving:
		return local
	case Sequential:
		for range 1 + n.rng.IntN(n.busy+1) {
			n.Last = walk(n.Last, n.Delta, 1)[0]
		}
		return n.Last
	case Block:
		return n.Lo + uint16(n.rng.IntN(int(n.Hi-n.Lo)+1))
	}
	return uint16(firstPort + n.rng.IntN(lastPort-firstPort+1))
}

// A model's own samples are inferred back, and where there are candidates the
// port that the NAT takes next is among them.
func TestModelsAreInferredBack(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	right := map[Kind]int{}
	const rounds = 500
	for range rounds {
		lo := uint16(2000 + rng.IntN(50000))
		for _, m := range []Model{
			{Kind: Preserving},
			{Kind: Sequential, Delta: []int{1, 2, -1, -2, 4}[rng.IntN(5)], Last: uint16(1024 + rng.IntN(64000))},
			{Kind: Block, Lo: lo, Hi: lo + 251 + uint16(rng.IntN(3000))},
			{Kind: Random},
		} {
			n := nat{Model: m, rng: rng, busy: 2}
			var s []Sample
			for i := range 8 {
				local := uint16(33000 + rng.IntN(20000))
				s = append(s, Sample{
					Local:  netip.AddrPortFrom(inside, local),
					Dst:    server,
					Mapped: netip.AddrPortFrom(outside, n.next(local)),
					At:     time.Duration(i) * time.Millisecond,
				})
			}
			got := Infer(s)
			if got.Kind != m.Kind {
				continue
			}
			right[m.Kind]++
			switch m.Kind {
			case Sequential:
				require.Zero(t, got.Delta%m.Delta, "a multiple of the NAT's step, in its direction")
				require.Positive(t, got.Delta*m.Delta)
			case Block:
				require.Less(t, int(got.Hi)-int(got.Lo), 2*(int(m.Hi)-int(m.Lo)), "not far beyond the block")
			}
			if m.Kind == Preserving {
				require.Equal(t, n.next(40000), got.Candidates(40000, 1)[0])
			}
		}
	}
	require.Equal(t, rounds, right[Preserving])
	require.Equal(t, rounds, right[Sequential])
	require.Greater(t, right[Block], rounds*95/100)
	require.Greater(t, right[Random], rounds*99/100)
}

// With no other traffic the step is exact and the first candidate is the port.
func TestQuietSequentialIsExact(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 500 {
		d := 1 + rng.IntN(16)
		if rng.IntN(2) == 0 {
			d = -d
		}
		n := nat{Model: Model{Kind: Sequential, Delta: d, Last: uint16(3000 + rng.IntN(60000))}, rng: rng}
		var ports []uint16
		for range 5 {
			ports = append(ports, n.next(0))
		}
		got := Infer(seen(ports...))
		require.Equal(t, d, got.Delta)
		require.Equal(t, n.next(0), got.Candidates(0, 1)[0])
	}
}

func FuzzInfer(f *testing.F) {
	f.Add([]byte{0xc3, 0x50, 0xc3, 0x51, 0xc3, 0x52}, 8)
	f.Add([]byte{0, 0, 0xff, 0xff, 4, 0, 0xff, 0xff}, 70000)
	f.Fuzz(func(t *testing.T, b []byte, n int) {
		var ports []uint16
		for len(b) > 1 {
			ports = append(ports, uint16(b[0])<<8|uint16(b[1]))
			b = b[2:]
		}
		m := Infer(seen(ports...))
		got := m.Candidates(40000, min(n, 1<<17))
		unique := map[uint16]bool{}
		for _, p := range got {
			unique[p] = true
		}
		if len(unique) != len(got) || len(got) > max(n, 0) {
			t.Fatalf("%v: %d candidates, %d of them distinct, of at most %d", m, len(got), len(unique), n)
		}
	})
}
