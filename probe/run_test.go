package probe

import (
	"bytes"
	"context"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt/internal/sock"
)

func TestRunWithoutNAT(t *testing.T) {
	at := start(t, new(Server), "127.0.0.1:0", "127.0.0.1:1", "127.0.0.2:0", "127.0.0.2:1")
	var early *Report
	r, err := Run(t.Context(), Config{Server: at[0], OnMapping: func(r *Report) {
		if early == nil && r.Mapping != MappingUnknown { // what a SYN gets may be known before
			early = r
		}
	}})
	require.NoError(t, err)

	require.Equal(t, NoNAT, r.Mapping)
	require.Equal(t, []netip.Addr{netip.MustParseAddr("127.0.0.1")}, r.Public)
	require.Equal(t, Yes, r.PortPreserving)
	require.Equal(t, Open, r.Filtering, "the dial back to a fresh port arrives")
	require.Equal(t, ReplyUnknown, r.Unsolicited, "nothing was refused")
	require.Empty(t, r.Ambiguous)

	require.NotNil(t, early)
	require.Equal(t, NoNAT, early.Mapping)
	require.Equal(t, r.Samples, early.Samples)
}

func TestRunWithOneEndpoint(t *testing.T) {
	at := start(t, new(Server), "127.0.0.1:0")
	r, err := Run(t.Context(), Config{Server: at[0]})
	require.NoError(t, err)
	require.Equal(t, NoNAT, r.Mapping)
	require.Equal(t, Open, r.Filtering, "any server has another port to dial from")
}

func TestRunIPv6(t *testing.T) {
	if ln, err := new(sock.Net).Listen(t.Context(), netip.MustParseAddrPort("[::1]:0")); err != nil {
		t.Skip("no IPv6 loopback:", err)
	} else {
		ln.Close()
	}
	s := new(Server)
	at := start(t, s, "127.0.0.1:0", "[::1]:1", "[::1]:2")
	r, err := Run(t.Context(), Config{Server: at[0], Server6: at[1]})
	require.NoError(t, err)
	require.Equal(t, NoNAT, r.Mapping)
	require.Equal(t, NoNAT, r.IPv6.Mapping)
	require.Equal(t, netip.IPv6Loopback(), r.IPv6.Public)
	require.Equal(t, Open, r.IPv6.Filtering)
}

func TestRunFails(t *testing.T) {
	_, err := Run(t.Context(), Config{})
	require.ErrorContains(t, err, "Config.Server is not set")

	ln, err := new(sock.Net).Listen(t.Context(), sock.Loopback(0))
	require.NoError(t, err)
	ln.Close()
	_, err = Run(t.Context(), Config{Server: sock.AddrPort(ln.Addr())})
	require.Equal(t, sock.Refused, sock.Classify(err))

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = Run(ctx, Config{Server: sock.AddrPort(ln.Addr())})
	require.ErrorIs(t, err, context.Canceled)
}

// The same two endpoints connect a second time, while the other end's TCP
// still remembers the first connection.
func TestAgain(t *testing.T) {
	at := start(t, new(Server), "127.0.0.1:0")
	p := newProber(Config{Logger: new(Server).logger()}, at[0], netip.MustParseAddr("127.0.0.1"))
	m, err := p.mappings(t.Context(), 0)
	require.NoError(t, err)
	defer m.close()
	p.note(func(f *facts) { f.local = netip.AddrPort{} }) // as if there were a NAT
	m.again(t.Context())
	require.Equal(t, m.local, p.known().repeat)
}

// What a server is said to have besides is used as far as its own word would be.
func TestExpect(t *testing.T) {
	at := netip.MustParseAddrPort
	for server, others := range map[string]map[string]bool{
		"192.0.2.1:3478":     {"192.0.2.2:3479": true, "192.168.1.1:22": false, "127.0.0.1:22": false, "224.0.0.1:1": false, "[2001:db8::2]:3479": false},
		"192.168.1.9:3478":   {"192.168.1.1:3479": true, "192.0.2.2:3479": false},
		"[2001:db8::1]:3478": {"[2001:db8::2]:3479": true, "[fd00::1]:22": false, "[ff02::1]:22": false},
	} {
		for other, fine := range others {
			p := newProber(Config{}, at(server), netip.Addr{})
			p.expect(at(other))
			require.Equal(t, fine, p.other.IsValid(), "%s of %s", other, server)
		}
	}
}

