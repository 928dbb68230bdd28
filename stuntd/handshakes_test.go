package stuntd

import (
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A site with any number of sources gets what four of them do.
func TestQuotaOfSite(t *testing.T) {
	q := newQuota(Limits{HandshakeRate: 2})
	now := time.Unix(1e9, 0)
	n := 0
	for i := range 1000 {
		src := netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0, 1, byte(i >> 8), byte(i)}), 64)
		if q.allow(src, now) {
			n++
		}
	}
	require.Equal(t, siteHalfOpen*4, n)
	require.True(t, q.allow(netip.MustParsePrefix("2001:db8:2::/64"), now), "others have theirs")
	require.True(t, q.allow(netip.MustParsePrefix("192.0.2.1/32"), now))
}

// TestHandshakesOfOneSource: who makes more than its share is turned away, and
// others are served.
func TestHandshakesOfOneSource(t *testing.T) {
	_, addr := startMux(t, Limits{HandshakeRate: 1})
	for range 2 {
		c, err := dialTLS(t, addr, protoSession)
		require.NoError(t, err)
		require.Equal(t, "session", heard(t, c))
	}
	_, err := dialTLS(t, addr, protoSession)
	require.Error(t, err, "a third within the second")
	honest, err := dialFrom(t, "127.0.0.2", netip.MustParseAddrPort(addr))
	require.NoError(t, err)
	c := tlsOver(t, honest, protoSession)
	require.Equal(t, "session", heard(t, c))
	stun := dial(t, addr)
	_, err = stun.Write([]byte{1})
	require.NoError(t, err)
	require.Equal(t, "stun", heard(t, stun), "which is no handshake")
}

// TestHandshakesInTurn: clients in the middle of their handshake keep no turn, or
// the first few who say nothing more would hold up all others.
func TestHandshakesInTurn(t *testing.T) {
	_, addr := startMux(t, Limits{})
	for range 3 * runtime.GOMAXPROCS(0) {
		c := dial(t, addr)
		_, err := c.Write([]byte{firstTLS, 3, 1, 1, 0})
		require.NoError(t, err)
	}
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			c, err := dialTLS(t, addr, protoSession)
			if err != nil || c.ConnectionState().NegotiatedProtocol != protoSession {
				t.Errorf("a handshake among those that stand still: %v", err)
			}
		})
	}
	all.Wait()
}
