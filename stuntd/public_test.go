package stuntd

import (
	"crypto/tls"
	"crypto/x509"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPublicAddress(t *testing.T) {
	cert, err := selfSigned(t.TempDir())
	require.NoError(t, err)
	nats := []netip.Prefix{netip.MustParsePrefix("10.0.0.2/24"), netip.MustParsePrefix("10.0.0.3/24"), netip.MustParsePrefix("2001:db8::2/64")}
	bare := append([]netip.Prefix{netip.MustParsePrefix("203.0.113.2/24")}, nats...)
	for _, tt := range []struct {
		name    string
		entries []string
		own     []netip.Prefix
		listen  string
		want    string
		outside int
	}{
		{"nothing said, public IPv4", nil, bare, "[::]:3478", "203.0.113.2:3478", 0},
		{"nothing said, public IPv6 only", nil, nats, "[::]:3478", "[2001:db8::2]:3478", 0},
		{"nothing said, private only", nil, nats[:1], "[::]:99", "10.0.0.2:99", 0},
		{"nothing said, alone", nil, nil, "[::]:3478", "127.0.0.1:3478", 0},
		{"nothing said, one address", nil, bare, "10.0.0.3:3478", "10.0.0.3:3478", 0},
		{"name", []string{"stunt.example.com"}, bare, "[::]:3478", "stunt.example.com:3478", 0},
		{"name and port", []string{"stunt.example.com:443"}, bare, "[::]:3478", "stunt.example.com:443", 0},
		{"own address", []string{"203.0.113.2"}, bare, "[::]:3478", "203.0.113.2:3478", 0},
		{"NAT", []string{"198.51.100.9"}, nats[:1], "[::]:3478", "198.51.100.9:3478", 1},
		{"NAT, IPv6 as it is", []string{"198.51.100.9"}, nats, "[::]:3478", "198.51.100.9:3478", 2},
		{"NAT, two addresses", []string{"10.0.0.2=198.51.100.2", "10.0.0.3=198.51.100.3"}, nats, "10.0.0.2:3478", "198.51.100.2:3478", 2},
		{"NAT, two addresses and a name", []string{"a.example", "10.0.0.2=198.51.100.2"}, nats, "10.0.0.2:3478", "a.example:3478", 1},
		{"IPv6", []string{"2001:db8::2"}, nats, "[::]:3478", "[2001:db8::2]:3478", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := parsePublic(tt.entries, tt.own)
			require.NoError(t, err)
			got, err := p.address([]netip.AddrPort{netip.MustParseAddrPort(tt.listen)}, cert, tt.own)
			require.NoError(t, err)
			got, pin, _ := strings.Cut(got, "#")
			require.Equal(t, tt.want, got)
			require.NotEmpty(t, pin)
			require.Len(t, p.outside, tt.outside)
		})
	}
}

// The address says where the server listens besides, as clients see it.
func TestPublicOthers(t *testing.T) {
	cert, err := selfSigned(t.TempDir())
	require.NoError(t, err)
	const (
		two  = "203.0.113.10:3478 203.0.113.10:3479 203.0.113.11:3478 203.0.113.11:3479 [2001:db8::2]:3478 [2001:db8::2]:3479"
		nats = "10.0.0.2:3478 10.0.0.2:3479 10.0.0.3:3478 10.0.0.3:3479"
	)
	for _, tt := range []struct {
		name    string
		entries []string
		listen  string
		want    string // empty: none
	}{
		{"one endpoint", []string{"a.example"}, "[::]:3478", ""},
		{"one endpoint of each family", []string{"a.example"}, "203.0.113.10:3478 [2001:db8::2]:3478", ""},
		{"all addresses", []string{"a.example"}, "[::]:3478 [::]:3479", ":3479"},
		{"all addresses, IPv4 only", []string{"a.example"}, "0.0.0.0:3478 0.0.0.0:3479", "0.0.0.0:3479"},
		{"all addresses, one named", []string{"203.0.113.10"}, "[::]:3478 [::]:3479", "0.0.0.0:3479"},
		{"two addresses", []string{"a.example"}, two, "203.0.113.11:3479+[::]:3479"},
		{"two addresses, the first named", []string{"203.0.113.10"}, two, "203.0.113.11:3479"},
		{"two addresses, nothing said", nil, two, "203.0.113.11:3479"},
		{"two addresses, the second named", []string{"203.0.113.11"}, two, "203.0.113.10:3479"},
		{"two addresses, IPv6 named", []string{"2001:db8::2"}, two, "[::]:3479"},
		{"two addresses, one port", []string{"a.example"}, "203.0.113.10:3478 203.0.113.11:3478", "203.0.113.11:3478"},
		{"NAT", []string{"198.51.100.9"}, "[::]:3478 [::]:3479", "0.0.0.0:3479"},
		{"NAT, an address of ours", []string{"198.51.100.9"}, "10.0.0.2:3478 10.0.0.2:3479", "0.0.0.0:3479"},
		{"NAT, two addresses", []string{"a.example", "10.0.0.2=198.51.100.2", "10.0.0.3=198.51.100.3"}, nats, "198.51.100.3:3479"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := parsePublic(tt.entries, []netip.Prefix{netip.MustParsePrefix("10.0.0.2/24")})
			require.NoError(t, err)
			var listen []netip.AddrPort
			for _, l := range strings.Fields(tt.listen) {
				listen = append(listen, netip.MustParseAddrPort(l))
			}
			got, err := p.address(listen, cert, nil)
			require.NoError(t, err)
			_, others, _ := strings.Cut(got, "+")
			require.Equal(t, tt.want, others)
		})
	}
}

func TestPublicAddressFromCertificate(t *testing.T) {
	c := &tls.Certificate{Certificate: [][]byte{nil}, Leaf: &x509.Certificate{DNSNames: []string{"*.example.com", "stunt.example.com"}}}
	p, err := parsePublic(nil, nil)
	require.NoError(t, err)
	require.Equal(t, "stunt.example.com", p.ownHost(netip.IPv4Unspecified(), c, nil), "the name that clients can verify")
}
