package natlab

import (
	"fmt"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt/internal/sock"
	"github.com/gostunt/stunt/natlab/nat"
)

// seen is what two servers see of a NAT.
type seen struct {
	mapping    string
	preserving bool
	filtering  nat.FilteringBehavior
	refusal    string // what a SYN that is not let in gets
}

// The words for mapping.
const (
	independent = "one endpoint for all"
	perAddress  = "one per address"
	perPort     = "one per address and port"
	perSession  = "one per connection"
)

// observe finds a router's behaviour with plain sockets on a host behind it
// and on two servers, as the classical tests do (RFC 5780 section 4).
func (w *world) observe(t testing.TB) (s seen) {
	t.Helper()
	s.filtering, s.refusal = w.filtering(t) // first: alice has met s1:p only
	s.preserving = w.mapped.Port() == portAlice
	otherPort, otherAddr := w.seenFrom(t, w.s1, portQ), w.seenFrom(t, w.s2, portP)
	switch {
	case !w.repeats(t):
		s.mapping = perSession
	case otherPort != w.mapped:
		s.mapping = perPort
	case otherAddr != w.mapped:
		s.mapping = perAddress
	default:
		s.mapping = independent
	}
	return s
}

// repeats reports whether a second connection between two endpoints, after a
// RST has ended the first, has the same public endpoint.
func (w *world) repeats(t testing.TB) bool {
	t.Helper()
	ln := listen(t, w.s1, w.s1.AddrPort(portR))
	near, far := connect(t, w.alice, w.alice.AddrPort(portAlice), ln)
	first := sock.AddrPort(far.RemoteAddr())
	sock.Abort(near)
	w.await(t, "s1 receive", flow(first, w.s1.AddrPort(portR), "RA"))
	_, far = connect(t, w.alice, w.alice.AddrPort(portAlice), ln)
	return sock.AddrPort(far.RemoteAddr()) == first
}

// filtering knocks from ever nearer: at a port without mapping, then at the
// mapped one from another address, then from another port of the server.
func (w *world) filtering(t testing.TB) (f nat.FilteringBehavior, refusal string) {
	t.Helper()
	for _, try := range []struct {
		from *Host
		to   netip.AddrPort
		in   nat.FilteringBehavior
	}{
		{w.s2, netip.AddrPortFrom(w.mapped.Addr(), portFresh), nat.Open},
		{w.s2, w.mapped, nat.EIF},
		{w.s1, w.mapped, nat.ADF},
	} {
		outcome := w.knock(t, try.from, try.to)
		if outcome == "in" {
			return try.in, refusal
		}
		refusal = outcome
	}
	return nat.APDF, refusal
}

// expected is what a NAT of that behaviour looks like from outside.
func expected(c nat.Config) seen {
	s := seen{
		mapping:    [...]string{independent, perAddress, perPort, perSession}[c.Mapping],
		preserving: c.Assignment == nat.Preserving,
		filtering:  c.Filtering,
	}
	if c.Overload && s.preserving {
		s.mapping = independent // every mapping gets the port that the host has
	}
	switch {
	case c.Filtering == nat.Open: // nothing was refused
	case c.Unsolicited == nat.Silence, c.AnswerAfter > 0:
		s.refusal = "dropped"
	case c.Unsolicited == nat.RST:
		s.refusal = "refused"
	default:
		s.refusal = "unreachable"
	}
	return s
}

func TestProfilesFromOutside(t *testing.T) {
	t.Parallel()
	for _, p := range nat.Profiles() {
		t.Run(p.Name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 1, func(l *Lab) router { return l.NAT("nat", nil, p.Config, Link{}) })
			require.Equal(t, expected(p.Config), w.observe(t))
		})
	}
}

// The simulated Linux router is held against the real one.
func TestKernelNATFromOutside(t *testing.T) {
	t.Parallel()
	for m, profile := range map[Masquerade]string{Plain: "linux", Random: "linux-random", FullyRandom: "linux-random"} {
		t.Run(m.String(), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 1, func(l *Lab) router { return l.KernelNAT("nat", nil, m, Link{}) })
			c, ok := nat.Profile(profile)
			require.True(t, ok)
			want := expected(c)
			if m != Plain {
				// Every connection is a conntrack entry with a port of its own,
				// also one between the same endpoints as one before.
				want.mapping = perSession
			}
			require.Equal(t, want, w.observe(t))
		})
	}
}

