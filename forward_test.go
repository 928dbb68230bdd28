package stunt_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt"
	"github.com/gostunt/stunt/natlab"
	"github.com/gostunt/stunt/probe"
)

// routed returns a host behind a router of the kernel's that draws ports at
// random: two of these do not meet.
func (w *world) routed(name string) (*natlab.Host, *natlab.KernelNAT) {
	router := w.lab.KernelNAT("nat-"+name, nil, natlab.FullyRandom, w.link())
	return w.lab.Host(name, router, natlab.Link{}), router
}

// mappings waits until a node knows what its router does.
func mappings(t *testing.T, n *stunt.Node) (v4, v6 probe.PortMapping) {
	t.Helper()
	v4, v6, err := n.PortMappings(t.Context())
	require.NoError(t, err)
	return v4, v6
}

// TestMapped connects two hosts whose NATs draw their ports at random, in both
// directions, because one of the routers maps a port; several times at once,
// as each connection needs a pair of ports of its own.
func TestMapped(t *testing.T) {
	for _, lines := range [][]string{{"enable_upnp=no"}, {"enable_natpmp=no"}} {
		t.Run(lines[0], func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 20*time.Millisecond)
			w.noIPv6 = true
			a, router := w.routed("a")
			b, _ := w.routed("b")
			natlab.Miniupnpd(t, router, lines...)
			alice := w.node(a, stunt.Config{ID: "alice"})
			bob := w.node(b, stunt.Config{ID: "bob"})
			w.ready(alice, bob)
			v4, _ := mappings(t, alice)
			require.Equal(t, router.Public()[0], v4.Public.Addr(), "where the world sees it, not what the router says: %v", v4)
			v4, _ = mappings(t, bob)
			require.Equal(t, probe.PortMapping{Protocol: probe.NoPortMapping}, v4)

			atAlice, atBob := listen(t, alice, 0), listen(t, bob, 0)
			for range 3 { // they stay open
				l := connect(t, bob, atAlice)
				defer l.close()
				require.Equal(t, stunt.Direct, l.dialer.Path().Method, "%+v", l.dialer.Path())
				require.Equal(t, stunt.Reversed, l.listener.Path().Method)
				l = connect(t, alice, atBob)
				defer l.close()
				require.Equal(t, stunt.Reversed, l.dialer.Path().Method, "%+v", l.dialer.Path())
				require.Equal(t, stunt.Direct, l.listener.Path().Method)
			}
		})
	}
}
