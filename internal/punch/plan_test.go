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

func TestPlan(t *testing.T) {
	rst := &probe.Report{Unsolicited: probe.RST}
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
			{To: netip.MustParseAddrPort("10.0.0.7:50000"), Method: LAN, Start: 0},
		},
	}, {
		name:   "another public address, but our own subnet",
		mine:   Side{Candidates: natted},
		theirs: Side{Candidates: []Candidate{server("203.0.113.9:50000"), host("192.168.1.7:50000")}},
		want: []Attempt{
			{To: netip.MustParseAddrPort("203.0.113.9:50000"), Method: SimOpen, Start: 0},
			{To: netip.MustParseAddrPort("192.168.1.7:50000"), Method: LAN, Start: 0},
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
		name:   "IPv6 on both ends beside IPv4",
		mine:   Side{Candidates: append([]Candidate{host("[2001:db8:1::1]:40000")}, natted...)},
		theirs: Side{Candidates: []Candidate{server("203.0.113.9:50000"), host("[2001:db8:2::1]:50000")}},
		want: []Attempt{
			{To: netip.MustParseAddrPort("203.0.113.9:50000"), Method: SimOpen, Start: 0},
			{To: netip.MustParseAddrPort("[2001:db8:2::1]:50000"), Method: SimOpen, Start: 0},
		},
	}, {
		name:   "IPv6 that we do not have",
		mine:   Side{Candidates: natted},
		theirs: Side{Candidates: []Candidate{host("[2001:db8:2::1]:50000")}},
		want:   nil,
	}} {
		t.Run(tt.name, func(t *testing.T) {
			require.Equal(t, tt.want, Plan(tt.mine, tt.theirs, home))
		})
	}
}

func TestLeadIsLessThanTheRetry(t *testing.T) {
	require.Less(t, rstLead, retryMin+retryMax, "an end that waits longer than the other retries gains nothing")
	require.Less(t, DefaultWindow, 30*time.Second, "a race must end before an offer does")
}
