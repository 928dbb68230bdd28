package probe

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/gostunt/stunt/internal/sock"
	"github.com/gostunt/stunt/natlab"
	"github.com/gostunt/stunt/natlab/nat"
)

func TestMain(m *testing.M) { natlab.Main(m) }

// What lies between a home of the lab and the Internet.
var home = natlab.Link{Delay: 10 * time.Millisecond, Hops: 4}

// startIn runs a server on a host of the lab: two ports of each of two IPv4
// addresses and of one IPv6 address. It returns one endpoint of each family.
func startIn(t *testing.T, lab *natlab.Lab) (v4, v6 netip.AddrPort) {
	t.Helper()
	h := lab.Host("stun", nil, natlab.Link{Delay: 5 * time.Millisecond, Hops: 1})
	s := &Server{Net: &sock.Net{Open: h.Do}}
	ctx, cancel := context.WithCancel(t.Context())
	var lns []*net.TCPListener
	for _, a := range []netip.Addr{h.Addr(), h.AddAddr(), h.Addr6()} {
		for _, port := range []uint16{3478, 3479} {
			ln, err := s.Net.Listen(ctx, netip.AddrPortFrom(a, port))
			require.NoError(t, err)
			lns = append(lns, ln)
			s.Alternates = append(s.Alternates, sock.AddrPort(ln.Addr()))
		}
	}
	run(t, ctx, cancel, s, lns)
	return s.Alternates[0], s.Alternates[4]
}

// found is what a probe says about a NAT, in a line.
func found(r *Report) string {
	ports := "no pattern"
	switch {
	case r.PortPreserving == Yes:
		ports = "preserving"
	case r.Delta != 0:
		ports = fmt.Sprintf("delta %d", r.Delta)
	}
	return fmt.Sprintf("%s, %v, %v, unsolicited %v, hairpin %v, ipv6 %v",
		ports, r.Mapping, r.Filtering, r.Unsolicited, r.Hairpin, r.IPv6.Filtering)
}

const (
	eim     = "preserving, endpoint-independent, "
	eimRand = "no pattern, endpoint-independent, "
	adm1    = "delta 1, address-dependent, "
	apdm1   = "delta 1, address-and-port-dependent, "
	apdm2   = "delta 2, address-and-port-dependent, "
	random  = "no pattern, address-and-port-dependent, "

	eif  = "endpoint-independent, "
	adf  = "address-dependent, "
	apdf = "address-and-port-dependent, "
	v6   = "ipv6 address-and-port-dependent"
)

// Every NAT of the lab is found to be what it is, as far as sockets can tell
// and a server with one IPv6 address can.
var profiles = map[string]string{
	"eim-eif":      eim + eif + "unsolicited silence, hairpin no, ipv6 address-dependent", // or EIF, says a note
	"eim-adf":      eim + adf + "unsolicited silence, hairpin no, ipv6 address-dependent",
	"eim-apdf":     eim + apdf + "unsolicited silence, hairpin no, " + v6,
	"linux":        eim + apdf + "unsolicited silence, hairpin no, " + v6, // a mapping each, but on the same port
	"linux-random": random + apdf + "unsolicited silence, hairpin unknown, " + v6,
	"eim-open":     eim + "open, unsolicited unknown, hairpin no, ipv6 open",
	"eim-rst":      eim + apdf + "unsolicited rst, hairpin no, " + v6,
	"eim-icmp":     eim + apdf + "unsolicited rst, hairpin no, " + v6,     // port unreachable is ECONNREFUSED, too
	"eim-req4":     eim + apdf + "unsolicited silence, hairpin no, " + v6, // for 6 s, which is as good

	"adm-delta1":        adm1 + apdf + "unsolicited silence, hairpin unknown, " + v6,
	"apdm-delta1":       apdm1 + apdf + "unsolicited silence, hairpin unknown, " + v6,
	"apdm-delta2":       apdm2 + apdf + "unsolicited silence, hairpin unknown, " + v6,
	"apdm-delta1-busy5": apdm1 + apdf + "unsolicited silence, hairpin unknown, " + v6,
	// Twenty others a second: the step shows through.
	"apdm-delta1-busy20": apdm1 + apdf + "unsolicited silence, hairpin unknown, " + v6,
	"session-delta1":     "delta 1, session-dependent, " + apdf + "unsolicited silence, hairpin unknown, " + v6,
	"apdm-random":        random + apdf + "unsolicited silence, hairpin unknown, " + v6,
	"apdm-block512":      random + apdf + "unsolicited silence, hairpin unknown, " + v6,
	"apdm-block2048":     random + apdf + "unsolicited silence, hairpin unknown, " + v6,
	"apdm-rst":           apdm1 + apdf + "unsolicited rst, hairpin unknown, " + v6,
	"pool-paired":        eimRand + apdf + "unsolicited silence, hairpin no, " + v6,
	"pool-arbitrary":     random + apdf + "unsolicited silence, hairpin unknown, " + v6,
	"hairpin":            eim + apdf + "unsolicited silence, hairpin yes, " + v6,
	"hairpin-internal":   eim + apdf + "unsolicited silence, hairpin no, " + v6, // not with itself
	"no-hairpin":         eim + apdf + "unsolicited silence, hairpin no, " + v6,
	"no-syn-in":          eim + apdf + "unsolicited silence, hairpin no, " + v6, // or APDF, says a note
	"no-synack-out":      eim + apdf + "unsolicited silence, hairpin no, " + v6,
	"seq-rewrite":        eim + apdf + "unsolicited silence, hairpin no, " + v6,
}

