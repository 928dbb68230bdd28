package punch

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt/probe"
)

func TestParseHint(t *testing.T) {
	for hint, want := range map[string]Method{
		"direct":                           Direct,
		"reversed":                         Direct,
		"direct/reversed":                  Direct,
		"lan":                              LAN,
		"reversed/simultaneous-open":       SimOpen,
		"guessed-port/simultaneous-open":   Guessed,
		"predicted-port/simultaneous-open": Predicted,
		"":                                 "",
		"/":                                "",
		"direct/":                          "",
		"direct/relay":                     Relay,
		"relayed":                          "",
		"direct/relayed":                   "",
		"Direct":                           "",
	} {
		require.Equal(t, want, ParseHint(hint), hint)
	}
	require.Len(t, byCost, 8, "every method has its cost")
}

// A hint moves guesses, and nothing but guesses, by hintLead.
func TestPlanHinted(t *testing.T) {
	at := func(r *probe.Report, cs ...Candidate) Side { return Side{Report: r, Candidates: cs} }
	adf := &probe.Report{Mapping: probe.EIM, Filtering: probe.ADF}
	rst := &probe.Report{Mapping: probe.EIM, Filtering: probe.ADF, Unsolicited: probe.RST}
	all := &probe.Report{Mapping: probe.APDM, Ports: probe.Ports{Assignment: probe.Random, Lo: 1024, Hi: 65535}}
	tiny := &probe.Report{Mapping: probe.APDM, Ports: probe.Ports{Assignment: probe.Block, Lo: 20000, Hi: 20031}}
	delta := &probe.Report{Mapping: probe.APDM, Delta: 1, Samples: 8, Ports: probe.Ports{Assignment: probe.Sequential, Confidence: 1, Drift: 20}}
	a, b := server("198.51.100.1:40000"), server("203.0.113.9:50000")
	sampled := func(c Candidate) []Candidate { return []Candidate{c, {Sample, c.Addr}} }
	own := Candidate{Host, b.Addr}
	for _, tt := range []struct {
		name         string
		mine, theirs Side
		hint         Method
		moves        bool
	}{
		{"a cheaper method of the plan, who guesses", at(adf, a), at(all, b), SimOpen, true},
		{"a cheaper method of the plan, who is guessed", at(all, a), at(adf, b), SimOpen, true},
		{"none", at(adf, a), at(all, b), "", false},
		{"guessing itself", at(adf, a), at(all, b), Guessed, false},
		{"a method that is not in the plan", at(adf, a), at(all, b), LAN, false},
		{"another one", at(all, a), at(adf, b), Predicted, false},
		{"one that nobody knows", at(adf, a), at(all, b), "carrier-pigeon", false},
		{"we must fire first", at(rst, a), at(all, b), SimOpen, false},
		{"the other end must fire first: then we may wait", at(all, a), at(rst, b), SimOpen, true},
		{"direct, as its other end sees it", at(adf, b, own), at(all, a), Direct, true},
		{"direct, as this end sees it", at(all, a), at(adf, b, own), Direct, true},
		{"so few guesses that they cost nothing", at(adf, a), at(tiny, b), SimOpen, false},
		{"no guesses at all", at(adf, a), at(adf, b), SimOpen, false},
		{"sweeps over counters that run on", at(delta, sampled(a)...), at(delta, sampled(b)...), SimOpen, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := Meeting{Mine: seen(tt.mine), Theirs: seen(tt.theirs), Dialer: true, ID: [16]byte{1}}
			want := m.Plan()
			guesses := 0
			for i := range want {
				if want[i].Method == Guessed && tt.moves {
					want[i].Start += hintLead
					guesses++
				}
			}
			require.Equal(t, tt.moves, guesses > 0, "the case is about guessing")
			m.Hint = tt.hint
			require.Equal(t, want, m.Plan())
		})
	}
}

// An end that is not sure what to expect takes any hint and plans the same.
func TestPlanHintedIsStillWhole(t *testing.T) {
	unknown := Side{Candidates: []Candidate{{Public, netip.MustParseAddrPort("198.51.100.1:40000")}}}
	for _, hint := range append(byCost, "") {
		m := Meeting{Mine: seen(unknown), Theirs: seen(unknown)}
		want := m.Plan()
		m.Hint = hint
		require.Equal(t, want, m.Plan())
	}
}
