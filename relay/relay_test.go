package relay

import (
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"net"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/nettest"
)

// TestConn: what goes through a relay is a net.Conn like any other.
func TestConn(t *testing.T) {
	addr := serve(t, &Server{Limits: Limits{StreamsPerSource: 4096, StreamsPerKey: 4096}})
	nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
		a, b := join(t, addr)
		a.SetDeadline(time.Time{})
		b.SetDeadline(time.Time{})
		return a, b, func() { a.Close(); b.Close() }, nil
	})
}

// TestFirstBytes: data may follow the ticket at once, whoever comes first, and
// waits for the other end.
func TestFirstBytes(t *testing.T) {
	addr := serve(t, &Server{})
	td, tl := tickets()
	dialer := open(t, addr, td, "from the dialer")
	listener := open(t, addr, tl, "from the listener")
	for c, want := range map[net.Conn]string{dialer: "from the listener", listener: "from the dialer"} {
		require.NoError(t, ReadStatus(c))
		got := make([]byte, len(want))
		_, err := io.ReadFull(c, got)
		require.NoError(t, err)
		require.Equal(t, want, string(got))
	}
}

// TestHalfClose: each direction ends by itself, after all of its bytes, by
// splice and by buffer.
func TestHalfClose(t *testing.T) {
	s := &Server{}
	addr := serve(t, s)
	a, b := join(t, addr)
	big := make([]byte, 8<<20)
	rand.Read(big)
	go func() { // ends with its bytes, or with b
		a.Write(big)
		a.CloseWrite()
	}()
	got, err := io.ReadAll(b)
	require.NoError(t, err, "the end of one direction is a plain EOF")
	require.True(t, bytes.Equal(big, got), "%d bytes there, %d here", len(big), len(got))
	_, err = b.Write([]byte("still open"))
	require.NoError(t, err)
	require.NoError(t, b.CloseWrite())
	got, err = io.ReadAll(a)
	require.NoError(t, err)
	require.Equal(t, "still open", string(got))
	require.Eventually(t, func() bool { return s.Stats().Pairs == 0 }, 10*time.Second, time.Millisecond, "a pair ends with its second direction")
	require.EqualValues(t, len(big)+len("still open"), s.Stats().Bytes)
	require.EqualValues(t, 1, s.Stats().Paired)
}

// TestReset: an end that breaks off is no end of the stream for the other.
func TestReset(t *testing.T) {
	addr := serve(t, &Server{})
	a, b := join(t, addr)
	a.SetLinger(0)
	require.NoError(t, a.Close())
	_, err := b.Read(make([]byte, 1))
	require.ErrorIs(t, err, syscall.ECONNRESET)
}

// TestLeavesNothing: pairs that have come and gone leave no file behind.
func TestLeavesNothing(t *testing.T) {
	s := &Server{}
	addr := serve(t, s)
	churn := func() {
		for range 50 {
			a, b := join(t, addr)
			a.Write(make([]byte, 128<<10)) // through a pipe, maybe
			a.Close()
			io.Copy(io.Discard, b)
			b.Close()
		}
		require.Eventually(t, func() bool { return s.Stats().Pairs == 0 }, 10*time.Second, time.Millisecond)
	}
	churn()
	before := files(t)
	churn()
	requireFiles(t, before)
}

// files returns how many this process has open.
func files(t *testing.T) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("how many files are open is not to be seen here")
	}
	return len(fds)
}

// requireFiles shows that no more files are open, soon.
func requireFiles(t *testing.T, most int) {
	t.Helper()
	require.Eventually(t, func() bool {
		runtime.GC() // a pipe that rests in the runtime's pool goes with it
		return files(t) <= most
	}, 10*time.Second, time.Millisecond)
}

// TestIdleHoldsNothing: pairs that have carried much and are silent hold their two
// sockets, and no pipe.
func TestIdleHoldsNothing(t *testing.T) {
	const pairs, some = 20, 3 << 19
	addr := serve(t, &Server{})
	a, b := join(t, addr)
	a.Close()
	b.Close()
	before := files(t)
	for range pairs {
		a, b := join(t, addr)
		for _, x := range [][2]net.Conn{{a, b}, {b, a}} {
			go x[0].Write(make([]byte, some)) // until it is read
			_, err := io.ReadFull(x[1], make([]byte, some))
			require.NoError(t, err)
		}
	}
	requireFiles(t, before+pairs*4) // both ends of both sockets are in this process
}