func addr(s string) netip.AddrPort {
	if s == "" {
		return netip.AddrPort{}
	}
	return netip.MustParseAddrPort("203.0.113.1:" + s)
}

func TestJudge(t *testing.T) {
	local := netip.MustParseAddrPort("192.168.1.5:40000")
	for _, tt := range []struct {
		name                      string
		first, port, addr, repeat string
		preserving                bool
		want                      Mapping
		note                      string
	}{
		{"nothing", "", "", "", "", false, MappingUnknown, ""},
		{"EIM", "5000", "5000", "5000", "", false, EIM, ""},
		{"ADM", "5000", "5000", "5001", "", false, ADM, ""},
		{"APDM", "5000", "5001", "5002", "5000", false, APDM, ""},
		{"session", "5000", "5001", "5002", "5003", false, SessionDependent, ""},
		{"APDM without a repeat", "5000", "5001", "5002", "", false, APDM, "mapping APDM or session-dependent: no second connection could be made"},
		{"port alone", "5000", "5001", "5000", "", false, APDM, "mapping depends on the port alone: neither ADM nor APDM"},
		{"one address, same", "5000", "5000", "", "", false, EIM, "mapping EIM or ADM: the server has one address"},
		{"one address, other", "5000", "5001", "", "5000", false, APDM, ""},
		{"one address, session", "5000", "5001", "", "5002", false, SessionDependent, ""},
		{"one port, same", "5000", "", "5000", "", false, EIM, ""},
		{"one port, other", "5000", "", "5001", "5000", false, APDM, "mapping ADM or APDM: the server has one port"},
		{"one port, session", "5000", "", "5001", "5002", false, SessionDependent, ""},
		{"one endpoint", "5000", "", "", "5000", false, MappingUnknown, "mapping EIM, ADM or APDM: the server has one endpoint"},
		{"one endpoint, session", "5000", "", "", "5001", false, SessionDependent, ""},
		{"one endpoint, preserving", "40000", "", "", "", true, EIM, "mapping EIM assumed, because ports are preserved: the server has one endpoint"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := seen{local: local, first: addr(tt.first), port: addr(tt.port), addr: addr(tt.addr), repeat: addr(tt.repeat)}
			got, note := s.judge(tt.preserving)
			require.Equal(t, tt.want, got)
			require.Equal(t, tt.note, note)
		})
	}
	s := seen{local: local, first: local}
	got, _ := s.judge(true)
	require.Equal(t, NoNAT, got)
}

func TestFiltering(t *testing.T) {
	var (
		in      = knock{outcome: connected, arrived: true, after: 20e6}
		proxied = knock{outcome: connected} // somebody accepted, but not we
		silent  = knock{outcome: timeout, after: 3e9}
		rst     = knock{outcome: refused, after: 20e6}
		icmp    = knock{outcome: unreachable, after: 30e6}
		busy    = knock{outcome: declined}
		none    knock
	)
	const oneAddr = "filtering EIF or ADF: nothing came from another address"
	for _, tt := range []struct {
		name  string
		k     knocks
		want  Filtering
		note  string
		reply Reply
		ms    int
	}{
		{"nothing", knocks{none, none, none}, FilteringUnknown, "", ReplyUnknown, 0},
		{"open", knocks{in, in, in}, Open, "", ReplyUnknown, 0},
		{"EIF", knocks{silent, in, in}, EIF, "", Silence, 3000},
		{"EIF, RST where nothing is mapped", knocks{rst, in, in}, EIF, "", RST, 20},
		{"ADF", knocks{silent, silent, in}, ADF, "", Silence, 3000},
		{"APDF", knocks{silent, silent, silent}, APDF, "", Silence, 3000},
		{"APDF, RST", knocks{silent, rst, silent}, APDF, "", RST, 20},
		{"APDF, ICMP", knocks{icmp, icmp, icmp}, APDF, "", ICMP, 30},
		{"one address, in", knocks{silent, none, in}, ADF, oneAddr, Silence, 3000},
		{"one address, out", knocks{rst, none, rst}, APDF, "", RST, 20},
		{"a middlebox accepts everything", knocks{proxied, proxied, proxied}, FilteringUnknown, "", ReplyUnknown, 0},
		{"the server is busy", knocks{busy, busy, busy}, FilteringUnknown, "", ReplyUnknown, 0},
		{"the port test failed", knocks{none, silent, busy}, APDF, "filtering ADF or APDF: the test from the other port failed", Silence, 3000},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, note := tt.k.filtering()
			require.Equal(t, tt.want, got)
			require.Equal(t, tt.note, note)
			reply, ms := tt.k.unsolicited()
			require.Equal(t, tt.reply, reply)
			require.Equal(t, tt.ms, ms)
		})
	}
}

