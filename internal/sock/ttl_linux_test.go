package sock

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestTTLIsOnTheFirstPacket(t *testing.T) {
	far := listen(t, Loopback(0))
	c, err := ours.Dial(t.Context(), netip.AddrPort{}, AddrPort(far.Addr()), 7)
	require.NoError(t, err)
	defer c.Close()
	rc, err := c.SyscallConn()
	require.NoError(t, err)
	get := func() (ttl int) {
		require.NoError(t, rc.Control(func(fd uintptr) { ttl, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_TTL) }))
		require.NoError(t, err)
		return ttl
	}
	require.Equal(t, 7, get())
}