// What an unsolicited SYN gets, at once and after a while, as the errno that a
// connecting socket reports.
func TestAnswersToUnsolicited(t *testing.T) {
	t.Parallel()
	for answer, want := range map[nat.Answer]syscall.Errno{
		nat.RST:             syscall.ECONNREFUSED,
		nat.PortUnreachable: syscall.ECONNREFUSED,
		nat.HostUnreachable: syscall.EHOSTUNREACH,
		nat.AdminProhibited: syscall.EHOSTUNREACH,
	} {
		for _, after := range []time.Duration{0, 50 * time.Millisecond} {
			t.Run(fmt.Sprint(answer, " after ", after), func(t *testing.T) {
				t.Parallel()
				lab := Start(t, Config{})
				n := lab.NAT("nat", nil, nat.Config{Unsolicited: answer, AnswerAfter: after}, Link{Hops: 2})
				s := lab.Host("s", nil, Link{})
				begin := time.Now()
				err := <-start(t, s, netip.AddrPort{}, netip.AddrPortFrom(n.Public()[0], portFresh), 0).err
				require.ErrorIs(t, err, want)
				require.GreaterOrEqual(t, time.Since(begin), after)
			})
		}
	}
}

// An RST or an ICMP error for a half-open mapping closes it or does not: the
// server that refused dials back to see.
func TestErrorsOnHalfOpenMappings(t *testing.T) {
	t.Parallel()
	closing := nat.Reaction{Close: true}
	for _, test := range []struct {
		name string
		c    nat.Config
		ttl  int // of alice's SYN; the NAT is the first hop, then there are two
		want error
		in   bool // the server reaches alice afterwards
	}{
		{"rst keeps", nat.Config{}, 0, syscall.ECONNREFUSED, true},
		{"rst closes", nat.Config{OnRST: closing}, 0, syscall.ECONNREFUSED, false},
		{"icmp keeps", nat.Config{}, 3, syscall.EHOSTUNREACH, true},
		{"icmp closes", nat.Config{OnICMP: closing}, 3, syscall.EHOSTUNREACH, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := &watch{changed: make(chan struct{})}
			lab := Start(t, Config{Trace: w})
			test.c.Filtering, test.c.Unsolicited = nat.APDF, nat.RST
			n := lab.NAT("nat", nil, test.c, Link{Hops: 2})
			alice, s := lab.Host("alice", n, Link{}), lab.Host("s", nil, Link{})
			listen(t, alice, alice.AddrPort(portAlice))
			err := <-start(t, alice, alice.AddrPort(portAlice), s.AddrPort(portP), test.ttl).err
			require.ErrorIs(t, err, test.want)
			public := netip.AddrPortFrom(n.Public()[0], portAlice)
			err = <-start(t, s, s.AddrPort(portP), public, 0).err
			if test.in {
				require.NoError(t, err, "the mapping should have lived on")
			} else {
				require.ErrorIs(t, err, syscall.ECONNREFUSED, "the mapping should be gone")
			}
		})
	}
}

func TestHairpin(t *testing.T) {
	t.Parallel()
	for h, source := range map[nat.Hairpinning]func(*NAT, *Host) netip.Addr{
		nat.NoHairpin:       nil,
		nat.HairpinExternal: func(n *NAT, _ *Host) netip.Addr { return n.Public()[0] },
		nat.HairpinInternal: func(_ *NAT, alice *Host) netip.Addr { return alice.Addr() },
	} {
		t.Run(fmt.Sprint(h), func(t *testing.T) {
			t.Parallel()
			w := newWatch()
			lab := Start(t, Config{Trace: w})
			n := lab.NAT("nat", nil, nat.Config{Filtering: nat.EIF, Hairpin: h}, Link{})
			alice, bob := lab.Host("alice", n, Link{}), lab.Host("bob", n, Link{})
			s := lab.Host("s", nil, Link{})
			connect(t, bob, bob.AddrPort(portAlice), listen(t, s, s.AddrPort(portP))) // makes the mapping
			listen(t, bob, bob.AddrPort(portAlice))
			public := netip.AddrPortFrom(n.Public()[0], portAlice)
			a := start(t, alice, alice.AddrPort(portFresh), public, 0)
			if source == nil {
				w.await(t, "nat drop: not let out", flow(alice.AddrPort(portFresh), public, "S"))
				return
			}
			w.await(t, "bob receive", flow(netip.AddrPortFrom(source(n, alice), portFresh), bob.AddrPort(portAlice), "S"))
			if h == nat.HairpinExternal {
				require.NoError(t, <-a.err)
			} // else bob's SYN-ACK comes from where alice has not dialled
		})
	}
}

