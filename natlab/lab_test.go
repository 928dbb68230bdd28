package natlab

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/gostunt/stunt/internal/sock"
	"github.com/gostunt/stunt/natlab/nat"
)

// families are the two ways to reach a host.
func families(h *Host, port uint16) map[string]netip.AddrPort {
	return map[string]netip.AddrPort{"IPv4": h.AddrPort(port), "IPv6": netip.AddrPortFrom(h.Addr6(), port)}
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	lab := Start(t, Config{})
	outer := lab.NAT("outer", nil, nat.Config{}, Link{Delay: 3 * time.Millisecond, Hops: 2})
	inner := lab.KernelNAT("inner", outer, Plain, Link{Delay: 2 * time.Millisecond})
	a, b := lab.Host("a", inner, Link{Delay: time.Millisecond}), lab.Host("b", outer, Link{})
	s := lab.Host("s", nil, Link{Delay: 4 * time.Millisecond, Jitter: time.Millisecond})
	require.Equal(t, 20*time.Millisecond, lab.RTT(a, s))
	require.Equal(t, 20*time.Millisecond, lab.RTT(s, a))
	require.Equal(t, 6*time.Millisecond, lab.RTT(a, b), "they meet inside outer")
	require.Zero(t, lab.RTT(b, b))
	for family, to := range families(s, portP) {
		ln := listen(t, s, to)
		begin := time.Now()
		near, far := connect(t, a, netip.AddrPort{}, ln)
		require.GreaterOrEqual(t, time.Since(begin), lab.RTT(a, s), family)
		pass(t, near, far)
	}
}

// A SYN dies at every router on the way, each of which says so; that ends the
// connecting socket.
func TestTTL(t *testing.T) {
	t.Parallel()
	for name, make := range map[string]func(*Lab) router{
		"ours":   func(l *Lab) router { return l.NAT("nat", nil, nat.Config{}, Link{Hops: 3, Delay: time.Millisecond}) },
		"kernel": func(l *Lab) router { return l.KernelNAT("nat", nil, Plain, Link{Hops: 3, Delay: time.Millisecond}) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWatch()
			lab := Start(t, Config{Trace: w})
			a, s := lab.Host("a", make(lab), Link{}), lab.Host("s", nil, Link{Hops: 2, Delay: time.Millisecond})
			for family, to := range families(s, portP) {
				listen(t, s, to)
				routers := map[string]bool{}
				for ttl := 1; ttl <= 6; ttl++ { // the NAT, three routers, two routers
					local := netip.AddrPortFrom(a.Addr(), uint16(portAlice+ttl))
					if to.Addr().Is6() {
						local = netip.AddrPortFrom(a.Addr6(), local.Port())
					}
					require.ErrorIs(t, <-start(t, a, local, to, ttl).err, syscall.EHOSTUNREACH, "%s TTL %d", family, ttl)
					line := w.await(t, "a receive", "time exceeded", pair(local, to))
					routers[strings.Fields(line)[3]] = true
				}
				require.Len(t, routers, 6, "%s: %v", family, routers)
				require.NoError(t, <-start(t, a, netip.AddrPort{}, to, 7).err, family)
			}
		})
	}
}

// A packet larger than a link is answered, the host sends smaller ones, and
// bulk data gets through.
func TestMTU(t *testing.T) {
	t.Parallel()
	w := newWatch()
	lab := Start(t, Config{Trace: w})
	n := lab.NAT("nat", nil, nat.Config{}, Link{MTU: 1300, Hops: 1})
	a, s := lab.Host("a", n, Link{}), lab.Host("s", nil, Link{})
	for family, to := range families(s, portP) {
		near, far := connect(t, a, netip.AddrPort{}, listen(t, s, to))
		for _, dir := range [][2]net.Conn{{near, far}, {far, near}} {
			bulk(t, dir[0], dir[1], 64<<10)
		}
		name := map[string]string{"IPv4": "unreachable (code 4)", "IPv6": "packet too big"}[family]
		w.await(t, "a receive", name)
		w.await(t, "s receive", name)
	}
}

// bulk sends n bytes and checks that they arrive.
func bulk(t testing.TB, from, to net.Conn, n int) {
	t.Helper()
	data := bytes.Repeat([]byte("0123456789abcdef"), n/16)
	var g errgroup.Group
	g.Go(func() error { _, err := from.Write(data); return err })
	require.NoError(t, to.SetReadDeadline(time.Now().Add(patience)))
	got := make([]byte, n)
	_, err := io.ReadFull(to, got)
	require.NoError(t, err)
	require.True(t, bytes.Equal(data, got))
	require.NoError(t, g.Wait())
}

