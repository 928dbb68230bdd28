package nat

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestMapping(t *testing.T) {
	for _, tc := range []struct {
		mapping                            MappingBehavior
		again, retransmit, otherPort, addr bool // shares the first one's public endpoint
	}{
		{EIM, true, true, true, true},
		{ADM, true, true, true, false},
		{APDM, true, true, false, false},
		{SessionDependent, false, true, false, false},
	} {
		t.Run(tc.mapping.String(), func(t *testing.T) {
			s := newSim(t, Config{Mapping: tc.mapping, Assignment: Random})
			first := s.connect(x1, rp)
			same := s.sends(pkt{src: x1, dst: rp, flags: "S", seq: s.isn}).src
			require.Equal(t, tc.retransmit, same == first, "a retransmitted SYN is no new connection")
			require.Equal(t, tc.otherPort, s.connect(x1, rq) == first)
			require.Equal(t, tc.addr, s.connect(x1, sp) == first)
			require.Equal(t, tc.again, s.connect(x1, rp) == first, "a new connection between the same two")
			require.NotEqual(t, first, s.connect(y1, rp), "hosts never share")
		})
	}
}

func TestSessionDependentKeepsTheOldPort(t *testing.T) {
	s := newSim(t, Config{Mapping: SessionDependent, Assignment: Sequential, First: 2000})
	old := s.connect(x1, rp)
	fresh := s.connect(x1, rp)
	require.Equal(t, port(old)+1, port(fresh))
	s.receives(pkt{src: rp, dst: old, flags: "S"}, x1)
	s.receives(pkt{src: rp, dst: fresh, flags: "S"}, x1)
	require.Equal(t, fresh, s.sends(pkt{src: x1, dst: rp, flags: "A"}).src, "what leaves uses the newest")
	s.now = s.now.Add(3 * time.Minute)
	s.sends(pkt{src: x1, dst: rp, flags: "A"})
	s.now = s.now.Add(3 * time.Minute)
	require.False(t, s.knocks(rp, old), "the old one has expired on its own")
	require.True(t, s.knocks(rp, fresh))
}

func TestMappingUDP(t *testing.T) {
	s := newSim(t, Config{Mapping: APDM, Assignment: Random, Filtering: ADF})
	public := s.sends(pkt{src: x1, dst: rp}).src
	require.Equal(t, public, s.sends(pkt{src: x1, dst: rp}).src)
	require.NotEqual(t, public, s.sends(pkt{src: x1, dst: rq}).src)
	s.receives(pkt{src: rp, dst: public, data: "odd"}, x1)
	require.Empty(t, s.in(pkt{src: sp, dst: public}))
	s.now = s.now.Add(5 * time.Minute)
	require.Empty(t, s.in(pkt{src: rp, dst: public}), "RFC 4787 REQ-5: 5 minutes")
}

func TestPreserving(t *testing.T) {
	s := newSim(t, Config{})
	require.Equal(t, n1+":5000", s.connect(x1, rp))
	other := s.connect(y1, rp)
	require.NotEqual(t, n1+":5000", other, "taken")
	require.NotEqual(t, 80, port(s.connect("10.0.0.2:80", rp)), "outside the range")
	require.Equal(t, n1+":5000", s.sends(pkt{src: y1, dst: rp}).src, "UDP ports are others")
	s.now = s.now.Add(4 * time.Minute)
	require.Equal(t, n1+":5000", s.connect(y1, rp), "free again when the mapping has expired")
}

func TestOverload(t *testing.T) {
	s := newSim(t, Config{Mapping: APDM, Overload: true})
	require.Equal(t, n1+":5000", s.connect(x1, rp))
	require.Equal(t, n1+":5000", s.connect(y1, sp), "another destination, the same port")
	require.NotEqual(t, n1+":5000", s.connect(y1, rp), "the same destination")
	s.receives(pkt{src: rp, dst: n1 + ":5000", flags: "SA"}, x1)
	s.receives(pkt{src: sp, dst: n1 + ":5000", flags: "SA"}, y1)
}

