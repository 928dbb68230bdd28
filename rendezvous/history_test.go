package rendezvous

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// at is a node with a key, seen from an address.
func at(key byte, addr string) party {
	return party{key: ed25519.PublicKey(append(make([]byte, 31), key)), observed: netip.AddrPortFrom(netip.MustParseAddr(addr), 1024)}
}

// concluded is a dial as both ends have reported it.
func concluded(from, to party, ends ...ending) *dial {
	return &dial{from: from, to: to, ends: [2]ending(ends)}
}

var failed = []ending{{}, {}}

func TestHistoryOfTwo(t *testing.T) {
	var h history
	a, b := at(1, "192.0.2.1"), at(2, "203.0.113.1")
	last := func(x, y party) string {
		way, _ := h.of(x, y, noon)
		return way
	}
	require.Empty(t, last(a, b))
	h.learn(concluded(a, b, ending{"plain", true}, ending{"guessed", true}), noon)
	require.Equal(t, "guessed/plain", last(a, b), "once is enough: both say so of themselves")
	require.Equal(t, "guessed/plain", last(b, a), "whoever asks")
	_, when := h.of(a, b, noon)
	require.Equal(t, noon, when)

	require.Empty(t, last(a, at(3, "203.0.113.1")), "another key at the same place")
	require.Empty(t, last(at(1, "198.51.100.1"), b), "the same key elsewhere")
	require.Empty(t, last(at(2, "192.0.2.1"), at(1, "203.0.113.1")), "the keys have changed places")

	six := at(1, "2001:db8:0:1::1")
	h.learn(concluded(six, b, worked("direct")...), noon)
	require.Equal(t, "direct", last(b, at(1, "2001:db8:0:1::2")), "a host of the same network")
	require.Empty(t, last(b, at(1, "2001:db8:0:2::1")))
}

// A direct path is believed at once, that there is none after two dials.
func TestHistoryFollowsChange(t *testing.T) {
	relay := worked(LastRelayed)
	direct, half := worked("direct"), []ending{{"direct", true}, {LastRelayed, true}}
	for _, tt := range []struct {
		name  string
		dials [][]ending
		want  string
		fails bool // Presence.NeedsRelay
	}{
		{"no path", [][]ending{failed}, LastNone, true},
		{"only by relay", [][]ending{relay}, LastRelayed, true},
		{"by relay, one end says", [][]ending{half}, "direct/relay", true},
		{"one failure after a path", [][]ending{direct, failed}, "direct", false},
		{"two failures after a path", [][]ending{direct, failed, failed}, LastNone, true},
		{"failures apart", [][]ending{direct, failed, direct, failed}, "direct", false},
		{"a failure, then by relay", [][]ending{direct, failed, relay}, LastRelayed, true},
		{"by relay, then a failure", [][]ending{relay, failed}, LastNone, true},
		{"found at last", [][]ending{failed, relay, failed, direct}, "direct", false},
		{"ends that disagree", [][]ending{{{"direct", true}, {}}, {{}, {"direct", true}}}, "", false},
		{"an end without a method", [][]ending{{{"direct", true}, {"", true}}}, "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var h history
			a, b := at(1, "192.0.2.1"), at(2, "203.0.113.1")
			for _, ends := range tt.dials {
				h.learn(concluded(a, b, ends...), noon)
			}
			way, _ := h.of(a, b, noon)
			require.Equal(t, tt.want, way)
			require.Equal(t, tt.fails, Presence{Last: way}.NeedsRelay())
		})
	}
	var h history
	given := concluded(at(1, "192.0.2.1"), at(2, "203.0.113.1"), failed...)
	given.canceled = true
	h.learn(given, noon)
	require.Empty(t, h.known, "a caller that gives up proves nothing")
}

func TestHistoryFades(t *testing.T) {
	var h history
	a, b := at(1, "192.0.2.1"), at(2, "203.0.113.1")
	h.learn(concluded(a, b, worked("direct")...), noon)
	h.learn(concluded(a, b, failed...), noon.Add(memoryTime))
	way, when := h.of(a, b, noon.Add(memoryTime))
	require.Equal(t, "direct", way)
	require.Equal(t, noon, when, "a failure that is not believed yet makes it no younger")
	later := noon.Add(memoryTime + time.Second)
	way, _ = h.of(a, b, later)
	require.Empty(t, way)
	require.Empty(t, h.list(later))
	h.learn(concluded(a, b, failed...), later)
	way, _ = h.of(a, b, later)
	require.Equal(t, LastNone, way, "what is too old is no reason to doubt the new")

	kinds := &hints{}
	for i := range 2 {
		kinds.learn(lesson("a", "b", i, worked("old")...), noon)
	}
	require.Empty(t, kinds.of(natsOf("a", "b"), later))
	require.Empty(t, kinds.list(later))
	for i := range 2 {
		kinds.learn(lesson("a", "b", i, worked("new")...), later)
	}
	require.Equal(t, "new", kinds.of(natsOf("a", "b"), later))
	require.Len(t, kinds.list(later), 1)
}