func TestRebootLosesMappings(t *testing.T) {
	t.Parallel()
	c, _ := nat.Profile("apdm-delta1")
	w := newWorld(t, 1, func(l *Lab) router { return l.NAT("nat", nil, c, Link{}) })
	w.seenFrom(t, w.s1, portQ)
	w.router.(*NAT).Reboot()
	_, err := w.kept[1].Write([]byte("lost"))
	require.NoError(t, err)
	w.await(t, "nat drop: not let in", flow(w.s1.AddrPort(portP), w.mapped, "PA"))
	require.Equal(t, w.mapped, w.seenFrom(t, w.s2, portQ), "the ports begin anew")
}

// A hole that a SYN left behind lets its destination in, until time goes by:
// the connection that stands is there after that, too.
func TestAgeClosesHoles(t *testing.T) {
	t.Parallel()
	linux, _ := nat.Profile("linux")
	for name, place := range map[string]func(*Lab) router{
		"ours":   func(l *Lab) router { return l.NAT("nat", nil, linux, Link{}) },
		"kernel": func(l *Lab) router { return l.KernelNAT("nat", nil, Plain, Link{}) },
	} {
		for _, aged := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/%v", name, aged), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, 1, place)
				to := w.s2.AddrPort(portKnock + 1) // where the knock comes from
				w.s2.SetLink(Link{Down: true})
				a := start(t, w.alice, w.alice.AddrPort(portAlice), to, 0)
				w.await(t, "s2 down drop: link down", flow(w.mapped, to, "S"))
				a.cancel()
				<-a.err // no more SYNs
				w.s2.SetLink(Link{})
				want := "in"
				if aged {
					require.NoError(t, w.Age())
					want = "dropped"
				}
				require.Equal(t, want, w.knock(t, w.s2, w.mapped))
			})
		}
	}
}

func TestPools(t *testing.T) {
	t.Parallel()
	for pooling, want := range map[nat.Pooling]int{nat.Paired: 1, nat.Arbitrary: 3} {
		t.Run(fmt.Sprint(pooling), func(t *testing.T) {
			t.Parallel()
			lab := Start(t, Config{})
			n := lab.NAT("nat", nil, nat.Config{Mapping: nat.APDM, Pooling: pooling}, Link{Addresses: 3})
			require.Len(t, n.Public(), 3)
			alice, s := lab.Host("alice", n, Link{}), lab.Host("s", nil, Link{})
			used := map[netip.Addr]bool{}
			for port := range uint16(24) {
				_, far := connect(t, alice, netip.AddrPort{}, listen(t, s, s.AddrPort(1000+port)))
				used[sock.AddrPort(far.RemoteAddr()).Addr()] = true
			}
			require.Len(t, used, want)
		})
	}
}

// The same seed gives the same ports, another one others.
func TestSeedDecidesPorts(t *testing.T) {
	t.Parallel()
	ports := func(seed uint64) (ps []uint16) {
		c := nat.Config{Mapping: nat.APDM, Assignment: nat.Random}
		w := newWorld(t, seed, func(l *Lab) router { return l.NAT("nat", nil, c, Link{}) })
		for port := range uint16(8) {
			ps = append(ps, w.seenFrom(t, w.s1, 1000+port).Port())
		}
		return ps
	}
	first := ports(7)
	require.Equal(t, first, ports(7))
	require.NotEqual(t, first, ports(8))
}
