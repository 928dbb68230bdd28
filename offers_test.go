package stunt

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOffersOfOneSource(t *testing.T) {
	var o offers
	taken := func(ip string) (n int) {
		for o.enter(netip.MustParseAddr(ip)) {
			n++
		}
		return n
	}
	require.Equal(t, maxOffers/2, taken("203.0.113.1"))
	require.Equal(t, offersShare, taken("2001:db8::1"))
	require.Zero(t, taken("2001:db8::2"), "a /64 is one subscriber")
	require.Equal(t, offersShare, taken("203.0.113.2"))
	hidden := 0
	for o.enter(netip.Addr{}) {
		hidden++
	}
	require.Equal(t, offersShare, hidden, "whom the server does not show, together")
	require.Equal(t, offersShare, taken("203.0.113.3"))
	require.Zero(t, taken("203.0.113.4"), "that is all")
	o.leave(netip.MustParseAddr("203.0.113.1"))
	require.Zero(t, taken("203.0.113.1"))
	require.Equal(t, 1, taken("203.0.113.4"))
	for range maxOffers/2 - 1 {
		o.leave(netip.MustParseAddr("203.0.113.1"))
	}
	require.NotContains(t, o.of, netip.MustParsePrefix("203.0.113.1/32"), "who has gone is forgotten")
}
