package natlab

import (
	"context"
	"net"
	"net/netip"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/gostunt/stunt/natlab/nat"
)

// open is a simultaneous open between two hosts that know each other's public
// endpoint, with one kept socket each.
func open(t testing.TB, a, b *Host, publicA, publicB netip.AddrPort) (ca, cb net.Conn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var g errgroup.Group
	dial := func(h *Host, to netip.AddrPort, c *net.Conn) {
		local := netip.AddrPortFrom(h.Addr(), portAlice)
		if to.Addr().Is6() {
			local = netip.AddrPortFrom(h.Addr6(), portAlice)
		}
		g.Go(func() (err error) {
			*c, err = h.tcp().Dial(ctx, local, to, 0)
			return err
		})
	}
	dial(a, publicB, &ca)
	dial(b, publicA, &cb)
	require.NoError(t, g.Wait())
	t.Cleanup(func() { ca.Close(); cb.Close() })
	return ca, cb
}

// public is the public endpoint of portAlice behind NATs that preserve ports.
func public(n router) netip.AddrPort { return netip.AddrPortFrom(n.Public()[0], portAlice) }

func TestSimultaneousOpen(t *testing.T) {
	t.Parallel()
	home := func(name string) nat.Config {
		c, ok := nat.Profile(name)
		require.True(t, ok)
		return c
	}
	for _, profile := range []string{"eim-apdf", "eim-adf", "eim-eif", "linux", "seq-rewrite", "no-synack-out"} {
		t.Run(profile, func(t *testing.T) {
			t.Parallel()
			lab := Start(t, Config{})
			na, nb := lab.NAT("nat-a", nil, home(profile), Link{Hops: 3}), lab.NAT("nat-b", nil, home("eim-apdf"), Link{Hops: 2})
			a, b := lab.Host("a", na, Link{}), lab.Host("b", nb, Link{})
			ca, cb := open(t, a, b, public(na), public(nb))
			pass(t, ca, cb)
		})
	}
	t.Run("two kernels", func(t *testing.T) {
		t.Parallel()
		lab := Start(t, Config{})
		na, nb := lab.KernelNAT("nat-a", nil, Plain, Link{}), lab.KernelNAT("nat-b", nil, Plain, Link{})
		a, b := lab.Host("a", na, Link{}), lab.Host("b", nb, Link{})
		ca, cb := open(t, a, b, public(na), public(nb))
		pass(t, ca, cb)
	})
	t.Run("nested", func(t *testing.T) {
		t.Parallel()
		lab := Start(t, Config{})
		carrier := lab.NAT("carrier", nil, nat.Config{}, Link{Hops: 1})
		home := lab.NAT("home", carrier, nat.Config{}, Link{Hops: 1})
		other := lab.NAT("other", nil, nat.Config{}, Link{})
		require.True(t, carrier.Private().Contains(home.Public()[0]))
		a, b := lab.Host("a", home, Link{}), lab.Host("b", other, Link{})
		ca, cb := open(t, a, b, public(carrier), public(other))
		pass(t, ca, cb)
	})
}

// Where both NATs refuse a SYN after a SYN, simultaneous open is impossible.
func TestRefusedSYN(t *testing.T) {
	t.Parallel()
	w := newWatch()
	lab := Start(t, Config{Trace: w})
	c := nat.Config{RefuseSYNIn: true}
	na, nb := lab.NAT("nat-a", nil, c, Link{}), lab.NAT("nat-b", nil, c, Link{})
	a, b := lab.Host("a", na, Link{}), lab.Host("b", nb, Link{})
	start(t, a, a.AddrPort(portAlice), public(nb), 0)
	w.await(t, "nat-b drop: not let in", flow(public(na), public(nb), "S"))
	start(t, b, b.AddrPort(portAlice), public(na), 0)
	w.await(t, "nat-a drop: not let in", flow(public(nb), public(na), "S"))
}

// The numbers on the two sides of a NAT differ if it rewrites them.
func TestSequenceNumbers(t *testing.T) {
	t.Parallel()
	for rewrite, name := range map[bool]string{false: "kept", true: "rewritten"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 1, func(l *Lab) router { return l.NAT("nat", nil, nat.Config{RewriteSeq: rewrite}, Link{}) })
			pass(t, w.kept[0], w.kept[1])
			seq := func(place string, src netip.AddrPort) string {
				line := w.await(t, place, flow(src, w.s1.AddrPort(portP), "S"))
				return regexp.MustCompile(`seq \d+`).FindString(line)
			}
			inside, outside := seq("alice send", w.alice.AddrPort(portAlice)), seq("nat out", w.mapped)
			require.Equal(t, rewrite, inside != outside, "%s and %s", inside, outside)
		})
	}
}

// IPv6 is not translated; what is unsolicited is dropped, and two SYNs that
// cross open both firewalls.
func TestFirewalls(t *testing.T) {
	t.Parallel()
	for name, make := range map[string]func(l *Lab, name string) router{
		"ours":   func(l *Lab, name string) router { return l.NAT(name, nil, nat.Config{}, Link{Hops: 1}) },
		"kernel": func(l *Lab, name string) router { return l.KernelNAT(name, nil, Plain, Link{Hops: 1}) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWatch()
			lab := Start(t, Config{Trace: w})
			na, nb := make(lab, "nat-a"), make(lab, "nat-b")
			a, b := lab.Host("a", na, Link{}), lab.Host("b", nb, Link{})
			endA, endB := netip.AddrPortFrom(a.Addr6(), portAlice), netip.AddrPortFrom(b.Addr6(), portAlice)

			early := start(t, a, netip.AddrPortFrom(a.Addr6(), portP), endB, 0)
			ca, cb := open(t, a, b, endA, endB)
			require.Equal(t, endA.String(), cb.RemoteAddr().String(), "no translation")
			pass(t, ca, cb)
			require.False(t, w.has("b receive", netip.AddrPortFrom(a.Addr6(), portP).String()), "the unsolicited SYN came in")
			early.cancel()
			require.Error(t, <-early.err)
		})
	}
}

// Nested firewalls, each with a network of its own.
func TestNestedFirewalls(t *testing.T) {
	t.Parallel()
	lab := Start(t, Config{})
	outer := lab.NAT("outer", nil, nat.Config{}, Link{Hops: 1})
	inner := lab.NAT("inner", outer, nat.Config{}, Link{Hops: 1})
	a, s := lab.Host("a", inner, Link{}), lab.Host("s", nil, Link{})
	require.True(t, inner.Public6().Contains(a.Addr6()))
	near, far := connect(t, a, netip.AddrPort{}, listen(t, s, netip.AddrPortFrom(s.Addr6(), portP)))
	require.Equal(t, near.LocalAddr().String(), far.RemoteAddr().String())
	pass(t, near, far)
}
