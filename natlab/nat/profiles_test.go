package nat

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestProfiles(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range Profiles() {
		require.NoError(t, p.Config.Validate(), p.Name)
		require.NotEmpty(t, p.About, p.Name)
		require.False(t, seen[p.Name], "a name stands for one behaviour: %s", p.Name)
		seen[p.Name] = true
		c, ok := Profile(p.Name)
		require.True(t, ok)
		require.Equal(t, p.Config, c)

		s := newSim(t, p.Config, n1, n2) // every one of them carries a connection
		s.establish(x1, rp)
		s.establish(x6, r6p)
		require.Equal(t, []State{Established, Established}, s.states(), p.Name)
	}
	for _, name := range []string{"eim-eif", "eim-adf", "eim-apdf", "linux", "eim-rst", "eim-icmp", "eim-req4",
		"adm-delta1", "apdm-delta1", "apdm-delta2", "apdm-delta1-busy5", "apdm-delta1-busy20", "session-delta1",
		"apdm-random", "apdm-block512", "apdm-block2048", "apdm-rst", "pool-paired", "pool-arbitrary", "hairpin",
		"no-hairpin", "no-syn-in", "seq-rewrite"} {
		require.True(t, seen[name], name)
	}
	_, ok := Profile("no such")
	require.False(t, ok)
}

func TestString(t *testing.T) {
	require.Equal(t, "EIM mapping, preserving ports, APDF filtering, unsolicited SYN: silence", Config{}.String())
	require.Equal(t, "APDM mapping, preserving ports, APDF filtering, unsolicited SYN: silence, port overloading, "+
		"RST closes a half-open mapping, strict sequence numbers, picks up connections midway", linux().String())
	all := Config{
		Mapping: SessionDependent, Assignment: Sequential, Delta: -2, Busy: 5, Ports: Ports{2000, 3000},
		Filtering: Open, Unsolicited: PortUnreachable, AnswerAfter: 6 * time.Second, Pooling: Arbitrary, Parity: true,
		RefuseSYNIn: true, RefuseSYNACKOut: true, OnRST: Reaction{Close: true}, OnICMP: Reaction{Swallow: true},
		Hairpin: HairpinInternal, RewriteSeq: true,
	}
	require.Equal(t, "session-dependent mapping, sequential ports by -2 with 5 other mappings/s of 2000 to 3000, "+
		"open filtering, unsolicited SYN: ICMP port unreachable after 6s, arbitrary pooling, port parity, "+
		"refuses SYN in after SYN out, refuses SYN-ACK out after SYN out, RST closes a half-open mapping, "+
		"ICMP error is swallowed while half-open, hairpinning with internal source, rewrites sequence numbers", all.String())
	require.Equal(t, "unknown(9)", MappingBehavior(9).String())
}

func TestValidate(t *testing.T) {
	for _, c := range []Config{
		{Mapping: SessionDependent + 1},
		{Assignment: Random + 1},
		{Pooling: Arbitrary + 1},
		{Filtering: Open + 1},
		{Hairpin: HairpinInternal + 1},
		{Unsolicited: lastAnswer + 1},
		{Ports: Ports{Lo: 0, Hi: 10}},
		{Ports: Ports{Lo: 11, Hi: 10}},
		{First: 80},
		{Ports: Ports{Lo: 10, Hi: 10}, Parity: true},
		{Busy: -1},
		{Busy: math.NaN()},
		{Busy: math.Inf(1)},
		{Overload: true},
		{Overload: true, Mapping: APDM, Filtering: EIF},
		{AnswerAfter: -1},
		{Timeouts: Timeouts{HalfOpen: -1}},
	} {
		require.Error(t, c.Validate(), "%+v", c)
	}
}
