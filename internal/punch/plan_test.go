package punch

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt/probe"
)

func host(s string) Candidate   { return Candidate{Host, netip.MustParseAddrPort(s)} }
func server(s string) Candidate { return Candidate{Public, netip.MustParseAddrPort(s)} }
func mapped(s string) Candidate { return Candidate{Mapped, netip.MustParseAddrPort(s)} }

// seen is a side whose server sees it at the first public address that it names.
func seen(s Side) Side {
	for _, c := range s.Candidates {
		if c.Kind == Public {
			s.Observed = c.Addr.Addr()
			break
		}
	}
	return s
}

func TestPlan(t *testing.T) {
	rst := &probe.Report{Unsolicited: probe.RST}
	drawing := &probe.Report{Mapping: probe.APDM, Ports: probe.Ports{Assignment: probe.Random, Lo: 1024, Hi: 65535}}
	home := []netip.Prefix{netip.MustParsePrefix("192.168.1.2/24")}
	natted := []Candidate{server("198.51.100.1:40000"), host("192.168.1.2:40000")}
	for _, tt := range []struct {
		name         string
		mine, theirs Side
		want         []Attempt
	}{{
		name:   "two NATs: the other's private address is somebody else's here",
		mine:   Side{Candidates: natted},
		theirs: Side{Candidates: []Candidate{server("203.0.113.9:50000"), host("10.0.0.7:50000")}},
		want:   []Attempt{{To: netip.MustParseAddrPort("203.0.113.9:50000"), Method: SimOpen, Start: 0}},
	}, {
		name:   "the same NAT: inside first, hairpin after",
		mine:   Side{Candidates: natted},
		theirs: Side{Candidates: []Candidate{server("198.51.100.1:50000"), host("10.0.0.7:50000")}},
		want: []Attempt{
			{To: netip.MustParseAddrPort("198.51.100.1:50000"), Method: Hairpin, Start: hairpinLead},
			{To: netip.MustParseAddrPort("10.0.0.7:50000"), Method: LAN, Start: 0, Stranger: true},
		},
	}, {
		name:   "their router maps a port: also where it is the one that the server saw",
		mine:   Side{Candidates: natted},
		theirs: Side{Candidates: []Candidate{server("203.0.113.9:50000"), mapped("203.0.113.9:50000"), host("10.0.0.7:50000")}},
		want: []Attempt{
			{To: netip.MustParseAddrPort("203.0.113.9:50000"), Method: SimOpen},
			{To: netip.MustParseAddrPort("203.0.113.9:50000"), Method: Direct, Fresh: 1},
		},
	}, {
		name:   "their router, which is ours, maps a port",
		mine:   Side{Candidates: natted},
		theirs: Side{Candidates: []Candidate{mapped("198.51.100.1:50000")}},
		want:   []Attempt{{To: netip.MustParseAddrPort("198.51.100.1:50000"), Method: Direct, Fresh: 1, Stranger: true}},
	}, {
		name:   "the same, as the server sees it",
		mine:   Side{Candidates: natted},
		theirs: Side{Candidates: []Candidate{server("198.51.100.1:50000"), mapped("198.51.100.1:50001")}},
		want: []Attempt{
			{To: netip.MustParseAddrPort("198.51.100.1:50000"), Method: Hairpin, Start: hairpinLead},
			{To: netip.MustParseAddrPort("198.51.100.1:50001"), Method: Hairpin, Start: hairpinLead, Fresh: 1},
		},
	}, {
		name:   "two NATs that draw at random, and their router maps a port: nothing is guessed",
		mine:   Side{Candidates: natted, Report: drawing},
		theirs: Side{Candidates: []Candidate{server("203.0.113.9:50000"), mapped("203.0.113.9:50001")}, Report: drawing},
		want: []Attempt{
			{To: netip.MustParseAddrPort("203.0.113.9:50000"), Method: SimOpen},
			{To: netip.MustParseAddrPort("203.0.113.9:50001"), Method: Direct, Fresh: 1},
		},
	}, {
		name:   "the same from the other end",
		mine:   Side{Candidates: []Candidate{server("203.0.113.9:50000"), mapped("203.0.113.9:50001")}, Report: drawing},
		theirs: Side{Candidates: natted[:1], Report: drawing},
		want:   []Attempt{{To: netip.MustParseAddrPort("198.51.100.1:40000"), Method: SimOpen}},
	}, {
		name:   "an IPv6 firewall lets in what is for a port",
		mine:   Side{Candidates: []Candidate{host("[2001:db8::1]:40000")}},
		theirs: Side{Candidates: []Candidate{mapped("[2001:db8::9]:50000"), host("[2001:db8::9]:50000")}},
		want: []Attempt{
			{To: netip.MustParseAddrPort("[2001:db8::9]:50000"), Method: Direct, Fresh: 1, Stranger: true},
			{To: netip.MustParseAddrPort("[2001:db8::9]:50000"), Method: SimOpen, Stranger: true},
		},
	}, {
		name:   "another public address, but our own subnet",
		mine:   Side{Candidates: natted},
		theirs: Side{Candidates: []Candidate{server("203.0.113.9:50000"), host("192.168.1.7:50000")}},
		want: []Attempt{
			{To: netip.MustParseAddrPort("203.0.113.9:50000"), Method: SimOpen, Start: 0},
			{To: netip.MustParseAddrPort("192.168.1.7:50000"), Method: LAN, Start: 0, Stranger: true},
		},
	}, {
		name:   "they are public: once, not as host and public",
		mine:   Side{Candidates: natted},
		theirs: Side{Candidates: []Candidate{host("203.0.113.9:50000"), server("203.0.113.9:50000")}},
		want:   []Attempt{{To: netip.MustParseAddrPort("203.0.113.9:50000"), Method: Direct, Start: 0}},
	}, {
		name:   "we are public",
		mine:   Side{Candidates: []Candidate{server("203.0.113.9:50000"), host("203.0.113.9:50000")}},
		theirs: Side{Candidates: []Candidate{server("198.51.100.1:40000"), host("10.0.0.7:40000")}},
		want:   []Attempt{{To: netip.MustParseAddrPort("198.51.100.1:40000"), Method: Reversed, Start: 0}},
	}, {
		name:   "their NAT answers RST: they must be first",
		mine:   Side{Candidates: natted},
		theirs: Side{Candidates: []Candidate{server("203.0.113.9:50000")}, Report: rst},
		want:   []Attempt{{To: netip.MustParseAddrPort("203.0.113.9:50000"), Method: SimOpen, Start: rstLead}},
	}, {
		name:   "both answer RST: the SYNs must cross",
		mine:   Side{Candidates: natted, Report: rst},
		theirs: Side{Candidates: []Candidate{server("203.0.113.9:50000")}, Report: rst},
		want:   []Attempt{{To: netip.MustParseAddrPort("203.0.113.9:50000"), Method: SimOpen, Start: 0}},
	}, {
		name:   "their NAT answers RST, and we know how far ours is: open only ours before trying again",
		mine:   Side{Candidates: natted, Report: &probe.Report{Path: probe.Path{TTL: 3}}},
		theirs: Side{Candidates: []Candidate{server("203.0.113.9:50000")}, Report: rst},
		want:   []Attempt{{To: netip.MustParseAddrPort("203.0.113.9:50000"), Method: SimOpen, Start: rstLead, Prime: 3}},
	}, {
		name:   "but not if our NAT closes on the ICMP error that follows",
		mine:   Side{Candidates: natted, Report: &probe.Report{OnICMP: probe.Closes, Path: probe.Path{TTL: 3}}},
		theirs: Side{Candidates: []Candidate{server("203.0.113.9:50000")}, Report: rst},
		want:   []Attempt{{To: netip.MustParseAddrPort("203.0.113.9:50000"), Method: SimOpen, Start: rstLead}},
	}, {
		name:   "IPv6 on both ends beside IPv4",
		mine:   Side{Candidates: append([]Candidate{host("[2001:db8:1::1]:40000")}, natted...)},
		theirs: Side{Candidates: []Candidate{server("203.0.113.9:50000"), host("[2001:db8:2::1]:50000")}},
		want: []Attempt{
			{To: netip.MustParseAddrPort("203.0.113.9:50000"), Method: SimOpen, Start: 0},
			{To: netip.MustParseAddrPort("[2001:db8:2::1]:50000"), Method: SimOpen, Start: 0, Stranger: true},
		},
	}, {
		name:   "IPv6 that we do not have",
		mine:   Side{Candidates: natted},
		theirs: Side{Candidates: []Candidate{host("[2001:db8:2::1]:50000")}},
		want:   nil,
	}} {
		t.Run(tt.name, func(t *testing.T) {
			require.Equal(t, tt.want, Meeting{Mine: seen(tt.mine), Theirs: seen(tt.theirs), Prefixes: home}.Plan())
		})
	}
}