func TestProfiles(t *testing.T) {
	lab := natlab.Start(t, natlab.Config{Seed: 1})
	server, server6 := startIn(t, lab)
	hosts := map[string]*natlab.Host{}
	for _, p := range nat.Profiles() {
		hosts[p.Name] = lab.Host(p.Name+"-host", lab.NAT(p.Name, nil, p.Config, home), natlab.Link{})
	}
	reports := probeAll(t, hosts, Config{Server: server, Server6: server6})
	for _, p := range nat.Profiles() {
		t.Run(p.Name, func(t *testing.T) {
			require.Contains(t, profiles, p.Name, "a new profile needs a line in the table")
			r := reports[p.Name]
			require.Equal(t, profiles[p.Name], found(r), "%s", r.Encode())
			require.Equal(t, Yes, r.IPv6.Global)
			require.Equal(t, NoNAT, r.IPv6.Mapping)
		})
	}
	require.Len(t, reports["pool-arbitrary"].Public, 4)
	require.Contains(t, reports["eim-eif"].Ambiguous, "ipv6 filtering EIF or ADF: nothing came from another address")
	require.Contains(t, reports["no-syn-in"].Ambiguous, "filtering APDF or no-syn-in: a SYN against a SYN was not tried")
}

// The kernel's own NAT, and hosts that have none.
func TestRealRouters(t *testing.T) {
	lab := natlab.Start(t, natlab.Config{Seed: 2})
	server, server6 := startIn(t, lab)
	reports := probeAll(t, map[string]*natlab.Host{
		"plain":        lab.Host("a", lab.KernelNAT("plain", nil, natlab.Plain, home), natlab.Link{}),
		"fully random": lab.Host("b", lab.KernelNAT("fully-random", nil, natlab.FullyRandom, home), natlab.Link{}),
		"none":         lab.Host("c", nil, home),
	}, Config{Server: server, Server6: server6})
	require.Equal(t, eim+apdf+"unsolicited silence, hairpin no, "+v6, found(reports["plain"]))
	require.Equal(t, "no pattern, session-dependent, "+apdf+"unsolicited silence, hairpin unknown, "+v6, found(reports["fully random"]),
		"connection tracking makes a new entry, and with it a new port, for a new SYN between the same two")
	require.Equal(t, "preserving, none, open, unsolicited unknown, hairpin unknown, ipv6 open", found(reports["none"]))
}

// With a server of one endpoint the report says what it cannot know.
func TestOneEndpoint(t *testing.T) {
	lab := natlab.Start(t, natlab.Config{Seed: 3})
	h := lab.Host("stun", nil, natlab.Link{})
	s := &Server{Net: &sock.Net{Open: h.Do}}
	ctx, cancel := context.WithCancel(t.Context())
	ln, err := s.Net.Listen(ctx, h.AddrPort(3478))
	require.NoError(t, err)
	run(t, ctx, cancel, s, []*net.TCPListener{ln})
	hosts := map[string]*natlab.Host{}
	for _, name := range []string{"eim-apdf", "eim-adf", "apdm-random"} {
		c, _ := nat.Profile(name)
		hosts[name] = lab.Host(name+"-host", lab.NAT(name, nil, c, natlab.Link{}), natlab.Link{})
	}
	reports := probeAll(t, hosts, Config{Server: sock.AddrPort(ln.Addr())})
	const synIn = "filtering APDF or no-syn-in: a SYN against a SYN was not tried"

	r := reports["eim-apdf"]
	require.Equal(t, []any{EIM, APDF}, []any{r.Mapping, r.Filtering})
	require.Equal(t, []string{"mapping EIM assumed, because ports are preserved: the server has one endpoint", synIn}, r.Ambiguous)
	r = reports["eim-adf"]
	require.Equal(t, []any{EIM, ADF}, []any{r.Mapping, r.Filtering})
	require.Contains(t, r.Ambiguous, "filtering EIF or ADF: nothing came from another address")
	r = reports["apdm-random"]
	require.Equal(t, []any{MappingUnknown, APDF}, []any{r.Mapping, r.Filtering})
	require.Equal(t, []string{"mapping EIM, ADM or APDM: the server has one endpoint", synIn}, r.Ambiguous)
}

// A binding behind a NAT knows its public endpoint.
func TestBindingInLab(t *testing.T) {
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

// probeAll runs a probe on each host, as many at once as two busy processors
// carry.
func probeAll(t *testing.T, hosts map[string]*natlab.Host, cfg Config) map[string]*Report {
	t.Helper()
	var mu sync.Mutex // guards following
	reports, early, errs := map[string]*Report{}, map[string]*Report{}, map[string]error{}

	var g errgroup.Group
	g.SetLimit(9)
	for name, h := range hosts {
		g.Go(func() error {
			cfg := cfg
			cfg.Net = &sock.Net{Open: h.Do}
			var first *Report
			cfg.OnMapping = func(r *Report) { first = r }
			r, err := Run(t.Context(), cfg)
			mu.Lock()
			defer mu.Unlock()
			reports[name], early[name], errs[name] = r, first, err
			return nil
		})
	}
	g.Wait()
	for name := range hosts {
		require.NoError(t, errs[name], name)
		require.NotNil(t, early[name], name)
		require.Equal(t, reports[name].Mapping, early[name].Mapping, name)
		require.Equal(t, reports[name].Delta, early[name].Delta, name)
	}
	return reports
}
