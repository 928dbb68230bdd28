package stunt

import (
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt/internal/secure"
	"github.com/gostunt/stunt/internal/tcppipe"
)

// lingerer is a connection of which l has one end, and the peer's end of the pipe.
func lingerer(t *testing.T, l *lingering, name string) (*secure.Conn, *tcppipe.End) {
	p := secure.Params{Peer: "b"}
	i, msg1, err := secure.Initiate(NewKey(), p)
	require.NoError(t, err)
	r, err := secure.Respond(NewKey(), p, msg1)
	require.NoError(t, err)
	msg2, _, err := r.Answer(false)
	require.NoError(t, err)
	s, err := i.Finish(msg2)
	require.NoError(t, err)
	a, b := tcppipe.New(name, 1000)
	c, err := s.Conn(a)
	require.NoError(t, err)
	c.Late = l.take
	return c, b
}

// TestLingering: of the connections that were closed, and whose peers don't end,
// only so many linger, the newest. The end of the node gives them a second.
func TestLingering(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l lingering
		gone := func(peer *tcppipe.End) bool {
			_, err := peer.Write([]byte("x"))
			return err != nil
		}
		var peers []*tcppipe.End
		for i := range maxLingering + 2 {
			c, peer := lingerer(t, &l, fmt.Sprint(i))
			require.NoError(t, c.Close())
			peers = append(peers, peer)
		}
		synctest.Wait()
		require.Len(t, l.all, maxLingering)
		for i, peer := range peers {
			require.Equal(t, i < 2, gone(peer), "%d", i)
		}
		for _, peer := range peers[4:] {
			require.NoError(t, peer.CloseWrite())
		}
		synctest.Wait()
		require.Len(t, l.all, 2, "the peers of the others have ended")
		began := time.Now()
		l.end()
		require.Equal(t, nodeFarewell, time.Since(began))
		require.Empty(t, l.all)
		for _, peer := range peers {
			require.True(t, gone(peer))
			_, err := io.Copy(io.Discard, peer)
			require.NoError(t, err, "what was said arrives")
		}
		l.end() // waits for nobody
		require.Equal(t, nodeFarewell, time.Since(began))
	})
}
