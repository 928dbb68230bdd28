package stunt_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt"
)

// What the server saw of a port is said of a path over IPv4 only, if that is how
// it saw it: the first two cross over IPv6 alone, as their NATs draw ports at random.
func TestPathPublic(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 4*time.Millisecond)
	h := w.behind("a", "apdm-random")
	if !h.Addr6().IsValid() {
		t.Skip("this system has no IPv6")
	}
	a := w.node(h, stunt.Config{ID: "a"})
	b := w.node(w.behind("b", "apdm-random"), stunt.Config{})
	ln := listen(t, a, 0)
	w.ready(a, b)
	l := connect(t, b, ln)
	defer l.close()
	for _, c := range []*stunt.Conn{l.dialer, l.listener} {
		p := c.Path()
		require.True(t, p.Remote.Addr().Is6(), "%v", p)
		require.False(t, p.Public.IsValid(), "%v: the server saw IPv4", p.Public)
	}

	w.noIPv6 = true
	c := w.node(w.behind("c", "eim-apdf"), stunt.Config{ID: "c"})
	d := w.node(w.behind("d", "eim-apdf"), stunt.Config{})
	l4 := connect(t, d, listen(t, c, 0))
	defer l4.close()
	require.Equal(t, l4.listener.Path().Remote, l4.dialer.Path().Public)
	require.Equal(t, l4.dialer.Path().Remote, l4.listener.Path().Public)
}