func TestSequential(t *testing.T) {
	for _, tc := range []struct {
		config Config
		want   []int
	}{
		{Config{}, []int{1024, 1025, 1026}},
		{Config{First: 40000}, []int{40000, 40001, 40002}},
		{Config{First: 40000, Delta: 2}, []int{40000, 40002, 40004}},
		{Config{First: 40000, Delta: -1}, []int{40000, 39999, 39998}},
		{Config{Ports: Ports{100, 102}}, []int{100, 101, 102}},
		{Config{Ports: Ports{100, 103}, Delta: 2, First: 101}, []int{101, 103, 102, 100}},
		{Config{Ports: Ports{100, 105}, Delta: -1, First: 101}, []int{101, 100, 105}},
		{Config{First: 40000, Parity: true}, []int{40000, 40002, 40004}},
	} {
		tc.config.Mapping, tc.config.Assignment = APDM, Sequential
		t.Run(tc.config.String(), func(t *testing.T) {
			s := newSim(t, tc.config)
			var ports []int
			for i := range tc.want {
				ports = append(ports, port(s.connect(x1, fmt.Sprintf("198.51.100.1:%d", 80+i))))
			}
			require.Equal(t, tc.want, ports)
		})
	}
}

func TestNoPortLeft(t *testing.T) {
	for _, a := range []PortAssignment{Preserving, Sequential, Random} {
		s := newSim(t, Config{Mapping: APDM, Assignment: a, Ports: Ports{100, 103}})
		seen := map[int]bool{}
		for i := range 4 {
			seen[port(s.connect(x1, fmt.Sprintf("198.51.100.1:%d", 80+i)))] = true
		}
		require.Equal(t, map[int]bool{100: true, 101: true, 102: true, 103: true}, seen)
		require.Empty(t, s.out(pkt{src: x1, dst: sp, flags: "S"}), "a full range drops new flows")
		s.now = s.now.Add(4 * time.Minute)
		s.connect(x1, sp)
	}
}

func TestRandomStaysInTheBlock(t *testing.T) {
	s := newSim(t, Config{Mapping: APDM, Assignment: Random, Ports: Ports{2000, 2511}, Parity: true})
	seen := map[int]bool{}
	for i := range 100 {
		p := port(s.connect("10.0.0.2:5001", fmt.Sprintf("198.51.100.1:%d", 80+i)))
		require.True(t, p >= 2000 && p <= 2511 && p%2 == 1, p)
		seen[p] = true
	}
	require.Len(t, seen, 100)
}

func TestBusy(t *testing.T) {
	run := func(wait time.Duration, times int) (int, int) {
		s := newSim(t, Config{Mapping: APDM, Assignment: Sequential, First: 20000, Busy: 5})
		s.connect(x1, rp)
		last, probes := 0, 0
		for range times {
			s.now = s.now.Add(wait)
			probes++
			last = port(s.connect(x1, fmt.Sprintf("198.51.100.1:%d", 1000+probes)))
		}
		return last, probes
	}
	last, probes := run(100*time.Second, 1)
	others := last - 20000 - probes
	require.InDelta(t, 500, others, 5*22.4, "5 a second, within five standard deviations of a Poisson process")
	last, probes = run(time.Second, 100)
	require.Equal(t, others, last-20000-probes, "their times do not depend on when they are looked at")

	s := newSim(t, Config{Mapping: APDM, Assignment: Sequential, Busy: 5})
	s.connect(x1, rp)
	s.now = s.now.Add(100 * 365 * 24 * time.Hour)
	s.connect(x1, rp) // a long silence must not take long
}

func TestPool(t *testing.T) {
	addrs := func(c Config) map[string]map[string]bool {
		s := newSim(t, c, n1, n2)
		seen := map[string]map[string]bool{}
		for _, host := range []string{"10.0.0.2", "10.0.0.3"} {
			seen[host] = map[string]bool{}
			for i := range 32 {
				g := s.sends(pkt{src: fmt.Sprintf("%s:%d", host, 5000+i), dst: rp, flags: "S"})
				seen[host][g.src[:len(n1)]] = true
			}
		}
		return seen
	}
	require.Equal(t, map[string]map[string]bool{"10.0.0.2": {n1: true}, "10.0.0.3": {n2: true}}, addrs(Config{}))
	both := map[string]bool{n1: true, n2: true}
	require.Equal(t, map[string]map[string]bool{"10.0.0.2": both, "10.0.0.3": both}, addrs(Config{Pooling: Arbitrary}))
}

func TestDeterministic(t *testing.T) {
	run := func(seed uint64) (list []string) {
		s := newSim(t, Config{Mapping: SessionDependent, Assignment: Random, Pooling: Arbitrary, RewriteSeq: true}, n1, n2)
		s.NAT = New(s.c, s.public, seed)
		for range 20 {
			s.isn += 7
			g := s.sends(pkt{src: x1, dst: rp, flags: "S", seq: s.isn})
			list = append(list, fmt.Sprint(g.src, g.tcp.Seq))
		}
		return list
	}
	require.Equal(t, run(1), run(1))
	require.NotEqual(t, run(1), run(2))
}
