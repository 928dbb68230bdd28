package netwatch

import (
	"context"
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/gostunt/stunt/internal/sock"
	"github.com/gostunt/stunt/natlab"
	"github.com/gostunt/stunt/natlab/nat"
)

// TestHostThatMoves watches a host of the lab while its network changes.
func TestHostThatMoves(t *testing.T) {
	natlab.Need(t)
	lab := natlab.Start(t, natlab.Config{Seed: 1})
	h := lab.Host("host", nil, natlab.Link{})
	n := &sock.Net{Open: h.Do}
	server := netip.MustParseAddr("198.18.77.1")
	state, err := Look(n, server)
	require.NoError(t, err)
	require.Equal(t, []netip.Addr{h.Addr(), h.Addr6()}, state.Addrs)
	require.NotZero(t, state.Routes[0].Link)
	require.Equal(t, state.Routes[0], routeOfSocket(n, server), "the portable way finds the same")

	ctx, cancel := context.WithCancel(t.Context())
	wakes, done := make(chan time.Duration, 100), make(chan struct{})
	go func() {
		defer close(done)
		Watch(ctx, Config{Net: n, Wake: func(slept time.Duration) { wakes <- slept }})
	}()
	defer func() {
		cancel()
		<-done
	}()
	require.Zero(t, <-wakes, "from here on it listens")
	// next returns the first change that is one.
	next := func() Change {
		t.Helper()
		for {
			select {
			case slept := <-wakes:
				require.Zero(t, slept)
			case <-time.After(20 * time.Second):
				require.FailNow(t, "no news from the kernel")
			}
			now, err := Look(n, server)
			require.NoError(t, err)
			c := Compare(state, now)
			if state = now.Since(state); !c.None() {
				return c
			}
		}
	}
	second := h.AddAddr()
	require.Equal(t, Change{New: []netip.Addr{second}}, next())
	h.SetGateway(netip.MustParseAddr("198.18.0.254"))
	require.Equal(t, Change{Rerouted: []netip.Addr{server}}, next())

	first, first6 := h.Addr(), h.Addr6()
	h.Move(lab.NAT("nat", nil, nat.Config{}, natlab.Link{}), natlab.Link{})
	c := next()
	require.Equal(t, []netip.Addr{first, second, first6}, c.Gone)
	require.Equal(t, []netip.Addr{h.Addr(), h.Addr6()}, c.New)
	require.Equal(t, []netip.Addr{server}, c.Rerouted)
}

// TestJump has the timer end, which looks to the reader as a jump does.
func TestJump(t *testing.T) {
	k, err := listen(nil)
	require.NoError(t, err)
	defer k.close()
	clock := k.(*kernel).clock
	require.NotNil(t, clock)
	rc, err := clock.SyscallConn()
	require.NoError(t, err)
	for range 3 {
		require.NoError(t, rc.Control(func(fd uintptr) {
			soon := unix.ItimerSpec{Value: unix.NsecToTimespec(1)} // 1970
			require.NoError(t, unix.TimerfdSettime(int(fd), unix.TFD_TIMER_ABSTIME, &soon, nil))
		}))
		require.NoError(t, k.wait(time.Now().Add(20*time.Second)))
		require.Zero(t, k.slept(), "the machine has not slept")
	}
	k.(*kernel).asleep -= time.Hour
	require.GreaterOrEqual(t, k.slept(), time.Hour)
	require.Zero(t, k.slept(), "told once")
}

func TestParseRoute(t *testing.T) {
	to := netip.MustParseAddr("127.0.0.1")
	fd, err := routeSocket(0)
	require.NoError(t, err)
	defer unix.Close(fd)
	require.NoError(t, unix.Sendto(fd, routeRequest(to), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}))
	b := make([]byte, 4096)
	n, _, err := unix.Recvfrom(fd, b, 0)
	require.NoError(t, err)
	r, err := parseRoute(to, b[:n])
	require.NoError(t, err)
	require.NotZero(t, r.Link)
	for i := range n {
		_, err := parseRoute(to, b[:i])
		require.Error(t, err, "cut after %d bytes", i)
	}
	b[4] = unix.RTM_NEWADDR // which nobody asked for
	_, err = parseRoute(to, b[:n])
	require.ErrorIs(t, err, errNoAnswer)

	no := make([]byte, unix.SizeofNlMsghdr+4)
	errno := -int32(unix.ENETUNREACH)
	binary.NativeEndian.PutUint32(no, uint32(len(no)))
	binary.NativeEndian.PutUint16(no[4:], unix.NLMSG_ERROR)
	binary.NativeEndian.PutUint32(no[unix.SizeofNlMsghdr:], uint32(errno))
	_, err = parseRoute(to, no)
	require.ErrorIs(t, err, unix.ENETUNREACH)
}
