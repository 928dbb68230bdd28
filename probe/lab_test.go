package probe

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"math"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pion/stun/v3"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/gostunt/stunt/internal/sock"
	"github.com/gostunt/stunt/natlab"
	"github.com/gostunt/stunt/natlab/nat"
)

var update = flag.Bool("update", false, "write testdata/verdicts.golden anew")

func TestMain(m *testing.M) { natlab.Main(m) }

// What lies between a home of the lab and the Internet.
var home = natlab.Link{Delay: 10 * time.Millisecond, Hops: 4}

// startIn runs a server on a host of the lab: two ports of each of two IPv4
// addresses and of one IPv6 address. It returns one endpoint of each family.
func startIn(t testing.TB, lab *natlab.Lab) (v4, v6 netip.AddrPort) {
	t.Helper()
	return startTapped(t, lab, tap{})
}

// tap is told what a server does. Its zero value is told nothing.
type tap struct {
	conn   func(net.Conn) net.Conn // for each connection, before it is served
	socket func()                  // for each socket, the listeners' as well
}

func startTapped(t testing.TB, lab *natlab.Lab, on tap) (v4, v6 netip.AddrPort) {
	t.Helper()
	h := lab.Host("stun", nil, natlab.Link{Delay: 5 * time.Millisecond, Hops: 1})
	s := &Server{Net: &sock.Net{Open: func(open func() error) error {
		if on.socket != nil {
			on.socket()
		}
		return h.Do(open)
	}}}
	serve := s.ServeConn
	if on.conn != nil {
		serve = func(ctx context.Context, c net.Conn) { s.ServeConn(ctx, on.conn(c)) }
	}
	ctx, cancel := context.WithCancel(t.Context())
	var lns []*net.TCPListener
	for _, a := range []netip.Addr{h.Addr(), h.AddAddr(), h.Addr6()} {
		for _, port := range []uint16{3478, 3479} {
			ln, err := s.Net.ListenExclusive(ctx, netip.AddrPortFrom(a, port).String())
			require.NoError(t, err)
			lns = append(lns, ln)
			s.Alternates = append(s.Alternates, sock.AddrPort(ln.Addr()))
		}
	}
	run(t, ctx, cancel, serve, lns)
	return s.Alternates[0], s.Alternates[4]
}

// found is what a probe says about a NAT, in a line.
func found(r *Report) string {
	ports := r.Ports.Assignment.String()
	if r.Delta != 0 {
		ports = fmt.Sprintf("delta %d", r.Delta)
	}
	return fmt.Sprintf("%s, %v, %v, %v, rst %v, icmp %v, hairpin %v, ttl %d, seq %v",
		ports, r.Mapping, r.Filtering, r.Unsolicited, r.OnRST, r.OnICMP, r.Hairpin, r.Path.TTL, r.Path.SeqPreserved)
}

const (
	kept   = "preserving, endpoint-independent, "
	random = "random, address-and-port-dependent, "
	apdf   = "address-and-port-dependent, silence, rst keeps, icmp keeps, "
	// Of ports drawn at random none is known that a SYN to a closed port gets.
	drawn = "address-and-port-dependent, silence, rst unknown, icmp keeps, hairpin unknown, ttl 2, seq yes"
)