func TestBadLinksDeliver(t *testing.T) {
	t.Parallel()
	for name, link := range map[string]Link{
		"loss":    {Loss: 0.02, Delay: time.Millisecond},
		"jitter":  {Jitter: 3 * time.Millisecond},
		"reorder": {Jitter: 3 * time.Millisecond, Reorder: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWatch()
			lab := Start(t, Config{Seed: 3, Trace: w})
			a, s := lab.Host("a", nil, link), lab.Host("s", nil, Link{})
			near, far := connect(t, a, netip.AddrPort{}, listen(t, s, s.AddrPort(portP)))
			bulk(t, far, near, 256<<10)
			require.Equal(t, link.Loss > 0, w.has("drop: lost"))
		})
	}
}

func TestLinkDown(t *testing.T) {
	t.Parallel()
	w := newWatch()
	lab := Start(t, Config{Trace: w})
	a, s := lab.Host("a", nil, Link{Down: true}), lab.Host("s", nil, Link{})
	ln := listen(t, s, s.AddrPort(portP))
	d := start(t, a, netip.AddrPort{}, s.AddrPort(portP), 0)
	w.await(t, "a up drop: link down", "S seq")
	a.SetLink(Link{})
	accept(t, ln) // the SYN that the kernel sends again
	require.NoError(t, <-d.err)
}

func TestSplit(t *testing.T) {
	t.Parallel()
	w := newWatch()
	lab := Start(t, Config{Trace: w})
	a, b, s := lab.Host("a", nil, Link{}), lab.Host("b", nil, Link{}), lab.Host("s", nil, Link{})
	ln := listen(t, s, s.AddrPort(portP))
	heal := lab.Split([]*Host{a}, []*Host{s})
	d := start(t, a, netip.AddrPort{}, s.AddrPort(portP), 0)
	w.await(t, "internet drop: split", "S seq")
	near, far := connect(t, b, netip.AddrPort{}, ln)
	pass(t, near, far)
	heal()
	accept(t, ln) // the SYN that the kernel sends again
	require.NoError(t, <-d.err)
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	lab := Start(t, Config{})
	s := lab.Host("s", nil, Link{NoIPv6: true})
	require.False(t, s.Addr6().IsValid())
	second := s.AddAddr()
	require.NotEqual(t, s.Addr(), second)
	a := lab.Host("a", nil, Link{})
	near, far := connect(t, a, netip.AddrPort{}, listen(t, s, netip.AddrPortFrom(second, portP)))
	pass(t, near, far)

	old := lab.NAT("old", nil, nat.Config{}, Link{NoIPv6: true})
	require.False(t, old.Public6().IsValid())
	require.False(t, lab.Host("b", lab.NAT("nested", old, nat.Config{}, Link{}), Link{}).Addr6().IsValid())

	prefixes, err := a.tcp().Prefixes()
	require.NoError(t, err)
	require.Equal(t, []netip.Prefix{netip.PrefixFrom(a.Addr(), 32), netip.PrefixFrom(a.Addr6(), 128)}, prefixes)
}

// Two homes with the same private network: the address that one host calls its
// own is another's there.
func TestSamePrivate(t *testing.T) {
	t.Parallel()
	lab := Start(t, Config{SamePrivate: true})
	na, nb := lab.NAT("nat-a", nil, nat.Config{}, Link{}), lab.NAT("nat-b", nil, nat.Config{}, Link{})
	require.Equal(t, na.Private(), nb.Private())
	a, other := lab.Host("a", na, Link{}), lab.Host("other", na, Link{})
	lab.Host("first", nb, Link{})
	b := lab.Host("b", nb, Link{})
	require.Equal(t, other.Addr(), b.Addr())
	ca, cb := open(t, a, b, public(na), public(nb))
	pass(t, ca, cb)
	// What a dials by b's private address is the neighbour.
	_, far := connect(t, a, netip.AddrPort{}, listen(t, other, other.AddrPort(portP)))
	require.Equal(t, a.Addr(), sock.AddrPort(far.RemoteAddr()).Addr(), "no translation within a network")
}

func TestVeth(t *testing.T) {
	t.Parallel()
	lab := Start(t, Config{})
	a, b := lab.Host("a", nil, Link{}), lab.Host("b", nil, Link{})
	_, addrB, err := lab.Veth(a, b)
	require.NoError(t, err)
	near, far := connect(t, a, netip.AddrPort{}, listen(t, b, netip.AddrPortFrom(addrB, portP)))
	bulk(t, near, far, 1<<20)
}

