package stunt_test

import (
	"bytes"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt"
)

// TestCloseBringsAll: what was written before Close arrives at a peer that reads
// to the end, and its end, though bytes are under way in both directions by then: of
// what the peer has written, which nobody reads, or the end of its stream.
func TestCloseBringsAll(t *testing.T) {
	sent := make([]byte, 1<<20) // more than the kernels hold
	rand.NewChaCha8([32]byte{}).Read(sent)
	for name, relay := range map[string]stunt.RelayPolicy{"direct": stunt.RelayNever, "relay": stunt.RelayOnly} {
		for _, peer := range []string{"writes", "ends"} {
			t.Run(name+"/"+peer, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, 80*time.Millisecond)
				a := w.node(w.behind("a", "eim-apdf"), stunt.Config{ID: "a", Relay: relay})
				b := w.node(w.behind("b", "eim-apdf"), stunt.Config{Relay: relay})
				l := connect(t, b, listen(t, a, 0))
				if peer == "writes" {
					_, err := l.listener.Write(make([]byte, 32<<10)) // less than the kernels hold
					require.NoError(t, err)
				}
				type result struct {
					b   []byte
					err error
				}
				read := make(chan result, 1)
				go func() { // until the end
					b, err := io.ReadAll(l.listener)
					read <- result{b, err}
				}()
				_, err := l.dialer.Write(sent)
				require.NoError(t, err)
				require.NoError(t, l.dialer.Close())
				if peer == "ends" {
					require.NoError(t, l.listener.CloseWrite())
				}
				got := <-read
				require.NoError(t, got.err, "after %d bytes", len(got.b))
				require.True(t, bytes.Equal(sent, got.b))
				require.NoError(t, l.listener.Close())
			})
		}
	}
}
