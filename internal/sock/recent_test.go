package sock

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestListenAvoidsRecentPorts shows that a port of the kernel's choice is not
// one that a NAT may still have a mapping of.
func TestListenAvoidsRecentPorts(t *testing.T) {
	n := new(Net)
	far := listen(t, Loopback(0))
	c, err := n.Dial(t.Context(), netip.AddrPort{}, AddrPort(far.Addr()), 0)
	require.NoError(t, err)
	local := AddrPort(c.LocalAddr())
	Abort(c)
	require.False(t, n.pickedNew(local), "a port that connected is remembered")

	seen := map[uint16]bool{local.Port(): true}
	for range 500 { // the kernel alone repeats itself sooner: it has some 14,000 to choose from
		ln, err := n.Listen(t.Context(), Loopback(0))
		require.NoError(t, err)
		port := AddrPort(ln.Addr()).Port()
		ln.Close()
		require.False(t, seen[port], "%d again", port)
		seen[port] = true
	}
}

func TestRecentForgets(t *testing.T) {
	var r recent
	for port := range uint16(maxRecent) {
		require.True(t, r.note(Loopback(port+1)))
	}
	require.False(t, r.note(Loopback(1)))
	require.True(t, r.note(Loopback(9000)), "one too many is not remembered")
	require.True(t, r.note(Loopback(9000)))
	for port := range r.ports {
		r.ports[port] = time.Now().Add(-forget - time.Second)
	}
	require.True(t, r.note(Loopback(2)), "its mapping is gone")
	require.True(t, r.note(Loopback(9000)), "there is room again")
	require.Len(t, r.ports, 2, "the old ones are gone")
}
