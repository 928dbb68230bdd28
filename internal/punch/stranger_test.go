package punch

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt/internal/sock"
	"github.com/gostunt/stunt/probe"
)

// TestGuessesGoWhereTheServerSees: whatever a peer says of itself, nothing but a
// few plain attempts goes where its server has not seen it.
func TestGuessesGoWhereTheServerSees(t *testing.T) {
	victim := netip.MustParseAddrPort("203.0.113.9:50000")
	own := netip.MustParseAddr("198.51.100.1")
	report := func(m probe.Mapping, delta int, p probe.Ports) *probe.Report {
		return &probe.Report{Mapping: m, Delta: delta, Samples: 8, Ports: p, Public: []netip.Addr{victim.Addr()}}
	}
	reports := []*probe.Report{
		nil, report(probe.EIM, 0, probe.Ports{}),
		report(probe.APDM, 0, probe.Ports{Assignment: probe.Random, Lo: 1024, Hi: 65535, Pooling: probe.Arbitrary}),
		report(probe.APDM, 0, probe.Ports{Assignment: probe.Block, Lo: 20000, Hi: 20511}),
		report(probe.APDM, 1, probe.Ports{Assignment: probe.Sequential, Confidence: 1, Pooling: probe.Arbitrary}),
		report(probe.ADM, 1, probe.Ports{Assignment: probe.Sequential, Confidence: 1}),
	}
	lie := []Candidate{{Public, victim}, {Sample, victim}, {Mapped, victim}, {Host, netip.MustParseAddrPort("[2001:db8:9::1]:50000")}}
	for _, observed := range []netip.Addr{own, {}, netip.MustParseAddr("2001:db8::1")} {
		for i, mine := range reports {
			for j, theirs := range reports {
				for _, cs := range [][]Candidate{lie, lie[:2]} {
					m := Meeting{
						Mine:   Side{Candidates: []Candidate{server("192.0.2.1:40000"), host("[2001:db8::7]:40000")}, Report: mine, Observed: netip.MustParseAddr("192.0.2.1")},
						Theirs: Side{Candidates: cs, Report: theirs, Observed: observed},
					}
					for _, a := range m.Plan() {
						require.True(t, a.Stranger, "%v, reports %d and %d", a, i, j)
						require.Empty(t, a.Ports, "%v, reports %d and %d", a, i, j)
						require.LessOrEqual(t, a.Fresh, 1, "%v, reports %d and %d", a, i, j)
						require.Zero(t, a.Prime)
					}
				}
			}
		}
	}
}

// A NAT with a pool gives a peer other addresses than the one that the server has
// seen: the same network is as good, and its neighbours' are not.
func TestNear(t *testing.T) {
	for _, tt := range []struct {
		observed, ip   string
		near, stranger bool
	}{
		{"198.51.100.1", "198.51.100.1", true, false},
		{"198.51.100.1", "198.51.100.254", true, true}, // may be guessed at, but not be tried for long
		{"198.51.100.1", "198.51.101.1", false, true},
		{"198.51.100.1", "2001:db8::1", false, true},
		{"2001:db8::1", "2001:db8::ffff:2", true, false},
		{"2001:db8::1", "2001:db8:0:1::1", false, true},
		{"", "198.51.100.1", false, true},
	} {
		s := Side{}
		if tt.observed != "" {
			s.Observed = netip.MustParseAddr(tt.observed)
		}
		ip := netip.MustParseAddr(tt.ip)
		require.Equal(t, tt.near, s.near(ip), "%s of %s", tt.ip, tt.observed)
		require.Equal(t, tt.stranger, s.stranger(ip), "%s of %s", tt.ip, tt.observed)
	}
}

