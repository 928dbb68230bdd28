package secure

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt/internal/tcppipe"
)

// lingers has what a Conn's Close leaves done, as its owner does.
func lingers(c *Conn) *Conn {
	c.Late = func(c *Conn) { go c.Linger() } // for its time, at most
	return c
}

// TestLinger: who closes with bytes unread, or before the peer has said its last
// word, still brings it all that was written, and its end.
func TestLinger(t *testing.T) {
	const room = 1000
	sent := bytes.Repeat([]byte("last words"), 10_000)
	for _, tt := range []struct {
		name string
		peer func(t *testing.T, c *Conn) // does so before it reads
	}{
		{"writes", func(t *testing.T, c *Conn) {
			_, err := c.Write(make([]byte, 10*room))
			require.NoError(t, err, "nobody reads it, and somebody takes it")
		}},
		{"ends", func(t *testing.T, c *Conn) { require.NoError(t, c.CloseWrite()) }},
		{"is silent", func(*testing.T, *Conn) {}},
	} {
		inBubble(t, tt.name, func(t *testing.T) {
			x, y := tcppipe.New("", room)
			a, b := testConns(t, x, y)
			lingers(a)
			go b.Write(make([]byte, 20*room)) // until it is taken
			_, err := io.ReadFull(a, make([]byte, 3*room))
			require.NoError(t, err)
			require.True(t, a.in.big != nil, "most is unread, and in memory")
			require.NoError(t, a.SetWriteDeadline(time.Now().Add(time.Second)))
			n, err := a.Write(sent) // most of it is pending
			require.Error(t, err)
			began := time.Now()
			require.NoError(t, a.Close())
			require.LessOrEqual(t, time.Since(began), farewell+glance)
			_, err = a.Write(sent)
			require.ErrorIs(t, err, net.ErrClosed, "at once: %v", time.Since(began))
			require.True(t, a.in.big == nil, "what nobody reads is not kept")
			tt.peer(t, b)
			got, err := io.ReadAll(b)
			require.NoError(t, err)
			require.Equal(t, n, len(got))
			require.True(t, bytes.HasPrefix(sent, got))
			require.NoError(t, b.Close())
			synctest.Wait()
			require.True(t, x.Closed(), "the peer has ended, and is not waited for any more")
		})
	}
}

// TestLingerEnds: a peer that goes on has its time, or what the owner gives it.
func TestLingerEnds(t *testing.T) {
	for _, left := range []bool{false, true} {
		inBubble(t, fmt.Sprint("left ", left), func(t *testing.T) {
			x, y := tcppipe.New("", 1000)
			a, b := testConns(t, x, y)
			lingers(a)
			defer b.Close()
			require.NoError(t, a.Close())
			began := time.Now()
			if left {
				time.AfterFunc(time.Second, a.Leave)
			}
			for err := error(nil); err == nil; time.Sleep(time.Millisecond) {
				_, err = b.Write([]byte("x"))
			}
			want := lingerTimeout
			if left {
				want = time.Second
			}
			require.InDelta(t, want, time.Since(began), float64(10*time.Millisecond))
		})
	}
}

// TestLingerMoving closes an end that moves, with bytes unread on the old leg. The peer
// writes to the new one, more than there is room for, before it reads.
func TestLingerMoving(t *testing.T) {
	inBubble(t, "", func(t *testing.T) {
		m := newMoved(t, 1000)
		defer m.close()
		lingers(m.a)
		_, err := m.b.Write([]byte("unread"))
		require.NoError(t, err)
		_, err = m.a.Write([]byte("last "))
		require.NoError(t, err)
		m.both(t, 1000)
		synctest.Wait()
		_, err = m.a.Write([]byte("words"))
		require.NoError(t, err)
		require.NoError(t, m.a.Close())
		_, err = m.b.Write(make([]byte, 10_000))
		require.NoError(t, err)
		got, err := io.ReadAll(m.b)
		require.NoError(t, err)
		require.Equal(t, "last words", string(got))
	})
}