// addrOf is one of as many sources as there are numbers.
func addrOf(number int) string {
	return netip.AddrFrom4([4]byte{10, byte(number >> 16), byte(number >> 8), byte(number)}).String()
}

func TestHistoryIsBounded(t *testing.T) {
	var h history
	now := noon
	b := at(2, "203.0.113.1")
	for i := range 2 * maxIntroductions {
		h.learn(concluded(at(1, addrOf(i)), b, worked("direct")...), now)
	}
	require.Len(t, h.known, maxIntroductions, "one source can add only so many in an hour")
	first := at(1, addrOf(0))
	h.learn(concluded(first, b, failed...), now)
	h.learn(concluded(first, b, failed...), now)
	way, _ := h.of(first, b, now)
	require.Equal(t, LastNone, way, "but of those that are known it is heard")

	used := at(1, addrOf(1))
	for i := 0; len(h.known) < maxAcquainted; i++ {
		h.learn(concluded(at(3, addrOf(i)), at(4, addrOf(i)), worked("direct")...), now)
		if i%1000 == 0 {
			now = now.Add(time.Hour)
			h.learn(concluded(used, b, worked("direct")...), now)
		}
	}
	for i := range 1000 {
		h.learn(concluded(at(5, addrOf(i)), at(6, addrOf(i)), worked("direct")...), now)
	}
	require.Len(t, h.known, maxAcquainted)
	require.Equal(t, maxAcquainted, h.recent.Len())
	way, _ = h.of(used, b, now)
	require.Equal(t, "direct", way, "who dials stays")
	way, _ = h.of(first, b, now)
	require.Empty(t, way, "who has not for longest made room")
}

// The two are told, and nobody else; at the place where it was.
func TestLookupTellsOfTheLastTime(t *testing.T) {
	for _, ask := range []bool{false, true} {
		t.Run(fmt.Sprintf("ask %v", ask), func(t *testing.T) {
			h, a, b := pair(t, &Server{})
			require.NoError(t, b.Update(Info{Ask: ask}))
			require.NoError(t, a.Register(within(t), "alice"))
			lookup := func(n *node, id string) Presence {
				p, err := n.Lookup(within(t), id)
				require.NoError(t, err)
				return p
			}
			require.Empty(t, lookup(a, "bob").Last)
			require.True(t, lookup(a, "bob").LastAt.IsZero())

			caller, callee := play(t, a, b, "", "simultaneous-open", "simultaneous-open")
			require.Empty(t, caller+callee)
			p := lookup(a, "bob")
			require.Equal(t, "simultaneous-open", p.Last)
			require.False(t, p.NeedsRelay())
			require.WithinDuration(t, time.Now(), p.LastAt, time.Minute)
			require.Equal(t, p.Last, lookup(b, "alice").Last, "the other end knows as much")
			require.Equal(t, p.Last, lookup(a, b.fingerprint()).Last, "under each of its names")

			caller, callee = play(t, a, b, "", "", "")
			require.Equal(t, "simultaneous-open", caller, "what these two had is their hint")
			require.Equal(t, caller, callee)
			play(t, a, b, "", "", "")
			require.True(t, lookup(a, "bob").NeedsRelay())

			stranger := h.join(t, newKey(t))
			require.Empty(t, lookup(stranger, "bob").Last, "it is nobody else's business")
			var from net.Dialer
			from.LocalAddr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}
			moved := h.client(t, ClientConfig{Key: a.key, Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
				return from.DialContext(ctx, network, addr)
			}})
			if _, err := moved.Ready(within(t)); err != nil {
				t.Skipf("no second address of the loopback: %v", err) // as on macOS
			}
			require.Empty(t, lookup(moved, "bob").Last, "from another network it may be otherwise")
		})
	}
}

// An end that would have nothing but a relay has not tried what there is.
func TestNothingIsLearntFromRelayOnly(t *testing.T) {
	h, a, b := pair(t, &Server{})
	require.NoError(t, b.Update(Info{Kind: "eim"}))
	require.NoError(t, b.Register(within(t), "bob2"))
	for range 3 {
		play(t, a, b, "eim", MethodRelayOnly, LastRelayed)
		play(t, a, b, "eim", LastRelayed, MethodRelayOnly)
	}
	p, err := a.Lookup(within(t), "bob")
	require.NoError(t, err)
	require.Empty(t, p.Last)
	require.Empty(t, h.server.Hints())
	require.Contains(t, h.server.Outcomes(), OutcomeCount{MethodRelayOnly, true, 3})
}

// A peer that reports what was not so spoils what is known of itself.
func TestLiesAboutPairsStayThere(t *testing.T) {
	h, a, b := pair(t, &Server{})
	liar := h.join(t, newKey(t))
	require.NoError(t, b.Update(Info{Kind: "eim"}))
	play(t, a, b, "eim", "direct", "direct")
	for range 3 {
		play(t, liar, b, "eim", "", "")
	}
	p, err := a.Lookup(within(t), "bob")
	require.NoError(t, err)
	require.Equal(t, "direct", p.Last)
	p, err = liar.Lookup(within(t), "bob")
	require.NoError(t, err)
	require.Equal(t, LastNone, p.Last)
}
