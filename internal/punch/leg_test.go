package punch

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt/probe"
)

// leg is a way to the relay of that name, as its owner knows it.
func leg(name string, rtt time.Duration) Leg {
	return Leg{Relay: RelayIDOf(name), RTT: rtt, Addr: netip.MustParseAddrPort("192.0.2.1:3478")}
}

// told is a side as the other end knows it.
func told(t *testing.T, s Side) Side {
	got, err := ParseCandidates(AppendCandidates(nil, s))
	require.NoError(t, err)
	got.Report, got.Observed = s.Report, s.Observed
	return got
}

// Both ends find the same relay, the nearest to both, whatever they know.
func TestCommonRelay(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	names := []string{"a:1", "b:1", "c:1", "d:1", "e:1"}
	for range 1000 {
		var a, b Side
		for _, name := range names {
			for _, s := range []*Side{&a, &b} {
				if r.IntN(3) > 0 {
					s.Relays = append(s.Relays, leg(name, time.Duration(r.IntN(5))*time.Millisecond+time.Duration(r.IntN(99))*time.Microsecond))
				}
			}
		}
		x, ok := Meeting{Mine: a, Theirs: told(t, b)}.common()
		y, too := Meeting{Mine: b, Theirs: told(t, a)}.common()
		require.Equal(t, ok, too)
		require.Equal(t, x.Relay, y.Relay, "%+v %+v", a, b)
	}
	near, far := leg("near:1", time.Millisecond), leg("far:1", time.Second)
	m := Meeting{Mine: Side{Relays: []Leg{leg("far:1", 0), leg("near:1", 2*time.Millisecond)}}, Theirs: told(t, Side{Relays: []Leg{near, far}})}
	got, ok := m.common()
	require.True(t, ok)
	require.Equal(t, near.Relay, got.Relay, "the sum of both legs counts")
	m.Mine.Relays[1].RTT = Unmeasured
	got, _ = m.common()
	require.Equal(t, far.Relay, got.Relay, "one that was not measured is the last to be taken")
}

// The relay is one more attempt: late where something else may do, at once
// where nothing will, and none without a ticket or a relay in common.
func TestPlanRelay(t *testing.T) {
	end := func(at string, r *probe.Report) Side {
		return Side{Candidates: []Candidate{{Public, netip.MustParseAddrPort(at)}}, Relays: []Leg{leg("r:1", 0)}, Report: r, Observed: netip.MustParseAddrPort(at).Addr()}
	}
	eim := &probe.Report{Mapping: probe.EIM, Filtering: probe.APDF}
	random := &probe.Report{Mapping: probe.APDM, Filtering: probe.APDF, Ports: probe.Ports{Assignment: probe.Random, Lo: 1024, Hi: 65535}}
	noSYN := &probe.Report{Mapping: probe.EIM, Filtering: probe.NoSYNIn}
	for name, tt := range map[string]struct {
		mine, theirs *probe.Report
		hint         Method
		start        time.Duration
	}{
		"crossed":                        {eim, eim, "", relayLead},
		"guessed":                        {eim, random, "", relayLead},
		"not known":                      {nil, nil, "", relayLead},
		"two that draw":                  {random, random, "", 0},
		"two that refuse SYNs":           {noSYN, noSYN, "", 0},
		"crossed, but not the last time": {eim, eim, Relay, 0},
	} {
		m := Meeting{Mine: end("192.0.2.1:40000", tt.mine), Theirs: told(t, end("192.0.2.2:40000", tt.theirs)),
			Hint: tt.hint, Ticket: []byte("ticket"), Dialer: true}
		plan := m.Plan()
		last := plan[len(plan)-1]
		require.Equal(t, Attempt{To: m.Mine.Relays[0].Addr, Method: Relay, Start: tt.start, Ticket: m.Ticket}, last, name)
		require.Greater(t, len(plan), 1, "%s: the direct attempts stay", name)
		for _, without := range []func(m *Meeting){
			func(m *Meeting) { m.Ticket = nil },
			func(m *Meeting) { m.Theirs.Relays = nil },
			func(m *Meeting) { m.Mine.Relays = []Leg{leg("other:1", 0)} },
		} {
			other := m
			without(&other)
			require.Equal(t, plan[:len(plan)-1], other.Plan(), name)
		}
		m.Theirs.Candidates = nil // who wants the relay only
		require.Equal(t, []Method{Relay}, methods(m.Plan()), name)
		require.Zero(t, m.Plan()[0].Start, name)
		m.Theirs, m.Mine.Candidates = told(t, end("192.0.2.2:40000", tt.theirs)), nil
		require.Equal(t, []Method{Relay}, methods(m.Plan()), name)
	}
}

func methods(plan []Attempt) (ms []Method) {
	for _, a := range plan {
		ms = append(ms, a.Method)
	}
	return ms
}
