package stuntd

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt/probe"
)

// twoAddresses returns some ports at two addresses of the loopback.
func twoAddresses(t *testing.T, ports int) (first, second []string) {
	for len(first) < ports {
		there, err := net.Listen("tcp", "127.0.0.2:0")
		if err != nil {
			t.Skip("this system has no second loopback address:", err)
		}
		defer there.Close()
		_, port, err := net.SplitHostPort(there.Addr().String())
		require.NoError(t, err)
		if here, err := net.Listen("tcp", "127.0.0.1:"+port); err == nil {
			defer here.Close()
			first, second = append(first, here.Addr().String()), append(second, there.Addr().String())
		}
	}
	return first, second
}

// Servers of one cluster are to each other the second address that nodes need,
// for as long as they are there.
func TestServersLend(t *testing.T) {
	t.Parallel()
	first, second := twoAddresses(t, 2)
	all := togetherAs(t, Config{Listen: first}, Config{Listen: second})
	for i, s := range all {
		mine, theirs := s.Addrs(), all[1-i].Addrs()
		require.Equal(t, theirs[1], s.stun.Other(mine[0]))
		require.Equal(t, theirs[0], s.stun.Other(mine[1]))
		require.Equal(t, theirs, s.Cluster().Members[0].Lends)
	}
	r, err := probe.Run(t.Context(), probe.Config{Server: all[0].Addrs()[0]})
	require.NoError(t, err)
	require.Equal(t, probe.Open, r.Filtering)
	stats := all[0].stun.Stats()
	require.NotZero(t, stats.Borrowed["connected"], "it has asked the other")
	require.Equal(t, stats.Borrowed["connected"], all[1].stun.Stats().DialBacks["connected"], "who has done it")

	code, says := checked(t, all[0].Address())
	require.Zero(t, code, "%s", says)
	require.Contains(t, says, "two addresses and two ports, and all four answer")
	require.NotContains(t, says, "answers STUN as well", "its other port does, though it says another endpoint")

	all[1].bus.Close() // as if it were killed, or could not be reached
	require.Eventually(t, func() bool { return all[0].stun.Other(all[0].Addrs()[0]) == all[0].Addrs()[1] }, patience, time.Millisecond)
	stats = all[0].stun.Stats()
	r, err = probe.Run(t.Context(), probe.Config{Server: all[0].Addrs()[0]})
	require.NoError(t, err)
	require.Equal(t, probe.Open, r.Filtering)
	require.Equal(t, stats.Borrowed, all[0].stun.Stats().Borrowed)
}

// What a server is lent shows on the page of who borrows it, and in its metrics.
func TestLentAddressesAreSeen(t *testing.T) {
	t.Parallel()
	first, second := twoAddresses(t, 1)
	all := togetherAs(t, Config{Listen: first, Admin: Admin{Listen: "127.0.0.1:0"}}, Config{Listen: second})
	_, err := probe.Run(t.Context(), probe.Config{Server: all[0].Addrs()[0]})
	require.NoError(t, err)
	admin := "http://" + all[0].AdminAddr().String()
	require.NotZero(t, scrape(t, admin)[`stuntd_stun_borrowed_dial_backs_total{result="connected"}`])
	_, page := fetch(t, admin+"/")
	require.Contains(t, page, "<td>"+second[0]+"</td>")
}

func prefixes(s string) (ps []netip.Prefix) {
	for _, p := range strings.Fields(s) {
		ps = append(ps, netip.MustParsePrefix(p))
	}
	return ps
}

// What is lent is where nodes come to.
func TestLends(t *testing.T) {
	own := prefixes("10.0.0.2/24 172.17.0.1/16 203.0.113.10/24 fd00::2/64 2001:db8::2/64")
	private := prefixes("10.0.0.2/24 172.17.0.1/16")
	for _, tt := range []struct {
		name   string
		public []string
		own    []netip.Prefix
		listen string
		want   string
	}{
		{"one address", nil, own, "203.0.113.10:1", "203.0.113.10:1"},
		{"everywhere", nil, own, "[::]:1 [::]:2", "203.0.113.10:1 [2001:db8::2]:1 203.0.113.10:2 [2001:db8::2]:2"},
		{"everywhere in IPv4", nil, own, "0.0.0.0:1", "203.0.113.10:1"},
		{"everywhere of a private network", nil, private, "[::]:1", "10.0.0.2:1"},
		{"said", []string{"10.0.0.2"}, own, "0.0.0.0:1", "10.0.0.2:1"},
		{"a 1:1 NAT", []string{"198.51.100.7"}, private, "[::]:1", "198.51.100.7:1"},
		{"a 1:1 NAT with a name", []string{"example.com", "10.0.0.2=198.51.100.7"}, private, "10.0.0.2:1", "198.51.100.7:1"},
		{"another port outside", []string{"example.com:443"}, own, "203.0.113.10:1", ""},
		{"the same port outside", []string{"example.com:1"}, own, "203.0.113.10:1", "203.0.113.10:1"},
		{"nothing but loopback", nil, nil, "[::]:1", ""},
		{"more than can be lent", nil, own, "[::]:1 [::]:2 [::]:3 [::]:4 [::]:5", "203.0.113.10:1 [2001:db8::2]:1 203.0.113.10:2 [2001:db8::2]:2 203.0.113.10:3 [2001:db8::2]:3 203.0.113.10:4 [2001:db8::2]:4"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := parsePublic(tt.public, tt.own)
			require.NoError(t, err)
			var listen []netip.AddrPort
			for _, l := range strings.Fields(tt.listen) {
				listen = append(listen, netip.MustParseAddrPort(l))
			}
			var got []string
			for _, a := range p.lends(listen, tt.own) {
				got = append(got, a.String())
			}
			require.Equal(t, tt.want, strings.Join(got, " "))
		})
	}
}

// Who looks before the start hears what the cluster is worth for the tests of NATs.
func TestCheckOfLenders(t *testing.T) {
	t.Parallel()
	secret := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(secret, []byte("0123456789abcdef0123456789abcdef"), 0o600))
	ports, _ := twoAddresses(t, 2)
	args := []string{"-state", t.TempDir(), "-cluster", "test", "-cluster-secret", secret, "-listen", ports[0]}
	_, says := checked(t, args...)
	require.Contains(t, says, "one port: nodes don't learn whether their NAT depends on the peer's; listen on two ports, the same at all servers of the cluster")
	_, says = checked(t, append(args, "-listen", ports[1])...)
	require.Contains(t, says, "while another server of the cluster lends an address with the same two ports")
}