func TestStrangersAreCounted(t *testing.T) {
	var s strangers
	now := time.Unix(1e9, 0)
	taken := func(ip string) (n int) {
		for s.allow(netip.MustParseAddr(ip), now) {
			n++
		}
		return n
	}
	require.Equal(t, perStranger, taken("203.0.113.9"))
	require.Zero(t, taken("203.0.113.9"))
	require.Equal(t, perStranger, taken("203.0.113.10"), "one's share is not another's")
	require.Equal(t, perStranger, taken("2001:db8::1"))
	require.Zero(t, taken("2001:db8::2"), "a /64 is one subscriber")
	s.proved(netip.MustParseAddr("203.0.113.9"))
	require.Equal(t, perProof, taken("203.0.113.9"), "who was there may be tried again")
	for range 1000 {
		s.proved(netip.MustParseAddr("203.0.113.9"))
	}
	require.Equal(t, perStranger+maxProofs, taken("203.0.113.9"))
	s.proved(netip.MustParseAddr("203.0.113.11"))
	require.Equal(t, perStranger, taken("203.0.113.11"), "nothing is kept of whom we did not try")
	now = now.Add(strangerSpan)
	require.Equal(t, perStranger, taken("203.0.113.9"))
}

func TestStrangersKnownAreBounded(t *testing.T) {
	var s strangers
	now := time.Unix(1e9, 0)
	at := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}) }
	for i := range maxStrangersKnown {
		require.True(t, s.allow(at(i), now))
	}
	require.False(t, s.allow(at(maxStrangersKnown), now), "so many in a minute, and no more")
	require.True(t, s.allow(at(0), now))
	now = now.Add(strangerSpan)
	require.True(t, s.allow(at(maxStrangersKnown), now))
	require.Len(t, s.at, 1)
}

// A dial tries so many strangers, over the Ringing and the Answer together.
func TestRaceMeetsFewStrangers(t *testing.T) {
	r := &Race{}
	met := make(map[netip.Addr]bool)
	for i := range 100 {
		for _, form := range []string{"203.0.113.%d:4000", "203.0.113.%d:4001", "[2001:db8:%d::1]:4000", "10.0.0.%d:4000", "[fd00::%d]:4000"} {
			a := Attempt{To: netip.MustParseAddrPort(fmt.Sprintf(form, i)), Stranger: true}
			if r.room(a) {
				r.tries = append(r.tries, &Try{Attempt: a})
				met[a.To.Addr()] = true
			}
		}
	}
	require.Len(t, met, maxStrangers+maxInside)
	require.True(t, r.room(Attempt{To: netip.MustParseAddrPort("198.51.100.1:4000")}), "beside these, whom the server has seen")
}

// A budget that allows no guess does not hold up anything else.
func TestPlainSYNsAreNoGuesses(t *testing.T) {
	b := NewBudget(0, 0)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for range plainSYNs {
		require.NoError(t, b.plain(ctx, Attempt{}, netip.MustParseAddr("198.51.100.1")))
	}
	require.Less(t, b.plains.Tokens(), float64(plainSYNs), "they are counted")
}

// Who is tried as a stranger gets a few SYNs of a dial, and a few more of all.
func TestStrangerGetsFewSYNs(t *testing.T) {
	t.Parallel()
	closed, err := (*sock.Net)(nil).Listen(t.Context(), sock.Loopback(0))
	require.NoError(t, err)
	addr := sock.AddrPort(closed.Addr())
	closed.Close()
	budget := NewBudget(1, 1000)
	var all int
	for dial := range 5 {
		e := newEnd(t)
		e.race, err = NewRace(Config{Door: &e.door, Port: e.port, ID: [16]byte{byte(dial) + 1}, Dialer: true, Window: 20 * time.Second, Budget: budget})
		require.NoError(t, err)
		e.race.Fire([]Attempt{{To: addr, Method: SimOpen, Stranger: true}})
		want := max(min(maxTriesOfStranger, perStranger-all), 0)
		require.Eventually(t, func() bool {
			try := e.race.Tries()[0]
			return try.SYNs >= want && try.Err != nil
		}, 10*time.Second, time.Millisecond)
		e.race.Stop()
		<-e.race.Done()
		require.LessOrEqual(t, e.race.Tries()[0].SYNs, maxTriesOfStranger)
		all += e.race.Tries()[0].SYNs
	}
	require.Equal(t, perStranger, all)
}
