package stunt_test

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt"
	"github.com/gostunt/stunt/natlab"
	"github.com/gostunt/stunt/natlab/nat"
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

// TestMappedInVain: a router behind another NAT maps a port that nobody gets to.
// It is told to forget it.
func TestMappedInVain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 20*time.Millisecond)
	w.noIPv6 = true
	outer := w.lab.NAT("outer", nil, nat.Config{Mapping: nat.APDM, Assignment: nat.Random}, w.link())
	inner := w.lab.KernelNAT("inner", outer, natlab.Plain, natlab.Link{})
	natlab.Miniupnpd(t, inner)
	n := w.node(w.lab.Host("a", inner, natlab.Link{}), stunt.Config{ID: "a"})
	v4, v6 := mappings(t, n)
	require.False(t, v4.Public.IsValid(), "%v", v4)
	require.Contains(t, []string{"pcp", "nat-pmp", "upnp"}, v4.Protocol)
	require.Zero(t, v6, "the server has no IPv6: it is not asked")

	l := connect(t, n, listen(t, w.node(w.at("peer", ""), stunt.Config{}), 0))
	defer l.close()
	port := l.dialer.Path().Local.Port() // the session's, for which the same was mapped
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err := w.lab.Host("between", outer, natlab.Link{}).Dial(ctx, "tcp", netip.AddrPortFrom(inner.Public()[0], port).String())
	require.Error(t, err, "not even the router's neighbours are let in")
}

// TestMappingEnds: anybody gets in while the node is there, and nobody after
// Close; a node that shall not ask does not.
func TestMappingEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 20*time.Millisecond)
	h, router := w.routed("a")
	natlab.Miniupnpd(t, router)
	n := w.node(h, stunt.Config{ID: "a"})
	v4, _ := mappings(t, n)
	require.True(t, v4.Public.IsValid(), "%v", v4)
	dial := func(timeout time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), timeout)
		defer cancel()
		c, err := w.host.Dial(ctx, "tcp", v4.Public.String())
		if err == nil {
			c.Close()
		}
		return err
	}
	require.NoError(t, dial(30*time.Second))
	require.NoError(t, n.Close())
	require.Error(t, dial(200*time.Millisecond), "the router has forgotten it")

	shy := w.node(h, stunt.Config{ID: "a", NoPortMapping: true})
	v4, _ = mappings(t, shy)
	require.Zero(t, v4)
}

// TestPinhole opens the IPv6 firewall for a node whose server has IPv6.
func TestPinhole(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 20*time.Millisecond)
	if !w.host.Addr6().IsValid() {
		t.Skip("no IPv6 in this kernel")
	}
	w.server.Close()
	at := netip.AddrPortFrom(w.host.Addr6(), 3478).String()
	w.config.Listen = append(w.config.Listen, at)
	w.serve()
	h, router := w.routed("a")
	natlab.Miniupnpd(t, router)
	_, pin, _ := strings.Cut(w.server.Address(), "#")
	n := &stunt.Node{Config: stunt.Config{Server: at + "#" + pin, ID: "a", OpenSocket: h.Do}}
	defer n.Close()
	_, v6 := mappings(t, n)
	require.Equal(t, "pcp", v6.Protocol)
	require.Equal(t, h.Addr6(), v6.Public.Addr())
}

// TestMappedAgain: a router that has lost its mappings gets them again with the
// next session, here after the server has been away.
func TestMappedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 20*time.Millisecond)
	w.noIPv6 = true
	a, router := w.routed("a")
	b, _ := w.routed("b")
	daemon := natlab.Miniupnpd(t, router)
	alice, bob := w.node(a, stunt.Config{ID: "alice"}), w.node(b, stunt.Config{ID: "bob", NoPortMapping: true})
	ln := listen(t, alice, 0)
	v4, _ := mappings(t, alice)
	require.True(t, v4.Public.IsValid(), "%v", v4)

	daemon.Restart(t)
	w.server.Close()
	w.serve()
	require.Eventually(t, func() bool { // the names and the mapping come back one after the other
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		c, err := bob.Dial(ctx, "tcp", "alice")
		if err != nil {
			return false
		}
		defer c.Close()
		l := accept(t, ln)
		defer l.Close()
		return c.Path().Method == stunt.Direct
	}, time.Minute, time.Millisecond)
}
