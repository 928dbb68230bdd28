package park

import (
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// lots are all implementations that this system has.
var lots = map[string]func() Lot{"system's": New, "split": NewSplit}

// patience bounds what should happen at once. Reaching it is a failure.
const patience = 20 * time.Second

// A guest is a connection with a place in a lot, served by the test.
type guest struct {
	Spot
	near, far *net.TCPConn
	woken     chan bool // readable, of each wake; capacity for all that a test makes
}

// pair returns the two ends of a connection, which the test closes.
func pair(t *testing.T) (near, far *net.TCPConn) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	a, err := net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	b, err := ln.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { a.Close(); b.Close() })
	return b.(*net.TCPConn), a.(*net.TCPConn)
}

// each runs a test in every kind of lot.
func each(t *testing.T, f func(t *testing.T, enter func() *guest)) {
	for name, open := range lots {
		t.Run(name, func(t *testing.T) {
			lot := open()
			t.Cleanup(lot.Close)
			f(t, func() *guest {
				g := &guest{woken: make(chan bool, 1000)}
				g.near, g.far = pair(t)
				var err error
				g.Spot, err = lot.Enter(g.near, func(readable bool) { g.woken <- readable })
				require.NoError(t, err)
				t.Cleanup(func() { g.near.Close(); g.Wake(); g.Leave() })
				return g
			})
		})
	}
}

// wakes waits for the end of a wait.
func (g *guest) wakes(t *testing.T, why string) (readable bool) {
	t.Helper()
	select {
	case readable = <-g.woken:
	case <-time.After(patience):
		require.FailNow(t, "nobody woke it", why)
	}
	return readable
}

// sleeps shows that nothing has ended the wait: of two things that happen one
// after the other the lot has told of the second.
func (g *guest) sleeps(t *testing.T, other *guest, why string) {
	t.Helper()
	other.Wait()
	other.far.Write([]byte{1})
	other.wakes(t, "the lot is at work")
	other.near.Read(make([]byte, 1))
	require.Empty(t, g.woken, why)
}

func (g *guest) read(t *testing.T, n int) string {
	t.Helper()
	require.NoError(t, g.near.SetReadDeadline(time.Now().Add(patience)))
	b := make([]byte, n)
	_, err := io.ReadFull(g.near, b)
	require.NoError(t, err)
	return string(b)
}

func TestWait(t *testing.T) {
	each(t, func(t *testing.T, enter func() *guest) {
		g, other := enter(), enter()
		g.Wait()
		g.sleeps(t, other, "nothing has come")
		g.far.Write([]byte("one"))
		require.True(t, g.wakes(t, "something came"))
		g.sleeps(t, other, "it was told once")
		g.far.Write([]byte("two"))
		g.sleeps(t, other, "nobody waits")
		g.Wait()
		require.True(t, g.wakes(t, "it is there already"), "what came before the wait counts as well")
		require.Equal(t, "onetwo", g.read(t, 6))
		g.Wait()
		g.sleeps(t, other, "all is read")
	})
}

func TestEndsOfConnections(t *testing.T) {
	each(t, func(t *testing.T, enter func() *guest) {
		g := enter()
		g.Wait()
		g.far.CloseWrite()
		require.True(t, g.wakes(t, "an end is something to read"))
		_, err := g.near.Read(make([]byte, 1))
		require.Equal(t, io.EOF, err)

		g = enter()
		g.Wait()
		require.NoError(t, g.far.SetLinger(0))
		g.far.Close()
		require.True(t, g.wakes(t, "and so is a RST"))

		g = enter()
		g.near.Close()
		g.Wait()
		g.wakes(t, "a closed connection is not waited for")

		g = enter()
		g.Wait()
		g.near.Close()
		g.Wake()
		g.wakes(t, "nor one that is closed in the wait")
	})
}

func TestWake(t *testing.T) {
	each(t, func(t *testing.T, enter func() *guest) {
		g, other := enter(), enter()
		g.Wait()
		g.Wake()
		require.False(t, g.wakes(t, "it was told to"), "there is nothing to read")
		g.Wake()
		g.sleeps(t, other, "nobody waits")
		g.Wait()
		require.False(t, g.wakes(t, "it was told before"))
		g.Wait()
		g.sleeps(t, other, "and that is done with")
		g.far.Write([]byte("x"))
		require.True(t, g.wakes(t, "it waits as ever"))
		require.Equal(t, "x", g.read(t, 1))
	})
}

func TestRest(t *testing.T) {
	each(t, func(t *testing.T, enter func() *guest) {
		g, other := enter(), enter()
		g.far.Write([]byte("x"))
		g.Rest(time.Hour)
		g.sleeps(t, other, "it rests, whatever comes")
		g.Wake()
		require.False(t, g.wakes(t, "it was told to"))
		g.Rest(time.Millisecond)
		require.False(t, g.wakes(t, "the time is over"))
		g.Wait()
		require.True(t, g.wakes(t, "what came is still there"))
	})
}

// Wakes from two sides end each wait once, and none is lost: after every Wake,
// and after everything that comes, there is a look.
func TestWakesFromTwoSides(t *testing.T) {
	for name, open := range lots {
		t.Run(name, func(t *testing.T) {
			const words = 500
			lot := open()
			defer lot.Close()
			near, far := pair(t)
			var serving, word atomic.Int32
			var twice atomic.Bool
			var bytes int32 // owned by who serves
			done := make(chan struct{})
			var spot Spot
			serve := func(readable bool) {
				twice.Store(twice.Load() || serving.Add(1) > 1)
				if readable {
					near.SetReadDeadline(time.Now().Add(patience))
					n, _ := near.Read(make([]byte, 7))
					bytes += int32(n)
				}
				over := bytes == words && word.Load() == words
				serving.Add(-1)
				if over {
					close(done)
					return
				}
				spot.Wait()
			}
			spot, err := lot.Enter(near, serve)
			require.NoError(t, err)
			spot.Wait()
			var sides sync.WaitGroup
			sides.Go(func() {
				for range words {
					far.Write([]byte{1})
				}
			})
			sides.Go(func() {
				for range words {
					word.Add(1)
					spot.Wake()
				}
			})
			sides.Wait()
			select {
			case <-done:
			case <-time.After(patience):
				require.FailNow(t, "a wake was lost")
			}
			require.False(t, twice.Load(), "two served at a time")
			near.Close()
			spot.Leave()
		})
	}
}

// TestIdleCostsNoGoroutine is what it is all for.
func TestIdleCostsNoGoroutine(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("elsewhere it costs a small one")
	}
	lot := New()
	defer lot.Close()
	before := runtime.NumGoroutine()
	for range 100 {
		near, _ := pair(t)
		spot, err := lot.Enter(near, func(bool) {})
		require.NoError(t, err)
		defer spot.Leave()
		spot.Wait()
	}
	require.LessOrEqual(t, runtime.NumGoroutine(), before)
}

func TestEnterWantsTCP(t *testing.T) {
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	for name, open := range lots {
		lot := open()
		_, err := lot.Enter(near, func(bool) {})
		require.ErrorIs(t, err, errNotTCP, name)
		lot.Close()
	}
}
