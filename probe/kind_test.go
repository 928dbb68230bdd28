package probe

import (
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestKind(t *testing.T) {
	for _, tt := range []struct {
		report *Report
		want   string
	}{
		{nil, ""},
		{&Report{Filtering: EIF}, ""},
		{&Report{Mapping: EIM}, "eim/unknown/unknown/unknown"},
		{&Report{Mapping: NoNAT, Filtering: Open, Unsolicited: RST}, "none/unknown/open/rst"},
		{&Report{Mapping: APDM, Delta: 3, Ports: Ports{Assignment: Sequential}, Filtering: APDF, Unsolicited: Silence}, "apdm/sequential/apdf/silence"},
		{&Report{Mapping: EIM, Ports: Ports{Assignment: Preserving}, Filtering: NoSYNIn, IPv6: IPv6{Global: Yes}}, "eim/preserving/no-syn-in/unknown/ipv6"},
	} {
		require.Equal(t, tt.want, tt.report.Kind())
	}
}

// Every kind fits in a label, and no two share one.
func TestKindsAreLabels(t *testing.T) {
	require.Len(t, shortMapping, len(mappingNames))
	require.Len(t, shortFiltering, len(filteringNames))
	label := regexp.MustCompile(`^[a-z0-9/-]{1,64}$`)
	seen := map[string]bool{}
	for m := NoNAT; m <= SessionDependent; m++ {
		for a := AssignmentUnknown; a <= Random; a++ {
			for f := FilteringUnknown; f <= NoSYNIn; f++ {
				for u := ReplyUnknown; u <= ICMP; u++ {
					for v6 := Unknown; v6 <= Yes; v6++ {
						r := &Report{Mapping: m, Ports: Ports{Assignment: a}, Filtering: f, Unsolicited: u, IPv6: IPv6{Global: v6}}
						require.Regexp(t, label, r.Kind())
						require.False(t, seen[r.Kind()], r.Kind())
						seen[r.Kind()] = true
					}
				}
			}
		}
	}
}