func TestWriteText(t *testing.T) {
	var b bytes.Buffer
	require.NoError(t, full().WriteText(&b))
	require.Equal(t, `time: 2026-03-01T12:00:00Z
local: 192.168.1.5
public: 203.0.113.7 203.0.113.8
mapping: address-and-port-dependent
port-preserving: no
assignment: sequential
delta: +2
drift: 4.5/s
range: unknown
confidence: 0.90
parity: no
contiguity: no
pooling: arbitrary of 2
samples: 7
filtering: address-and-port-dependent
unsolicited: rst after 21 ms
on-rst: closes
on-icmp: keeps
hairpin: no
port-mapping: unknown
nats: 2
last-nat: hop 3
ttl: 4
hops: 12
seq-preserved: yes
lifetime: at least 300 s
ipv6-global: yes
ipv6-public: 2001:db8::5
ipv6-mapping: none
ipv6-filtering: address-and-port-dependent
ipv6-unsolicited: silence after 3000 ms
ipv6-port-mapping: unknown
ambiguous: mapping ADM or APDM: the server has one port
verdict: 2 NATs in a row, together one that takes another public port for each remote endpoint, +2 from the last
verdict: direct to public peers and to peers whose NAT lets in anybody; by predicting this NAT's next port to peers whose NAT keeps one port, or counts as well
verdict: not directly to peers whose NAT draws ports at random
verdict: an error answers uninvited connections, so this side has to fire first, which it does; a firewall that drops instead of rejecting would help
verdict: the public address changes from connection to connection: peers have to guess it as well, one of 2 at least
verdict: not directly to peers in other networks behind the same outer NAT: it does not loop packets back
verdict: IPv6: no NAT, but a firewall keeps uninvited connections out
verdict: IPv6: direct to every peer that has IPv6: the SYNs of both ends cross, and open both firewalls
`, b.String())

	b.Reset()
	require.NoError(t, new(Report).WriteText(&b))
	require.NotRegexp(t, `(?m): ?$`, b.String(), "no property looks empty")
}

// TestPortMapping: what the router does is said, and is nothing to peers, who
// get the address.
func TestPortMapping(t *testing.T) {
	for _, tt := range []struct {
		pm   PortMapping
		line string
	}{
		{PortMapping{}, "port-mapping: unknown"},
		{PortMapping{Protocol: NoPortMapping}, "port-mapping: none"},
		{PortMapping{"upnp", netip.MustParseAddrPort("203.0.113.7:40000")}, "port-mapping: upnp at 203.0.113.7:40000"},
		{PortMapping{Protocol: "pcp"}, "port-mapping: pcp, but nobody gets in"},
	} {
		r := full()
		r.PortMapping, r.IPv6.PortMapping = tt.pm, tt.pm
		var b bytes.Buffer
		require.NoError(t, r.WriteText(&b))
		require.Contains(t, b.String(), "\n"+tt.line+"\n")
		require.Contains(t, b.String(), "\nipv6-"+tt.line+"\n")
		again, err := DecodeReport(r.Encode())
		require.NoError(t, err)
		require.Zero(t, again.PortMapping)
		require.Zero(t, again.IPv6.PortMapping)
	}
}

func TestSummary(t *testing.T) {
	require.Equal(t, "mapping address-and-port-dependent, ports delta +2, filtering address-and-port-dependent, unsolicited rst", full().Summary())
	require.Equal(t, "no NAT, filtering open, unsolicited unknown", (&Report{Mapping: NoNAT, Filtering: Open}).Summary())
}
