package natlab

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/gostunt/stunt/internal/sock"
)

// punch opens a connection by simultaneous open between two hosts behind NATs
// that preserve ports.
func punch(t testing.TB, a, b *Host, na, nb interface{ Public() []netip.Addr }) (ca, cb net.Conn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var g errgroup.Group
	dial := func(h *Host, to netip.Addr, c *net.Conn) {
		g.Go(func() (err error) {
			n := sock.Net{Open: h.Do}
			local := netip.AddrPortFrom(h.Addr(), 40000)
			*c, err = n.Dial(ctx, local, netip.AddrPortFrom(to, 40000), 0)
			return err
		})
	}
	dial(a, nb.Public()[0], &ca)
	dial(b, na.Public()[0], &cb)
	require.NoError(t, g.Wait())
	t.Cleanup(func() { ca.Close(); cb.Close() })
	return ca, cb
}
