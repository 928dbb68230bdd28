package punch

import (
	"encoding/hex"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCandidatesRoundTrip(t *testing.T) {
	cs := []Candidate{
		{Host, netip.MustParseAddrPort("192.168.1.2:40000")},
		{Public, netip.MustParseAddrPort("203.0.113.7:1024")},
		{Host, netip.MustParseAddrPort("[2001:db8::1]:65535")},
		{Mapped, netip.MustParseAddrPort("203.0.113.7:40000")},
	}
	b := AppendCandidates(nil, cs)
	require.Equal(t, "0401"+"04c0a801029c40"+"0204cb0071070400"+"011020010db8000000000000000000000001ffff"+"0404cb0071079c40", hex.EncodeToString(b), "the wire layout is a promise")
	got, err := ParseCandidates(b)
	require.NoError(t, err)
	require.Equal(t, cs, got)
}

func TestCandidatesFromAStranger(t *testing.T) {
	for name, c := range map[string]Candidate{
		"privileged port": {Host, netip.MustParseAddrPort("192.168.1.1:80")},
		"multicast":       {Public, netip.MustParseAddrPort("224.0.0.1:4000")},
		"unspecified":     {Public, netip.MustParseAddrPort("0.0.0.0:4000")},
		"link-local":      {Host, netip.MustParseAddrPort("169.254.1.1:4000")},
		"broadcast":       {Host, netip.MustParseAddrPort("255.255.255.255:4000")},
		"unknown kind":    {9, netip.MustParseAddrPort("203.0.113.7:4000")},
	} {
		got, err := ParseCandidates(AppendCandidates(nil, []Candidate{c}))
		require.NoError(t, err, name)
		require.Empty(t, got, "%s must not become a target", name)
	}
	for name, b := range map[string][]byte{
		"count without entries": {1},
		"too many":              {MaxCandidates + 1},
		"odd address length":    {1, 1, 5, 1, 2, 3, 4, 5, 0, 0},
		"cut short":             {1, 1, 4, 1, 2, 3},
		"trailing bytes":        {0, 1},
	} {
		_, err := ParseCandidates(b)
		require.Error(t, err, name)
	}
}

func FuzzParseCandidates(f *testing.F) {
	f.Add([]byte{})
	f.Add(AppendCandidates(nil, []Candidate{{Host, netip.MustParseAddrPort("192.168.1.2:40000")}, {Public, netip.MustParseAddrPort("[2001:db8::1]:40000")}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		cs, err := ParseCandidates(b)
		if err != nil {
			return
		}
		again, err := ParseCandidates(AppendCandidates(nil, cs))
		if err != nil || len(again) != len(cs) {
			t.Fatalf("%v does not survive a round trip: %v, %v", cs, again, err)
		}
	})
}