// Every NAT of the lab is found to be what it is, as far as sockets can tell.
var profiles = map[string]string{
	"eim-eif":  kept + "endpoint-independent, silence, rst unknown, icmp unknown, hairpin no, ttl 0, seq yes", // no holes are needed
	"eim-adf":  kept + "address-dependent, silence, rst keeps, icmp keeps, hairpin no, ttl 2, seq yes",
	"eim-apdf": kept + apdf + "hairpin no, ttl 2, seq yes",
	// A mapping each, but on the same port.
	"linux":        kept + "address-and-port-dependent, silence, rst closes, icmp keeps, hairpin no, ttl 2, seq yes",
	"linux-random": random + drawn,
	"eim-open":     kept + "open, unknown, rst unknown, icmp unknown, hairpin no, ttl 0, seq yes",
	"eim-rst":      kept + "address-and-port-dependent, rst, rst closes, icmp keeps, hairpin no, ttl 2, seq yes",
	"eim-icmp":     kept + "address-and-port-dependent, icmp, rst keeps, icmp closes, hairpin no, ttl 0, seq yes",
	"eim-req4":     kept + apdf + "hairpin no, ttl 2, seq yes", // silent for 6 s, which is as good

	"adm-delta1":              "delta 1, address-dependent, " + apdf + "hairpin unknown, ttl 2, seq yes",
	"apdm-delta1":             "delta 1, address-and-port-dependent, " + apdf + "hairpin unknown, ttl 2, seq yes",
	"apdm-delta2":             "delta 2, address-and-port-dependent, " + apdf + "hairpin unknown, ttl 2, seq yes",
	"apdm-delta1-busy5":       "delta 1, address-and-port-dependent, " + apdf + "hairpin unknown, ttl 2, seq yes",
	"apdm-delta1-busy20":      "delta 1, address-and-port-dependent, " + apdf + "hairpin unknown, ttl 2, seq yes",
	"session-delta1":          "delta 1, session-dependent, " + apdf + "hairpin unknown, ttl 2, seq yes",
	"apdm-random":             random + drawn,
	"apdm-block512":           "block, address-and-port-dependent, " + drawn,
	"apdm-block512-exclusive": "block, address-and-port-dependent, " + drawn,
	"apdm-block2048":          "block, address-and-port-dependent, " + drawn,
	"apdm-rst":                "delta 1, address-and-port-dependent, address-and-port-dependent, rst, rst closes, icmp keeps, hairpin unknown, ttl 2, seq yes",
	"pool-paired":             "random, endpoint-independent, " + apdf + "hairpin no, ttl 2, seq yes",
	"pool-arbitrary":          random + "address-and-port-dependent, silence, rst unknown, icmp unknown, hairpin unknown, ttl 0, seq yes",
	"hairpin":                 kept + apdf + "hairpin yes, ttl 2, seq yes",
	"hairpin-internal":        kept + apdf + "hairpin no, ttl 2, seq yes", // not with itself
	"no-hairpin":              kept + apdf + "hairpin no, ttl 2, seq yes",
	"no-syn-in":               kept + "no-syn-in, silence, rst unknown, icmp unknown, hairpin no, ttl 0, seq yes",
	"no-synack-out":           kept + apdf + "hairpin no, ttl 2, seq yes",
	"seq-rewrite":             kept + apdf + "hairpin no, ttl 2, seq no",
}

// Over IPv6 a socket does not endure the errors for its SYN.
const noSYN6 = "ipv6 filtering APDF or no-syn-in: an error came for every SYN that went out, and no SYN came in"

// And of IPv6, where none is translated and the server has one address.
var profiles6 = map[string]Filtering{"eim-eif": ADF, "eim-adf": ADF, "eim-open": Open} // else APDF

func TestProfiles(t *testing.T) {
	t.Parallel()
	lab := natlab.Start(t, natlab.Config{Seed: 3})
	server, server6 := startIn(t, lab)
	hosts := map[string]*natlab.Host{}
	for _, p := range nat.Profiles() {
		hosts[p.Name] = lab.Host(p.Name+"-host", lab.NAT(p.Name, nil, p.Config, home), natlab.Link{})
	}
	reports := probeAll(t, hosts, Config{Server: server, Server6: server6, Other: otherOf(server)})
	for _, p := range nat.Profiles() {
		t.Run(p.Name, func(t *testing.T) {
			require.Contains(t, profiles, p.Name, "a new profile needs a line in the table")
			r := reports[p.Name]
			require.Equal(t, profiles[p.Name], found(r), "%s", r.Encode())
			require.Equal(t, cmp.Or(profiles6[p.Name], APDF), r.IPv6.Filtering)
			require.Equal(t, Yes, r.IPv6.Global)
			require.Equal(t, NoNAT, r.IPv6.Mapping)
			require.Equal(t, 6, r.Path.Hops, "the NAT, four and one routers")
			require.Equal(t, 1, r.Path.NATs)
			require.Equal(t, r.PortPreserving, r.Ports.Parity)
			require.Contains(t, []Tri{Unknown, r.PortPreserving}, r.Ports.Contiguity, "unknown where the neighbouring port was taken")
			if r.Unsolicited == Silence {
				require.GreaterOrEqual(t, r.UnsolicitedMS, 3000, "as long as the server waits")
			} else if r.Unsolicited != ReplyUnknown {
				require.GreaterOrEqual(t, r.UnsolicitedMS, 30, "a round trip from the server to the NAT")
			}
			require.InDelta(t, 1, r.Ports.Confidence, 0.1)
		})
	}
	t.Run("verdicts", func(t *testing.T) { checkVerdicts(t, reports) })
	t.Run("ports", func(t *testing.T) { checkPorts(t, reports) })
	require.Contains(t, reports["eim-eif"].Ambiguous, "ipv6 filtering EIF or ADF: nothing came from another address")
	require.Contains(t, reports["no-syn-in"].Ambiguous, noSYN6)
}

