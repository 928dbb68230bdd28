package probe

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What the lab's NATs do not show; testdata/verdicts.golden has what they do.
func TestVerdict(t *testing.T) {
	public := []netip.Addr{netip.MustParseAddr("203.0.113.7")}
	mapped := PortMapping{"pcp", netip.MustParseAddrPort("203.0.113.7:40000")}
	v6 := func(m Mapping, f Filtering) IPv6 {
		return IPv6{Global: Yes, Public: netip.MustParseAddr("2001:db8::5"), Mapping: m, Filtering: f}
	}
	const remedy = "a public address or IPv6 would make the others reachable directly"
	for _, tt := range []struct {
		name     string
		r        Report
		says     []string // each a part of a line
		saysNone []string
	}{
		{"nothing", Report{}, []string{"IPv4 was not measured"}, []string{"direct", "would"}},
		{"a server of one endpoint", Report{Public: public}, []string{"not enough is known"}, []string{"direct", "would"}},
		{"a public host", Report{Public: public, Mapping: NoNAT, Filtering: Open},
			[]string{"no NAT and no firewall", "direct to every peer, and every peer to this host"}, []string{"would"}},
		{"a firewall", Report{Public: public, Mapping: NoNAT, Filtering: APDF},
			[]string{"no NAT, but a firewall", "by simultaneous open"}, []string{"would"}},
		{"a firewall that rejects", Report{Public: public, Mapping: NoNAT, Filtering: APDF, Unsolicited: RST},
			[]string{"has to fire first"}, nil},
		{"rejects only what is not mapped", Report{Public: public, Mapping: EIM, Filtering: EIF, Unsolicited: RST},
			[]string{"every peer to this host"}, []string{"fire first"}},
		{"another's server", Report{Public: public, Mapping: EIM}, []string{"which was not measured"}, []string{"would"}},
		{"refuses SYNs", Report{Public: public, Mapping: EIM, Filtering: NoSYNIn}, []string{"not directly to peers whose NAT or firewall refuses SYNs", "a public address, IPv6 or port mapping on the router (UPnP, NAT-PMP or PCP) would make"}, nil},
		{"counts and refuses SYNs", Report{Public: public, Mapping: APDM, Delta: 1, Filtering: NoSYNIn},
			[]string{"not directly to peers whose NAT draws ports", "refuses SYNs as this one does", "keeps one port for all peers (on Linux"}, nil},
		{"a carrier's block behind a home router", Report{Public: public, Mapping: APDM, Filtering: APDF, Hairpin: No,
			Ports: Ports{Assignment: Block, Lo: 33792, Hi: 34303}, Path: Path{NATs: 2}},
			[]string{"2 NATs in a row", "among about 512", "with up to 93 SYNs", "in up to 98 of 100", "same outer NAT", remedy}, []string{"masquerade", "port mapping"}},
		{"a pool of hundreds", Report{Public: public, Mapping: APDM, Ports: Ports{Assignment: Random, Lo: 1024, Hi: 65535, Pooling: Arbitrary, Pool: 200}},
			[]string{"seldom to others", "one of 200 at least"}, []string{"of 100"}},
		{"forgets soon", Report{Public: public, Mapping: EIM, LifetimeS: 30}, []string{"after about 30 s"}, nil},

		{"IPv6 only", Report{IPv6: v6(NoNAT, APDF)},
			[]string{"IPv4 was not measured", "IPv6: no NAT, but a firewall", "IPv6: direct to every peer that has IPv6: the SYNs"}, []string{"would"}},
		{"IPv6 without a firewall", Report{Public: public, Mapping: APDM, Delta: 1, IPv6: v6(NoNAT, Open)},
			[]string{"IPv6: no NAT and no firewall", "every such peer to this host"}, []string{"would"}},
		{"IPv6 that refuses SYNs", Report{Public: public, Mapping: APDM, Delta: 1, IPv6: v6(NoNAT, NoSYNIn)},
			[]string{"IPv6: direct to peers that have IPv6, but not directly to peers whose NAT or firewall refuses"}, nil},
		{"IPv6 that is translated", Report{Public: public, Mapping: APDM, Delta: 1, IPv6: v6(EIM, APDF)},
			[]string{"IPv6: somebody translates", "would make the others reachable directly"}, nil},

		{"a router that maps a port", Report{Public: public, Mapping: APDM, Ports: Ports{Assignment: Random, Lo: 1024, Hi: 65535}, PortMapping: mapped},
			[]string{"every other peer direct to this host, as the router passes on a port (pcp)"}, []string{"would", "guessing"}},
		{"a router that maps ports in vain", Report{Public: public, Mapping: APDM, Delta: 1, PortMapping: PortMapping{Protocol: "upnp"}},
			[]string{"the router maps ports (upnp), but nobody gets in by them", "would make the others reachable directly"}, []string{"port mapping on"}},
		{"a firewall that lets a port through", Report{IPv6: IPv6{Public: netip.MustParseAddr("2001:db8::5"), Mapping: NoNAT, Filtering: NoSYNIn, PortMapping: mapped}},
			[]string{"every such peer to this host, as the firewall lets a port through (pcp)"}, []string{"refuses"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			said := strings.Join(tt.r.Verdict(), "\n")
			for _, s := range tt.says {
				require.Contains(t, said, s)
			}
			for _, s := range tt.saysNone {
				require.NotContains(t, said, s)
			}
		})
	}
}
