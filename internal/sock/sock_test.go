package sock

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var ours *Net // the process's own network

func listen(t *testing.T, at netip.AddrPort) *net.TCPListener {
	ln, err := ours.Listen(t.Context(), at)
	require.NoError(t, err)
	t.Cleanup(func() { ln.Close() })
	return ln
}

// TestOnePortForAll shows that a port can listen and connect at once, to
// several places: the base of everything else.
func TestOnePortForAll(t *testing.T) {
	port := AddrPort(listen(t, Loopback(0)).Addr())
	for range 3 {
		far := listen(t, Loopback(0))
		c, err := ours.Dial(t.Context(), port, AddrPort(far.Addr()), 0)
		require.NoError(t, err)
		defer c.Close()
		got, err := far.AcceptTCP()
		require.NoError(t, err)
		defer got.Close()
		require.Equal(t, port, AddrPort(got.RemoteAddr()))
		_, err = c.Write([]byte("x"))
		require.NoError(t, err)
		_, err = io.ReadFull(got, make([]byte, 1))
		require.NoError(t, err)
		multipath, err := got.MultipathTCP()
		require.NoError(t, err)
		require.False(t, multipath, "middleboxes on a punched path don't like its option")
	}
}

// TestSimultaneousOpen makes one connection of two connects that cross.
func TestSimultaneousOpen(t *testing.T) {
	// Two ports that nobody listens on: each SYN gets a RST until the other's
	// socket is there, so both ends try until their SYNs cross.
	a, b := AddrPort(listen(t, Loopback(0)).Addr()), AddrPort(listen(t, netip.MustParseAddrPort("127.0.0.2:0")).Addr())
	type end struct {
		c   *net.TCPConn
		err error
	}
	ends := make(chan end, 2)
	for _, d := range [][2]netip.AddrPort{{a, b}, {b, a}} {
		go func() {
			c, err := ours.Dial(t.Context(), d[0], d[1], 0)
			ends <- end{c, err}
		}()
	}
	for range 2 {
		e := <-ends
		// The second may find the tuple taken by the connection that the
		// listener accepted of the first: also one connection, not two.
		if e.err != nil {
			require.Equal(t, AddrNotAvail, Classify(e.err), e.err)
			continue
		}
		e.c.Close()
	}
}

func TestDialFails(t *testing.T) {
	nobody := listen(t, Loopback(0))
	addr := AddrPort(nobody.Addr())
	nobody.Close()
	_, err := ours.Dial(t.Context(), netip.AddrPort{}, addr, 0)
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
	require.Equal(t, Refused, Classify(err))
	var oe *net.OpError
	require.ErrorAs(t, err, &oe)
	require.Equal(t, addr.String(), oe.Addr.String())

	self := AddrPort(listen(t, Loopback(0)).Addr())
	_, err = ours.Dial(t.Context(), self, self, 0)
	require.ErrorIs(t, err, ErrSelfConnect)
	require.Equal(t, SelfConnection, Classify(err))

	far := AddrPort(listen(t, Loopback(0)).Addr())
	first, err := ours.Dial(t.Context(), self, far, 0)
	require.NoError(t, err)
	defer first.Close()
	_, err = ours.Dial(t.Context(), self, far, 0)
	require.Equal(t, AddrNotAvail, Classify(err), "a tuple exists once: %v", err)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = ours.Dial(ctx, netip.AddrPort{}, far, 0)
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, Canceled, Classify(err))
}

func TestOpenRunsOncePerSocket(t *testing.T) {
	calls := 0
	n := &Net{Open: func(open func() error) error { calls++; return open() }}
	ln, err := n.Listen(t.Context(), Loopback(0))
	require.NoError(t, err)
	defer ln.Close()
	c, err := n.Dial(t.Context(), netip.AddrPort{}, AddrPort(ln.Addr()), 0)
	require.NoError(t, err)
	c.Close()
	_, err = n.Prefixes()
	require.NoError(t, err)
	require.Equal(t, 3, calls)

	refusal := errors.New("no namespace")
	n.Open = func(func() error) error { return refusal }
	_, err = n.Dial(t.Context(), netip.AddrPort{}, Loopback(1), 0)
	require.ErrorIs(t, err, refusal)
}

func TestAbortLeavesNoTimeWait(t *testing.T) {
	local := AddrPort(listen(t, Loopback(0)).Addr())
	far := listen(t, Loopback(0))
	for range 3 {
		c, err := ours.Dial(t.Context(), local, AddrPort(far.Addr()), 0)
		require.NoError(t, err, "the same tuple again, at once")
		got, err := far.AcceptTCP()
		require.NoError(t, err)
		Abort(c)
		_, err = got.Read(make([]byte, 1))
		require.Equal(t, Reset, Classify(err))
		got.Close()
	}
}

// TestConnected shows what a reader can't see: an end of the stream that is a
// RST, of which a write was told.
func TestConnected(t *testing.T) {
	far := listen(t, Loopback(0))
	pair := func() (c, other *net.TCPConn) {
		c, err := ours.Dial(t.Context(), netip.AddrPort{}, AddrPort(far.Addr()), 0)
		require.NoError(t, err)
		t.Cleanup(func() { c.Close() })
		other, err = far.AcceptTCP()
		require.NoError(t, err)
		return c, other
	}
	c, other := pair()
	require.True(t, Connected(c))
	require.NoError(t, other.CloseWrite())
	_, err := c.Read(make([]byte, 1))
	require.Equal(t, io.EOF, err)
	require.True(t, Connected(c), "a FIN ends one direction")
	other.Close()
	require.NoError(t, c.Close())
	require.False(t, Connected(c), "closed")

	c, other = pair()
	Abort(other)
	for err = nil; err == nil; {
		_, err = c.Write([]byte("x"))
	}
	require.Equal(t, Reset, Classify(err))
	_, err = c.Read(make([]byte, 1))
	require.Equal(t, io.EOF, err, "the error was told already")
	require.False(t, Connected(c))
}

func TestClassifyLooksThroughWrapping(t *testing.T) {
	for want, err := range map[Class]error{
		Refused:      syscall.ECONNREFUSED,
		Reset:        syscall.ECONNRESET,
		Unreachable:  syscall.EHOSTUNREACH,
		Timeout:      os.ErrDeadlineExceeded,
		AddrNotAvail: syscall.EADDRNOTAVAIL,
		AddrInUse:    syscall.EADDRINUSE,
		Exhausted:    syscall.EMFILE,
		Other:        io.EOF,
	} {
		wrapped := fmt.Errorf("deep: %w", &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", err)})
		require.Equal(t, want, Classify(wrapped), "%v", err)
		require.NotEmpty(t, want.String())
	}
}