// checkVerdicts compares what users are told with a file that can be read
// beside docs/grid.md: whom a verdict promises is connected there.
func checkVerdicts(t *testing.T, reports map[string]*Report) {
	var b strings.Builder
	for _, p := range nat.Profiles() {
		r := *reports[p.Name]
		r.IPv6 = IPv6{}                                   // TestVerdict has it
		r.Ports.Drift = math.Round(r.Ports.Drift/20) * 20 // as well as it can be counted
		if r.Ports.Assignment == Block {                  // likewise
			size := map[bool]uint16{true: 2048, false: 512}[r.span() > 1024]
			r.Ports.Hi = r.Ports.Lo + size - 1
		}
		fmt.Fprintf(&b, "%s\n", p.Name)
		for _, s := range r.Verdict() {
			fmt.Fprintf(&b, "\t%s\n", s)
		}
	}
	const golden = "testdata/verdicts.golden"
	if *update {
		require.NoError(t, os.WriteFile(golden, []byte(b.String()), 0o644))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	require.Equal(t, string(want), b.String(), "go test ./probe -run Profiles -update writes %s anew", golden)
}

// checkPorts holds what the profiles' reports estimate against what is so.
func checkPorts(t *testing.T, reports map[string]*Report) {
	for name, size := range map[string]int{"apdm-block512": 512, "apdm-block2048": 2048} {
		p := reports[name].Ports
		require.InDelta(t, 33792, p.Lo, float64(size)/4, "%s: %+v", name, p)
		require.InDelta(t, 33792+size-1, p.Hi, float64(size)/4, "%s: %+v", name, p)
	}
	full := reports["apdm-random"].Ports
	require.Equal(t, []uint16{1024, 65535}, []uint16{full.Lo, full.Hi})
	for _, name := range []string{"apdm-delta1", "apdm-delta2", "adm-delta1", "session-delta1"} {
		require.Zero(t, reports[name].Ports.Drift, "%s: nobody else is there", name)
	}
	// Three standard deviations of what can be counted in 1.2 s.
	require.InDelta(t, 5, reports["apdm-delta1-busy5"].Ports.Drift, 6.5)
	require.InDelta(t, 20, reports["apdm-delta1-busy20"].Ports.Drift, 13)

	pool := reports["pool-arbitrary"]
	require.Len(t, pool.Public, 4)
	require.Equal(t, []any{Arbitrary, 4}, []any{pool.Ports.Pooling, pool.Ports.Pool})
	require.Equal(t, Single, reports["eim-apdf"].Ports.Pooling)
}

// The kernel's own NAT, and hosts that have none.
func TestRealRouters(t *testing.T) {
	t.Parallel()
	lab := natlab.Start(t, natlab.Config{Seed: 2})
	server, server6 := startIn(t, lab)
	reports := probeAll(t, map[string]*natlab.Host{
		"plain":        lab.Host("a", lab.KernelNAT("plain", nil, natlab.Plain, home), natlab.Link{}),
		"fully random": lab.Host("b", lab.KernelNAT("fully-random", nil, natlab.FullyRandom, home), natlab.Link{}),
		"none":         lab.Host("c", nil, home),
		"parity":       lab.Host("d", lab.NAT("parity", nil, nat.Config{Assignment: nat.Random, Parity: true}, home), natlab.Link{}),
	}, Config{Server: server, Server6: server6})
	require.Equal(t, []Tri{Yes, No}, []Tri{reports["parity"].Ports.Parity, reports["parity"].PortPreserving})
	require.Contains(t, []Tri{No, Unknown}, reports["parity"].Ports.Contiguity)
	require.Equal(t, profiles["linux"], found(reports["plain"]))
	require.Equal(t, "random, session-dependent, address-and-port-dependent, silence, rst unknown, icmp unknown, hairpin unknown, ttl 0, seq yes",
		found(reports["fully random"]),
		"connection tracking makes a new entry, and with it a new port, for a new SYN between the same two")
	require.Contains(t, reports["fully random"].Ambiguous, "filtering APDF or no-syn-in: a SYN against a SYN was not tried")
	require.Equal(t, "unknown, none, open, unknown, rst unknown, icmp unknown, hairpin unknown, ttl 0, seq yes", found(reports["none"]))
	for _, r := range reports {
		require.NotEqual(t, FilteringUnknown, r.IPv6.Filtering)
	}
}

// Routers before the last NAT are counted, and may be NATs.
func TestNestedNATs(t *testing.T) {
	t.Parallel()
	lab := natlab.Start(t, natlab.Config{Seed: 5})
	server, _ := startIn(t, lab)
	carrier := lab.NAT("carrier", nil, nat.Config{Assignment: nat.Random}, home)
	near := lab.NAT("near", carrier, nat.Config{}, natlab.Link{})
	far := lab.NAT("far", carrier, nat.Config{Filtering: nat.EIF}, natlab.Link{Delay: time.Millisecond, Hops: 3})
	reports := probeAll(t, map[string]*natlab.Host{
		"near": lab.Host("a", near, natlab.Link{}),
		"far":  lab.Host("b", far, natlab.Link{}),
	}, Config{Server: server})
	require.Equal(t, Path{Hops: 7, NATs: 2, LastNAT: 2, TTL: 3, SeqPreserved: Yes}, reports["near"].Path)
	require.Equal(t, Path{Hops: 10, NATs: 2, LastNAT: 5, TTL: 6, SeqPreserved: Yes}, reports["far"].Path)
	require.Contains(t, reports["far"].Ambiguous, "NATs: up to 5, the routers on the way to the last may be some")
	require.Equal(t, []any{EIM, APDF, Random}, []any{reports["far"].Mapping, reports["far"].Filtering, reports["far"].Ports.Assignment},
		"the strictest of both")
}

// A server that is far away makes nothing look otherwise.
func TestFarServer(t *testing.T) {
	t.Parallel()
	lab := natlab.Start(t, natlab.Config{Seed: 7})
	server, _ := startIn(t, lab)
	hosts := map[string]*natlab.Host{}
	for _, name := range []string{"session-delta1", "apdm-rst", "eim-icmp", "no-syn-in", "linux"} {
		c, _ := nat.Profile(name)
		far := natlab.Link{Delay: 145 * time.Millisecond, Jitter: 5 * time.Millisecond, Hops: 9}
		hosts[name] = lab.Host(name+"-host", lab.NAT(name, nil, c, far), natlab.Link{})
	}
	for name, r := range probeAll(t, hosts, Config{Server: server, Other: otherOf(server)}) {
		require.Equal(t, profiles[name], found(r), "%s: %s", name, r.Encode())
		require.Equal(t, 11, r.Path.Hops)
	}
}

// Over IPv6 a SYN comes in before the error for ours, if the server is not next
// door; where it is, a busy machine may be too late for that.
func TestFarServer6(t *testing.T) {
	t.Parallel()
	lab := natlab.Start(t, natlab.Config{Seed: 15})
	_, server6 := startIn(t, lab)
	c, _ := nat.Profile("linux")
	h := lab.Host("home", lab.NAT("nat", nil, c, natlab.Link{Delay: 145 * time.Millisecond, Hops: 9}), natlab.Link{})
	r, err := Run(t.Context(), Config{Net: &sock.Net{Open: h.Do}, Server6: server6})
	require.NoError(t, err)
	require.Equal(t, APDF, r.IPv6.Filtering)
	require.Empty(t, r.Ambiguous)
}

// How long an idle connection lives is found if it is asked for.
func TestLifetime(t *testing.T) {
	t.Parallel()
	lab := natlab.Start(t, natlab.Config{Seed: 6})
	server, _ := startIn(t, lab)
	short := lab.NAT("short", nil, nat.Config{Timeouts: nat.Timeouts{Established: 3600 * time.Millisecond}}, natlab.Link{})
	long := lab.NAT("long", nil, nat.Config{}, natlab.Link{})
	reports := probeAll(t, map[string]*natlab.Host{
		"short": lab.Host("a", short, natlab.Link{}),
		"long":  lab.Host("b", long, natlab.Link{}),
	}, Config{Server: server, Lifetime: 5 * time.Second})
	// 3.2 s were tried; a machine that stood still when these were over says less.
	require.Contains(t, []int{1, 2, 3}, reports["short"].LifetimeS, "never more than there is")
	require.Equal(t, 5, reports["long"].LifetimeS)
}

// A server whose other address is behind a firewall, by mistake, does not keep back for
// long what is known without: the mapping is told while the server still waits for
// an answer to its SYNs.
func TestOtherAddressIsSilent(t *testing.T) {
	t.Parallel()
	lab := natlab.Start(t, natlab.Config{Seed: 17})
	h, dark := lab.Host("stun", nil, natlab.Link{}), lab.Host("dark", nil, natlab.Link{Down: true})
	s := &Server{Net: &sock.Net{Open: h.Do}, Alternates: []netip.AddrPort{h.AddrPort(3478), dark.AddrPort(3478)}}
	ctx, cancel := context.WithCancel(t.Context())
	ln, err := s.Net.Listen(ctx, h.AddrPort(3478))
	require.NoError(t, err)
	run(t, ctx, cancel, s.ServeConn, []*net.TCPListener{ln})
	inside := lab.Host("home", lab.NAT("nat", nil, nat.Config{}, home), natlab.Link{})
	var told *Report
	r, err := Run(t.Context(), Config{Net: &sock.Net{Open: inside.Do}, Server: h.AddrPort(3478), OnMapping: func(r *Report) {
		if told == nil && r.Mapping != MappingUnknown {
			told = r
		}
	}})
	require.NoError(t, err)
	require.Equal(t, []Mapping{EIM, EIM}, []Mapping{told.Mapping, r.Mapping})
	require.Equal(t, Silence, told.Unsolicited)
	require.Less(t, told.UnsolicitedMS, 3000, "so long does the server wait")
}

// What is taken for silence, because a dial would not wait for more, is told again
// if it was none.
func TestLateAnswer(t *testing.T) {
	t.Parallel()
	lab := natlab.Start(t, natlab.Config{Seed: 16})
	server, _ := startIn(t, lab)
	h := lab.Host("home", lab.NAT("nat", nil, nat.Config{Unsolicited: nat.RST, AnswerAfter: 1500 * time.Millisecond}, home), natlab.Link{})
	var told []Reply
	r, err := Run(t.Context(), Config{Net: &sock.Net{Open: h.Do}, Server: server, Other: otherOf(server), OnMapping: func(r *Report) {
		if r.Unsolicited != ReplyUnknown {
			told = append(told, r.Unsolicited)
		}
	}})
	require.NoError(t, err)
	require.Equal(t, RST, r.Unsolicited)
	require.Equal(t, []Reply{Silence, RST}, told)
}

// With a server of one address the report says what it cannot know.
func TestOneAddress(t *testing.T) {
	t.Parallel()
	lab := natlab.Start(t, natlab.Config{Seed: 14})
	h := lab.Host("stun", nil, natlab.Link{Delay: 50 * time.Millisecond, Hops: 2})
	s := &Server{Net: &sock.Net{Open: h.Do}}
	ctx, cancel := context.WithCancel(t.Context())
	var lns []*net.TCPListener
	for _, port := range []uint16{3478, 3479} {
		ln, err := s.Net.Listen(ctx, h.AddrPort(port))
		require.NoError(t, err)
		lns = append(lns, ln)
		s.Alternates = append(s.Alternates, sock.AddrPort(ln.Addr()))
	}
	run(t, ctx, cancel, s.ServeConn, lns)
	hosts := map[string]*natlab.Host{}
	for _, name := range []string{"eim-eif", "adm-delta1", "apdm-random", "no-syn-in"} {
		c, _ := nat.Profile(name)
		hosts[name] = lab.Host(name+"-host", lab.NAT(name, nil, c, natlab.Link{}), natlab.Link{})
	}
	reports := probeAll(t, hosts, Config{Server: s.Alternates[0]})
	const (
		byPort = "mapping EIM or ADM: the server has one address"
		nobody = "filtering EIF or ADF: nothing came from another address"
	)
	for name, want := range map[string]struct {
		mapping   Mapping
		filtering Filtering
		notes     []string
	}{
		"eim-eif":     {EIM, ADF, []string{byPort, nobody}},
		"adm-delta1":  {EIM, APDF, []string{byPort}},
		"apdm-random": {APDM, APDF, nil},
		"no-syn-in":   {EIM, NoSYNIn, []string{byPort}},
	} {
		r := reports[name]
		require.Equal(t, []any{want.mapping, want.filtering}, []any{r.Mapping, r.Filtering}, name)
		require.Equal(t, want.notes, r.Ambiguous, name)
	}
}

// With a server of one endpoint it says more of that.
func TestOneEndpoint(t *testing.T) {
	t.Parallel()
	lab := natlab.Start(t, natlab.Config{Seed: 1})
	h := lab.Host("stun", nil, natlab.Link{})
	s := &Server{Net: &sock.Net{Open: h.Do}}
	ctx, cancel := context.WithCancel(t.Context())
	ln, err := s.Net.Listen(ctx, h.AddrPort(3478))
	require.NoError(t, err)
	run(t, ctx, cancel, s.ServeConn, []*net.TCPListener{ln})
	hosts := map[string]*natlab.Host{}
	for _, name := range []string{"eim-apdf", "eim-adf", "apdm-random"} {
		c, _ := nat.Profile(name)
		hosts[name] = lab.Host(name+"-host", lab.NAT(name, nil, c, natlab.Link{}), natlab.Link{})
	}
	// It is said to have another, where nobody is, and says itself that it has not.
	nobody := netip.AddrPortFrom(lab.Host("nobody", nil, natlab.Link{}).Addr(), 3479)
	reports := probeAll(t, hosts, Config{Server: sock.AddrPort(ln.Addr()), Other: nobody})
	const synIn = "filtering APDF or no-syn-in: a SYN against a SYN was not tried" // the port is unknown, or every SYN arrives

	r := reports["eim-apdf"]
	require.Equal(t, []any{EIM, APDF}, []any{r.Mapping, r.Filtering})
	require.Equal(t, []string{"mapping EIM assumed, because ports are preserved: the server has one endpoint"}, r.Ambiguous)
	require.Equal(t, Keeps, r.OnRST)
	r = reports["eim-adf"]
	require.Equal(t, []any{EIM, ADF}, []any{r.Mapping, r.Filtering})
	require.Contains(t, r.Ambiguous, "filtering EIF or ADF: nothing came from another address")
	r = reports["apdm-random"]
	require.Equal(t, []any{MappingUnknown, APDF}, []any{r.Mapping, r.Filtering})
	require.Equal(t, []string{"mapping EIM, ADM or APDM: the server has one endpoint", synIn}, r.Ambiguous)
}

// Whatever the server is asked for, and whomever a request names, all that it
// sends goes to the address that the request came from.
func TestServerSpeaksToAskersOnly(t *testing.T) {
	t.Parallel()
	natlab.Need(t)
	var sent strings.Builder // the lab serialises writes; read when it is closed
	lab, err := natlab.New(natlab.Config{Seed: 13, Trace: &sent})
	require.NoError(t, err)
	server, _ := startIn(t, lab)
	router := lab.NAT("router", nil, nat.Config{}, natlab.Link{})
	home, third := lab.Host("home", router, natlab.Link{}), lab.Host("third", nil, natlab.Link{})
	victim := &stun.MappedAddress{IP: third.Addr().AsSlice(), Port: 40000}
	for _, t0 := range []stun.AttrType{0x0002, stun.AttrMappedAddress, stun.AttrXORPeerAddress, stun.AttrAlternateServer, attrDialFrom} { // 2: RESPONSE-ADDRESS of RFC 3489
		conn, err := (&sock.Net{Open: home.Do}).Dial(t.Context(), netip.AddrPort{}, server, 0)
		require.NoError(t, err)
		for _, q := range []ask{
			{change: changeIP}, {change: changePort}, {change: changeIP | changePort, port: 40000}, {from: 40000}, {port: 40000},
		} {
			q.patience = 20 * time.Millisecond
			m := stun.MustBuild(stun.TransactionID, stun.BindingRequest, q)
			require.NoError(t, victim.AddToAs(m, t0))
			if _, err := conn.Write(m.Raw); err != nil {
				break // a malformed one ended the connection
			}
			if _, err := (request{conn, m.TransactionID}).receive(t.Context()); err != nil {
				break
			}
		}
		sock.Abort(conn)
	}
	require.NoError(t, lab.Close())
	dials := 0
	for line := range strings.Lines(sent.String()) {
		f := strings.Fields(line) // time, place, what, source, >, destination, flags
		if f[1] != "stun" || f[2] != "send" {
			continue
		}
		require.Equal(t, router.Public()[0], netip.MustParseAddrPort(f[5]).Addr(), line)
		if f[6] == "S" {
			dials++
		}
	}
	require.NotZero(t, dials, "it did dial back")
}

// A binding behind a NAT knows its public endpoint.
func TestBindingInLab(t *testing.T) {
	t.Parallel()
	lab := natlab.Start(t, natlab.Config{Seed: 4})
	server, _ := startIn(t, lab)
	c, _ := nat.Profile("apdm-delta1")
	router := lab.NAT("router", nil, c, natlab.Link{})
	h := lab.Host("alice", router, natlab.Link{})
	for range 3 {
		b, err := Bind(t.Context(), BindConfig{Net: &sock.Net{Open: h.Do}, Server: server})
		require.NoError(t, err)
		require.Equal(t, router.Public()[0], b.Public().Addr())
		require.Equal(t, h.Addr(), b.Local().Addr())
		require.NotEqual(t, b.Local().Port(), b.Public().Port())
		b.Close()
	}
}

// otherOf is the OTHER-ADDRESS of startIn's server.
func otherOf(server netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(server.Addr().Next(), server.Port()+1)
}

// probeAll runs a probe on each host, as many at once as two busy processors
// carry.
func probeAll(t *testing.T, hosts map[string]*natlab.Host, cfg Config) map[string]*Report {
	t.Helper()
	var mu sync.Mutex // guards following
	reports, errs := map[string]*Report{}, map[string]error{}
	early := map[string][]*Report{}

	var g errgroup.Group
	g.SetLimit(9)
	for name, h := range hosts {
		g.Go(func() error {
			cfg := cfg
			cfg.Net = &sock.Net{Open: h.Do}
			var told []*Report
			cfg.OnMapping = func(r *Report) { told = append(told, r) }
			r, err := Run(t.Context(), cfg)
			mu.Lock()
			defer mu.Unlock()
			reports[name], early[name], errs[name] = r, told, err
			return nil
		})
	}
	g.Wait()
	for name := range hosts {
		require.NoError(t, errs[name], name)
		require.NotEmpty(t, early[name], name)
		last := early[name][len(early[name])-1]
		if want := reports[name].Mapping; want != SessionDependent { // which takes a second connection
			require.Equal(t, want, last.Mapping, name)
		}
		// Silence is what nothing is taken for at first, even if something comes late.
		require.Contains(t, []Reply{reports[name].Unsolicited, Silence}, last.Unsolicited, name)
	}
	return reports
}