// TestShutdown: pairs have until the end of its ctx, those who wait are told.
func TestShutdown(t *testing.T) {
	s := &Server{}
	addr := serve(t, s)
	a, b := join(t, addr)
	td, _ := tickets()
	alone := open(t, addr, td, "")
	require.Eventually(t, func() bool { return s.Stats().Waiting == 1 }, 10*time.Second, time.Millisecond)

	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Shutdown(ctx) }()
	require.ErrorIs(t, status(t, alone), Closing)
	td, _ = tickets()
	require.ErrorIs(t, status(t, open(t, addr, td, "")), Closing, "nobody gets in any more")
	_, err := a.Write([]byte("x"))
	require.NoError(t, err)
	_, err = io.ReadFull(b, make([]byte, 1))
	require.NoError(t, err, "a pair goes on")
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
	_, err = b.Read(make([]byte, 1))
	require.ErrorIs(t, err, syscall.ECONNRESET, "it is cut at the end of the drain")
	require.NoError(t, s.Shutdown(t.Context()), "again")
}

// TestTimes: pairs end by the limits on their time, and only by those set.
func TestTimes(t *testing.T) {
	for name, l := range map[string]Limits{
		limitIdle: {Idle: 500 * time.Millisecond},
		limitLife: {Life: 500 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &Server{Limits: l}
			a, _ := join(t, serve(t, s))
			_, err := a.Read(make([]byte, 1))
			require.ErrorIs(t, err, syscall.ECONNRESET)
			requireMet(t, s, name)
		})
	}
	t.Run("wait", func(t *testing.T) {
		t.Parallel()
		td, _ := tickets()
		alone := open(t, serve(t, &Server{Limits: Limits{Wait: 50 * time.Millisecond}}), td, "hello?")
		require.ErrorIs(t, status(t, alone), Alone)
	})
}

// TestRate: what a key has carried is never more than its rate allows, in all
// its pairs together.
func TestRate(t *testing.T) {
	const bps, pairs = 1 << 20, 3
	s := &Server{Limits: Limits{Rate: bps}}
	addr := serve(t, s)
	began := time.Now()
	for range pairs {
		a, _ := join(t, addr)
		go func() { // until the relay is closed
			for {
				if _, err := a.Write(make([]byte, 64<<10)); err != nil {
					return
				}
			}
		}()
	}
	// More than the burst has come through before the rate has to be asked.
	require.Eventually(t, func() bool { return s.Stats().Bytes > bps/2 }, 30*time.Second, time.Millisecond)
	carried, within := s.Stats().Bytes, time.Since(began)
	// Ahead of the rate by its burst, and by what each pair has just moved.
	require.LessOrEqual(t, float64(carried), bps*within.Seconds()+bps/4+pairs*bufferSize)
	require.Positive(t, s.Stats().Met[limitRate])
}

// Cut ends what a key has, at either end, and nothing of others.
func TestCut(t *testing.T) {
	s := &Server{}
	addr := serve(t, s)
	td, tl := testSecret.Tickets([16]byte{1}, alice, testKey(99), time.Now())
	a, b := open(t, addr, td, ""), open(t, addr, tl, "")
	require.NoError(t, ReadStatus(a))
	require.NoError(t, ReadStatus(b))
	c, d := join(t, addr) // of bob and alice

	s.Cut(bob)
	for _, cut := range []net.Conn{c, d} {
		_, err := cut.Read(make([]byte, 1))
		require.ErrorIs(t, err, syscall.ECONNRESET)
	}
	_, err := a.Write([]byte("x"))
	require.NoError(t, err)
	_, err = b.Read(make([]byte, 1))
	require.NoError(t, err, "it has nothing of bob")
	s.Cut(testKey(99))
	_, err = b.Read(make([]byte, 1))
	require.ErrorIs(t, err, syscall.ECONNRESET)
}
