package status

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt/probe"
	"github.com/gostunt/stunt/rendezvous"
)

// TestClasses holds the classes against the labels that nodes really make.
func TestClasses(t *testing.T) {
	for _, tt := range []struct {
		report probe.Report
		want   string
	}{
		{probe.Report{}, "unknown"},
		{probe.Report{Mapping: probe.NoNAT, Filtering: probe.Open}, "public"},
		{probe.Report{Mapping: probe.NoNAT, Filtering: probe.APDF, IPv6: probe.IPv6{Global: probe.Yes}}, "firewall"},
		{probe.Report{Mapping: probe.EIM, Filtering: probe.APDF, Unsolicited: probe.Silence}, "eim"},
		{probe.Report{Mapping: probe.EIM, Filtering: probe.EIF}, "eim"},
		{probe.Report{Mapping: probe.EIM, Unsolicited: probe.RST}, "eim-rst"},
		{probe.Report{Mapping: probe.EIM, Unsolicited: probe.ICMP}, "eim-rst"},
		{probe.Report{Mapping: probe.EIM, Filtering: probe.NoSYNIn, Unsolicited: probe.RST}, "no-syn-in"},
		{probe.Report{Mapping: probe.APDM, Ports: probe.Ports{Assignment: probe.Preserving}}, "apdm-preserving"},
		{probe.Report{Mapping: probe.ADM, Ports: probe.Ports{Assignment: probe.Sequential}}, "apdm-sequential"},
		{probe.Report{Mapping: probe.APDM, Ports: probe.Ports{Assignment: probe.Block}}, "apdm-block"},
		{probe.Report{Mapping: probe.SessionDependent, Ports: probe.Ports{Assignment: probe.Random}}, "apdm-random"},
		{probe.Report{Mapping: probe.APDM}, "apdm"},
	} {
		require.Equal(t, tt.want, classOf(tt.report.Kind()).String(), "%s", tt.report.Kind())
	}
	for _, invented := range []string{"x", "////", "eim", "nat/a/b/c", "eim/eim/eim"} {
		require.Equal(t, "other", classOf(invented).String(), "what a stranger makes up is one class")
	}
}

// TestLabelsAreBounded: whatever clients say, there are no more labels than are
// written down here.
func TestLabelsAreBounded(t *testing.T) {
	seen := make(map[string]bool)
	for c := range rendezvous.Code(1 << 10) {
		seen[codeLabel(c)] = true
	}
	require.Less(t, len(seen), 50)
	require.Contains(t, seen, "other")
	require.Equal(t, "unknown_peer", codeLabel(rendezvous.CodeUnknownPeer))
	require.Equal(t, "simultaneous-open", methodOf("simultaneous-open"))
	require.Equal(t, methodOther, methodOf("teleport"))
	require.Equal(t, methodOther, methodOf(""), "it says that it connected, and not how")
}
