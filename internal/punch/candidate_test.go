package punch

import (
	"encoding/hex"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestCandidatesRoundTrip(t *testing.T) {
	cs := []Candidate{
		{Host, netip.MustParseAddrPort("192.168.1.2:40000")},
		{Public, netip.MustParseAddrPort("203.0.113.7:1024")},
		{Host, netip.MustParseAddrPort("[2001:db8::1]:65535")},
		{Mapped, netip.MustParseAddrPort("203.0.113.7:40000")},
	}
	legs := []Leg{{Relay: RelayID{1, 2, 3, 4, 5, 6, 7, 8}, RTT: 12300 * time.Microsecond}, {Relay: RelayID{9}, RTT: Unmeasured}}
	b := AppendCandidates(nil, Side{Candidates: cs, Relays: legs})
	require.Equal(t, "0401"+"04c0a801029c40"+"0204cb0071070400"+"011020010db8000000000000000000000001ffff"+"0404cb0071079c40"+
		"02"+"0102030405060708007b"+"0900000000000000ffff", hex.EncodeToString(b), "the wire layout is a promise")
	got, err := ParseCandidates(b)
	require.NoError(t, err)
	require.Equal(t, Side{Candidates: cs, Relays: legs}, got)
	got, err = ParseCandidates(b[:len(b)-21])
	require.NoError(t, err, "an end that knows of no relays")
	require.Equal(t, Side{Candidates: cs}, got)
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
		got, err := ParseCandidates(AppendCandidates(nil, Side{Candidates: []Candidate{c}}))
		require.NoError(t, err, name)
		require.Empty(t, got.Candidates, "%s must not become a target", name)
	}
	for name, b := range map[string][]byte{
		"count without entries": {1},
		"too many":              {MaxCandidates + 1},
		"odd address length":    {1, 1, 5, 1, 2, 3, 4, 5, 0, 0},
		"cut short":             {1, 1, 4, 1, 2, 3},
		"trailing bytes":        {0, 0, 1},
		"legs cut short":        append([]byte{0, 2}, make([]byte, 19)...),
		"too many legs":         append([]byte{0, MaxLegs + 1}, make([]byte, 10*(MaxLegs+1))...),
	} {
		_, err := ParseCandidates(b)
		require.Error(t, err, name)
	}
}

func FuzzParseCandidates(f *testing.F) {
	f.Add([]byte{})
	f.Add(AppendCandidates(nil, Side{
		Candidates: []Candidate{{Host, netip.MustParseAddrPort("192.168.1.2:40000")}, {Public, netip.MustParseAddrPort("[2001:db8::1]:40000")}},
		Relays:     []Leg{{RTT: time.Second}, {Relay: RelayID{1}}},
	}))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseCandidates(b)
		if err != nil {
			return
		}
		again, err := ParseCandidates(AppendCandidates(nil, s))
		if err != nil || !reflect.DeepEqual(s, again) {
			t.Fatalf("%v does not survive a round trip: %v, %v", s, again, err)
		}
	})
}
