package nat

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFiltering(t *testing.T) {
	for _, tc := range []struct {
		filtering                             FilteringBehavior
		endpoint, port, address, freshUnasked bool // who gets in
	}{
		{APDF, true, false, false, false},
		{ADF, true, true, false, false},
		{EIF, true, true, true, false},
		{Open, true, true, true, true},
	} {
		t.Run(tc.filtering.String(), func(t *testing.T) {
			// Each on a NAT of its own: who got in once has a session.
			try := func(inside, contacted, from string, fresh bool) bool {
				s := newSim(t, Config{Filtering: tc.filtering})
				public := s.connect(inside, contacted)
				if fresh {
					public = public[:len(public)-4] + "6000"
				}
				if !s.knocks(from, public) {
					return false
				}
				back := s.sends(pkt{src: hostPort(inside, public), dst: from, flags: "SA", seq: 9, ack: 78})
				require.Equal(t, public, back.src, "the reply leaves from where the SYN came to")
				return true
			}
			require.Equal(t, tc.endpoint, try(x1, rp, rp, false), "the endpoint contacted")
			require.Equal(t, tc.port, try(x1, rp, rq, false), "another port of its address")
			require.Equal(t, tc.address, try(x1, rp, sp, false), "another address")
			require.Equal(t, tc.freshUnasked, try(x1, rp, sp, true), "an unmapped port")

			require.Equal(t, tc.endpoint, try(x6, r6p, r6p, false), "IPv6")
			require.Equal(t, tc.port, try(x6, r6p, r6q, false), "IPv6")
			require.Equal(t, tc.address, try(x6, r6p, s6p, false), "IPv6")
			require.Equal(t, tc.freshUnasked, try(x6, r6p, s6p, true), "IPv6")
		})
	}
}

// hostPort returns the inside host's endpoint with the public one's port, which
// a preserving NAT and a default host keep.
func hostPort(inside, public string) string {
	return inside[:len(inside)-4] + public[len(public)-4:]
}

func TestOpenKnowsNoHostAtFirst(t *testing.T) {
	s := newSim(t, Config{Filtering: Open})
	require.False(t, s.knocks(rp, n1+":6000"))
	require.Empty(t, s.Mappings(s.now))
}

func TestOnlySYNsMakeSessions(t *testing.T) {
	s := newSim(t, Config{Filtering: EIF, Unsolicited: RST})
	public := s.connect(x1, rp)
	for _, flags := range []string{"A", "SA", "R", "RA", "FA"} {
		require.Empty(t, s.in(pkt{src: sp, dst: public, flags: flags}), flags)
		require.Empty(t, s.out(pkt{src: y1, dst: sp, flags: flags}), flags)
	}
	require.Len(t, s.Mappings(s.now), 1)
}

func TestReplyElsewhereIsNoSession(t *testing.T) {
	s := newSim(t, Config{Mapping: APDM, Assignment: Sequential, Filtering: EIF})
	toR := s.connect(x1, rp)
	toS := s.connect(x1, sp)
	require.False(t, s.knocks(sp, toR), "its SYN-ACK would leave from %s", toS)
	require.True(t, s.knocks(sp, toS))
}

func TestNotForUs(t *testing.T) {
	s := newSim(t, Config{Filtering: Open})
	s.connect(x1, rp)
	require.Empty(t, s.in(pkt{src: rp, dst: n2 + ":5000", flags: "S"}), "not our address")
	require.Empty(t, s.in(pkt{src: n1 + ":5000", dst: n1 + ":5000", flags: "S"}), "our address as source")
	require.Empty(t, s.out(pkt{src: n1 + ":5000", dst: rp, flags: "S"}), "our address as source")
	require.Empty(t, newV6Only(t).out(pkt{src: x1, dst: rp, flags: "S"}), "no public address")
}

func newV6Only(t *testing.T) *sim {
	s := newSim(t, Config{})
	s.NAT = New(Config{}, nil, 1)
	return s
}

func TestFirewallTranslatesNothing(t *testing.T) {
	s := newSim(t, Config{Mapping: SessionDependent, Assignment: Random, RewriteSeq: true})
	p := pkt{src: x6, dst: r6p, flags: "S", seq: 1000}
	require.Equal(t, p.bytes(t), s.sends(p).Data)
	p = pkt{src: r6p, dst: x6, flags: "SA", seq: 5000, ack: 1001}
	require.Equal(t, p.bytes(t), s.receives(p, x6).Data)
	p = pkt{src: x6, dst: r6p, data: "udp"}
	require.Equal(t, p.bytes(t), s.sends(p).Data)
	require.Equal(t, x6, s.Mappings(s.now)[0].Public.String())
	require.Equal(t, "tcp [fd00::2]:5000 = [fd00::2]:5000 to [2001:db8::1]:80 half-open", s.Mappings(s.now)[0].String())
}