func TestLeadIsLessThanTheRetry(t *testing.T) {
	require.Less(t, rstLead, retryMin+retryMax, "an end that waits longer than the other retries gains nothing")
	require.Less(t, DefaultWindow, 30*time.Second, "a race must end before an offer does")
}

// TestPlanHard reads the table of hard off both ends at once.
func TestPlanHard(t *testing.T) {
	eim := &probe.Report{Mapping: probe.EIM, Filtering: probe.APDF}
	cone := &probe.Report{Mapping: probe.EIM, Filtering: probe.EIF}
	delta := &probe.Report{Mapping: probe.APDM, Delta: 2, Samples: 8, Ports: probe.Ports{Assignment: probe.Sequential, Confidence: 1}}
	perAddress := &probe.Report{Mapping: probe.ADM, Delta: 1, Samples: 8, Ports: probe.Ports{Assignment: probe.Sequential, Confidence: 1}}
	block := &probe.Report{Mapping: probe.APDM, Ports: probe.Ports{Assignment: probe.Block, Lo: 20000, Hi: 20511}}
	all := &probe.Report{Mapping: probe.APDM, Ports: probe.Ports{Assignment: probe.Random, Lo: 1024, Hi: 65535}}
	side := func(r *probe.Report, at string) Side {
		ap := netip.MustParseAddrPort(at)
		s := Side{Report: r, Candidates: []Candidate{{Public, ap}}, Observed: ap.Addr()}
		if s.numbering() == sequential {
			s.Candidates = append(s.Candidates, Candidate{Sample, ap})
		}
		return s
	}
	for _, tt := range []struct {
		name           string
		dialer         *probe.Report
		listener       *probe.Report
		dials, listens Method // of the attempts beyond the plain one; empty: none
	}{
		{"both known", eim, eim, "", ""},
		{"a cone needs no prediction", delta, cone, "", ""},
		{"nor does its dialler", cone, all, "", ""},
		{"counter to known", delta, eim, Predicted, Predicted},
		{"known to counter", eim, delta, Predicted, Predicted},
		{"random to known", all, eim, Guessed, Guessed},
		{"known to block", eim, block, Guessed, Guessed},
		{"two counters", delta, delta, Predicted, Predicted},
		{"two small blocks", block, block, Guessed, Guessed},
		{"two full ranges are hopeless", all, all, "", ""},
		{"a counter and a full range are hopeless", delta, all, "", ""},
		{"unless it counts addresses", perAddress, all, Guessed, Guessed},
		{"on either side", block, perAddress, Guessed, Guessed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, b := side(tt.dialer, "198.51.100.1:40000"), side(tt.listener, "203.0.113.9:50000")
			for _, end := range []struct {
				m    Meeting
				want Method
			}{
				{Meeting{Mine: a, Theirs: b, Dialer: true}, tt.dials},
				{Meeting{Mine: b, Theirs: a}, tt.listens},
			} {
				plan := end.m.Plan()
				require.NotEmpty(t, plan, "the plain attempt is always there")
				hard := plan[1:]
				if end.want == "" {
					require.Empty(t, hard)
					continue
				}
				require.NotEmpty(t, hard)
				for _, a := range hard {
					require.Equal(t, end.want, a.Method)
					require.Positive(t, len(a.Ports)+a.Fresh)
					require.NotContains(t, a.Ports, uint16(0))
				}
			}
		})
	}
}

func TestExplain(t *testing.T) {
	one, other := []netip.Addr{netip.MustParseAddr("198.51.100.1")}, []netip.Addr{netip.MustParseAddr("203.0.113.9")}
	eim := &probe.Report{Mapping: probe.EIM, Public: one}
	for _, tt := range []struct {
		mine, theirs *probe.Report
		says         string
	}{
		{eim, eim, "behind one NAT"},
		{&probe.Report{Filtering: probe.NoSYNIn, Public: one}, &probe.Report{Filtering: probe.NoSYNIn, Public: other}, "refuse SYNs"},
		{&probe.Report{Mapping: probe.APDM, Public: one}, &probe.Report{Mapping: probe.APDM, Public: other}, "both NATs map per destination"},
		{eim, &probe.Report{Mapping: probe.APDM, Public: other}, "the peer's NAT maps per destination"},
		{&probe.Report{Mapping: probe.APDM, Public: other}, eim, "your NAT maps per destination"},
		{eim, nil, "has not probed"},
		{eim, &probe.Report{Mapping: probe.EIM, Public: other}, "firewall"},
	} {
		require.Contains(t, Explain(tt.mine, tt.theirs), tt.says)
	}
}
