package rendezvous

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// lesson is a dial between two kinds of NAT as both ends have reported it, from
// sources that no other lesson with another number has.
func lesson(a, b string, number int, ends ...ending) *dial {
	at := func(net byte) party {
		ip := netip.AddrFrom4([4]byte{net, byte(number >> 16), byte(number >> 8), byte(number)})
		return party{observed: netip.AddrPortFrom(ip, 1024)}
	}
	return &dial{from: at(192), to: at(203), nats: natsOf(a, b), ends: [2]ending(ends)}
}

func worked(method string) []ending { return []ending{{method, true}, {method, true}} }

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func TestHintsLearn(t *testing.T) {
	h := &hints{}
	both := natsOf("eim", "apdm")
	require.Equal(t, both, natsOf("apdm", "eim"), "whoever dials")
	require.Empty(t, h.of(both, noon))
	h.learn(lesson("eim", "apdm", 0, worked("direct")...), noon)
	require.Empty(t, h.of(both, noon), "once may be chance")
	h.learn(lesson("apdm", "eim", 1, worked("direct")...), noon)
	require.Equal(t, "direct", h.of(both, noon))
	require.Empty(t, h.of(natsOf("eim", "eim"), noon), "another pair")

	for i := range 10 {
		h.learn(lesson("eim", "", 2+i, worked("lan")...), noon)
	}
	require.Empty(t, h.of(natsOf("eim", ""), noon), "of an unknown kind nothing is learnt")
}

func TestHintsKeepWhatEachEndSaid(t *testing.T) {
	h := &hints{}
	h.learn(lesson("a", "b", 0, ending{"plain", true}, ending{"guessed", true}), noon)
	h.learn(lesson("b", "a", 1, ending{"guessed", true}, ending{"plain", true}), noon)
	require.Equal(t, "guessed/plain", h.of(natsOf("a", "b"), noon), "the order says nothing")
}

func TestHintsNeedBothEnds(t *testing.T) {
	h := &hints{}
	for i := range 10 {
		h.learn(lesson("a", "b", i, ending{"direct", true}, ending{"", false}), noon)
		h.learn(lesson("a", "b", i, ending{"", false}, ending{"direct", true}), noon)
		h.learn(lesson("a", "b", i, ending{"direct", true}, ending{"", true}), noon)
		h.learn(lesson("a", "b", i, ending{"", false}, ending{"", false}), noon)
	}
	require.Empty(t, h.list(noon), "ends that disagree, or have nothing to say, are not counted")
}

// A hint that is wrong by now gives way, by dials that fail with it and by
// dials that succeed in another way.
func TestHintsFollowChange(t *testing.T) {
	const long = 200
	learnt := func() *hints {
		h := &hints{}
		for i := range long {
			h.learn(lesson("a", "b", i, worked("old")...), noon)
		}
		require.Equal(t, "old", h.of(natsOf("a", "b"), noon))
		return h
	}
	turns := func(h *hints, next func(number int) *dial) (n int) {
		for n = 0; n < long && h.of(natsOf("a", "b"), noon) == "old"; n++ {
			h.learn(next(long+n), noon)
		}
		return n
	}
	h := learnt()
	n := turns(h, func(i int) *dial { return lesson("a", "b", i, worked("new")...) })
	require.Less(t, n, memoryLength, "however long it was right")
	require.Equal(t, "new", h.of(natsOf("a", "b"), noon))

	h = learnt()
	n = turns(h, func(i int) *dial {
		d := lesson("a", "b", i, ending{}, ending{})
		d.hint = "old"
		return d
	})
	require.Less(t, n, memoryLength)
	require.Empty(t, h.of(natsOf("a", "b"), noon))

	h = learnt()
	n = turns(h, func(i int) *dial {
		d := lesson("a", "b", i, ending{}, ending{})
		d.hint, d.canceled = "old", true
		return d
	})
	require.Equal(t, long, n, "a caller that gives up proves nothing")
}

// One NAT full of hosts, or one that lies, is heard so often in an hour.
func TestHintsHearEverybody(t *testing.T) {
	h := &hints{}
	for range 10 * maxLessons {
		h.learn(lesson("a", "b", 7, worked("lie")...), noon)
	}
	require.LessOrEqual(t, h.heard[sourceOf(netip.MustParseAddr("192.0.0.7"))], maxLessons)
	honest := 0
	for ; h.of(natsOf("a", "b"), noon) != "truth"; honest++ {
		require.Less(t, honest, memoryLength, "others must be able to outvote it")
		h.learn(lesson("a", "b", 100+honest, worked("truth")...), noon)
		h.learn(lesson("a", "b", 7, worked("lie")...), noon)
	}
	h.learn(lesson("a", "b", 7, worked("lie")...), noon.Add(time.Hour))
	require.Equal(t, 1, h.heard[sourceOf(netip.MustParseAddr("192.0.0.7"))], "the next hour begins anew")

	for i := range 2 * maxSources {
		h.learn(lesson("a", "b", 1000+i, worked("truth")...), noon)
	}
	require.LessOrEqual(t, len(h.heard), maxSources)
}

