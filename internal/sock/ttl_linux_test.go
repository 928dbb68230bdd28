package sock

import (
	"net/netip"
	"os"
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

func TestFailedConnectsLeaveNothingOpen(t *testing.T) {
	self := AddrPort(listen(t, Loopback(0)).Addr())
	far := AddrPort(listen(t, Loopback(0)).Addr())
	first, err := ours.Dial(t.Context(), self, far, 0)
	require.NoError(t, err)
	defer first.Close()
	open := func() int {
		fds, err := os.ReadDir("/proc/self/fd")
		require.NoError(t, err)
		return len(fds)
	}
	before := open()
	for range 10 {
		_, err := ours.Dial(t.Context(), self, far, 0)
		require.Equal(t, AddrNotAvail, Classify(err))
	}
	require.Equal(t, before, open(), "a socket that could not connect keeps its port bound")
}