func TestPcap(t *testing.T) {
	t.Parallel()
	var file bytes.Buffer
	lab := Start(t, Config{Pcap: &file})
	n := lab.NAT("nat", nil, nat.Config{}, Link{})
	a, s := lab.Host("a", n, Link{}), lab.Host("s", nil, Link{})
	for _, to := range families(s, portP) {
		near, far := connect(t, a, netip.AddrPort{}, listen(t, s, to))
		bulk(t, near, far, 4<<10)
	}
	require.NoError(t, lab.Close())

	r, err := pcapgo.NewReader(&file)
	require.NoError(t, err)
	require.Equal(t, layers.LinkTypeRaw, r.LinkType())
	sources := map[string]int{}
	for {
		b, info, err := r.ReadPacketData()
		if err == io.EOF {
			break
		}
		require.NoError(t, err)
		require.Less(t, time.Since(info.Timestamp), time.Hour)
		p := gopacket.NewPacket(b, layers.LinkTypeRaw, gopacket.Default)
		require.Nil(t, p.ErrorLayer(), "%v", p)
		require.NotNil(t, p.TransportLayer())
		sources[p.NetworkLayer().NetworkFlow().Src().String()]++
	}
	for _, a := range []netip.Addr{a.Addr(), n.Public()[0], a.Addr6(), s.Addr(), s.Addr6()} {
		require.NotZero(t, sources[a.String()], "packets from %v", a)
	}
}

// Do is for thousands of calls, many of them blocked, from anywhere.
func TestDo(t *testing.T) {
	t.Parallel()
	lab := Start(t, Config{})
	hosts := []*Host{lab.Host("a", nil, Link{}), lab.Host("b", nil, Link{})}
	hold := make(chan struct{})
	var g errgroup.Group
	for i := range 400 {
		g.Go(func() error {
			h := hosts[i%2]
			return h.Do(func() error {
				if i < 100 {
					<-hold
				}
				addrs, err := net.InterfaceAddrs()
				if !strings.Contains(fmt.Sprint(addrs), h.Addr().String()+"/32") {
					return fmt.Errorf("%s has %v: %w", h.Name(), addrs, err)
				}
				return nil
			})
		})
		if i == 399 {
			close(hold)
		}
	}
	require.NoError(t, g.Wait())
	require.ErrorIs(t, hosts[0].Do(func() error { return io.ErrShortWrite }), io.ErrShortWrite)
	require.Panics(t, func() { hosts[0].Do(func() error { panic("passed on") }) })

	addrs, err := net.InterfaceAddrs()
	require.NoError(t, err)
	require.NotContains(t, fmt.Sprint(addrs), "198.18", "the test itself is in no host")
}

func TestCommand(t *testing.T) {
	t.Parallel()
	lab := Start(t, Config{})
	h := lab.Host("h", nil, Link{})
	out, err := h.Command("/bin/cat", "/proc/self/net/dev").Output()
	require.NoError(t, err)
	require.Contains(t, string(out), hostTUN)
	require.Error(t, h.Command("/does/not/exist").Run())

	sleeper := h.Command("/bin/sleep", "3600")
	sleeper.Stderr = os.Stderr
	require.NoError(t, sleeper.Start())
	require.NoError(t, lab.Close(), "Close kills what still runs, and waits")
	require.ErrorContains(t, sleeper.Wait(), "killed")
	require.Error(t, h.Command("/bin/true").Start(), "the lab is closed")
	require.Error(t, h.Do(func() error { return nil }), "the lab is closed")
}

func TestWrongDescriptions(t *testing.T) {
	t.Parallel()
	lab, other := Start(t, Config{}), Start(t, Config{})
	lab.Host("a", nil, Link{})
	require.PanicsWithValue(t, "natlab: a: the name is taken", func() { lab.NAT("a", nil, nat.Config{}, Link{}) })
	require.Panics(t, func() { lab.Host("b", other.Internet(), Link{}) }, "a place of another lab")
	require.Panics(t, func() { lab.NAT("c", nil, nat.Config{Delta: 1, First: 1, Ports: nat.Ports{Lo: 5, Hi: 6}}, Link{}) })
	require.NoError(t, lab.Close())
	require.NoError(t, lab.Close())
	require.Panics(t, func() { lab.Host("late", nil, Link{}) })
}
