package natlab

import (
	"io"
	"testing"
	"time"

	"github.com/gostunt/stunt/natlab/nat"
	"github.com/stretchr/testify/require"
)

// BenchmarkTCP moves data through two NATs: from behind one to a host behind
// the other that a default host rule makes reachable.
func BenchmarkTCP(b *testing.B) {
	for _, delay := range []time.Duration{0, 5 * time.Millisecond} {
		b.Run(delay.String(), func(b *testing.B) {
			lab := Start(b, Config{})
			na := lab.NAT("nat-a", nil, nat.Config{}, Link{Delay: delay})
			nb := lab.NAT("nat-b", nil, nat.Config{}, Link{Delay: delay})
			alice, bob := lab.Host("alice", na, Link{}), lab.Host("bob", nb, Link{})
			c, s := open(b, alice, bob, public(na), public(nb))
			const chunk = 1 << 20
			b.SetBytes(chunk)
			b.ResetTimer()
			go func() {
				buf := make([]byte, chunk)
				for range b.N {
					c.Write(buf)
				}
				c.Close()
			}()
			n, err := io.Copy(io.Discard, s)
			require.NoError(b, err)
			require.EqualValues(b, b.N*chunk, n)
		})
	}
}