// Liars at any number of addresses decide what is hinted at for the kinds that they
// name, and nothing else: never a relay, which would be more than an order, nothing
// for other kinds, and not for long after there are more honest ones.
func TestLiarsTogetherChangeTheOrderOnly(t *testing.T) {
	const liars = 5000
	for _, lie := range []string{LastRelayed, LastNone, "direct/" + LastRelayed, "guessed-port", "no-such-method"} {
		h := &hints{}
		for i := range 2 * memoryLength {
			h.learn(lesson("eim", "eim", i, worked("simultaneous-open")...), noon)
			h.learn(lesson("eim", "apdm", i, worked("guessed-port")...), noon)
		}
		for i := range liars {
			h.learn(lesson("eim", "eim", 1000+i, worked(lie)...), noon)
		}
		if hint := h.of(natsOf("eim", "eim"), noon); direct(lie) {
			require.Equal(t, lie, hint, "a client takes no notice of what it would not try anyway")
		} else {
			require.Empty(t, hint, "%s: nobody is sent there by strangers", lie)
		}
		require.Equal(t, "guessed-port", h.of(natsOf("eim", "apdm"), noon), "of other kinds nothing has changed")
		honest := 0
		for ; h.of(natsOf("eim", "eim"), noon) != "simultaneous-open"; honest++ {
			require.Less(t, honest, memoryLength, "%s: however many there were", lie)
			h.learn(lesson("eim", "eim", 10_000+honest, worked("simultaneous-open")...), noon)
		}
	}
}

func TestHintsAreBounded(t *testing.T) {
	h := &hints{}
	used := natsOf("used", "used")
	for i := range 2 {
		h.learn(lesson("used", "used", i, worked("direct")...), noon)
	}
	for i := range 3 * maxPairs {
		require.Equal(t, "direct", h.of(used, noon), "what is in use stays")
		h.learn(lesson(fmt.Sprint(i), "x", i, worked("direct")...), noon.Add(time.Duration(i)*time.Hour))
		require.LessOrEqual(t, len(h.pairs), maxPairs)
	}
	require.Len(t, h.pairs, maxPairs)

	for i := range 100 {
		h.learn(lesson("used", "used", i, worked(fmt.Sprint("way-", i))...), noon)
		require.LessOrEqual(t, len(h.pairs[used].ways), maxWays)
	}
}

func TestHintOutlivesNoPair(t *testing.T) {
	h := &hints{}
	d := lesson("a", "b", 0, ending{}, ending{})
	d.hint = "direct"
	h.learn(d, noon)
	require.Empty(t, h.list(noon), "a failure makes no entry")
	require.Empty(t, wayOf(string(make([]byte, 40)), string(make([]byte, 41))), "too long for a hint")
}

// play makes a dial from a to bob and reports it as told. It returns the hints
// that the two ends were given.
func play(t *testing.T, a, b *node, fromKind, callerSays, calleeSays string) (caller, callee string) {
	t.Helper()
	call, err := a.Dial(within(t), DialRequest{Peer: "bob", Kind: fromKind})
	require.NoError(t, err)
	offer := receive(t, b.offers, "an Offer")
	caller = receive(t, call.Ringing, "a Ringing").Hint
	if offer.Ask {
		require.Empty(t, caller, "it would say something of the callee before that was asked")
	}
	require.NoError(t, offer.Answer(Answer{Hint: "forged"}))
	answer := receive(t, call.Answer, "an Answer")
	require.NotEqual(t, "forged", answer.Hint, "a peer cannot speak for the server")
	if offer.Ask {
		caller = answer.Hint
	} else {
		require.Empty(t, answer.Hint)
	}
	call.Conclude(Outcome{OK: callerSays != "", Method: callerSays})
	offer.Conclude(Outcome{OK: calleeSays != "", Method: calleeSays})
	for _, n := range []*node{a, b} { // the outcomes are in when this is answered
		_, err := n.Lookup(within(t), "bob")
		require.NoError(t, err)
	}
	return caller, offer.Hint
}

func TestHintsReachBothEnds(t *testing.T) {
	for _, ask := range []bool{false, true} {
		t.Run(fmt.Sprintf("ask %v", ask), func(t *testing.T) {
			h, a, b := pair(t, &Server{})
			require.NoError(t, b.Update(Info{Kind: "eim/apdf", Ask: ask}))
			require.NoError(t, b.Register(within(t), "bob2")) // the update is in force once this is answered
			for range 2 {
				caller, callee := play(t, h.join(t, newKey(t)), b, "apdm/random", "simultaneous-open", "guessed-port")
				require.Empty(t, caller+callee)
			}
			learnt := h.server.Hints()
			require.Len(t, learnt, 1)
			require.Equal(t, [2]string{"apdm/random", "eim/apdf"}, learnt[0].Kinds)
			require.Equal(t, "guessed-port/simultaneous-open", learnt[0].Method)
			require.InDelta(t, 2, learnt[0].Worked, 0.1)
			require.Zero(t, learnt[0].Failed)
			require.WithinDuration(t, time.Now(), learnt[0].At, time.Minute)

			caller, callee := play(t, a, b, "apdm/random", "", "")
			require.Equal(t, "guessed-port/simultaneous-open", caller, "of these two nothing is known yet, but of their kinds")
			require.Equal(t, caller, callee)
			require.Positive(t, h.server.Hints()[0].Failed, "the dial that had the hint found no path")
			caller, callee = play(t, h.join(t, newKey(t)), b, "", "direct", "direct")
			require.Empty(t, caller+callee, "nothing is known of a kind that is not told")
		})
	}
}

// A client that dials and answers with made-up kinds and outcomes changes
// nothing but hints, and the dials themselves go through.
func TestHostileOutcomesCostNothingElse(t *testing.T) {
	h, a, b := pair(t, &Server{})
	require.NoError(t, b.Update(Info{Kind: "eim"}))
	require.NoError(t, b.Register(within(t), "bob2"))
	for range 2 {
		play(t, a, b, "eim", "no-such-method", "direct")
	}
	caller, callee := play(t, a, b, "eim", "direct", "direct")
	require.Equal(t, "direct/no-such-method", caller)
	require.Equal(t, caller, callee)
	require.Empty(t, h.server.dials.all)
}
