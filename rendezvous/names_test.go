package rendezvous

import (
	"bytes"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A clock is one that a test sets.
type clock struct{ unix atomic.Int64 }

func (c *clock) now() time.Time { return time.Unix(c.unix.Load(), 0) }

func (c *clock) add(d time.Duration) { c.unix.Add(int64(d / time.Second)) }

// What a server knows of names goes on in the next one: those that were used as
// if they had just been left, those that were held until the time that it was.
func TestNamesSurvive(t *testing.T) {
	var c clock
	c.add(time.Hour)
	const hold = 24 * time.Hour
	first := serve(t, &Server{Hold: hold, Now: c.now})
	alice, bob, eve := newKey(t), newKey(t), newKey(t)
	a, b := first.join(t, alice), first.join(t, bob)
	require.NoError(t, a.Register(within(t), "alice"))
	require.NoError(t, a.Register(within(t), "al"))
	require.NoError(t, b.Register(within(t), "bob"))
	b.stop()
	require.Eventually(t, func() bool { return first.server.Sessions() == 1 }, patience, time.Millisecond)
	text := first.server.Names()
	require.Equal(t, text, first.server.Names(), "it changes with the names only")
	require.Equal(t, namesHead+
		"al "+fingerprintOf(alice)+" -\n"+
		"alice "+fingerprintOf(alice)+" -\n"+
		"bob "+fingerprintOf(bob)+" 1970-01-02T01:00:00Z\n", string(text))

	c.add(hold / 2)
	second := serve(t, &Server{Hold: hold, Now: c.now})
	early := second.join(t, eve)
	require.NoError(t, early.Register(within(t), "al"), "who comes before the text is read is first")
	require.NoError(t, second.server.RecallNames(text))
	require.ErrorIs(t, early.Register(within(t), "alice"), CodeIDTaken)
	require.ErrorIs(t, early.Register(within(t), "bob"), CodeIDTaken)
	_, err := early.Lookup(within(t), "alice")
	require.ErrorIs(t, err, CodeUnknownPeer, "nobody is there")
	back := second.join(t, alice)
	require.NoError(t, back.Register(within(t), "alice"))

	c.add(hold/2 - time.Second)
	require.ErrorIs(t, early.Register(within(t), "bob"), CodeIDTaken)
	c.add(time.Second)
	require.NoError(t, early.Register(within(t), "bob"), "its time went on while nothing ran")
}

// A short hold is for nodes that come back; a long one keeps a name for its owner,
// who may give it up as often as it ends its program.
func TestLongHoldOutlastsGivingUp(t *testing.T) {
	for hold, code := range map[time.Duration]Code{0: CodeNone, shortHold + 1: CodeIDTaken} {
		h := serve(t, &Server{Hold: hold})
		key := newKey(t)
		a, b := h.join(t, key), h.join(t, newKey(t))
		require.NoError(t, a.Register(within(t), "alice"))
		require.NoError(t, a.Deregister(within(t), "alice"))
		_, err := b.Lookup(within(t), "alice")
		require.ErrorIs(t, err, CodeUnknownPeer)
		if err := b.Register(within(t), "alice"); code == CodeNone {
			require.NoError(t, err)
		} else {
			require.ErrorIs(t, err, code)
			require.NoError(t, a.Register(within(t), "alice"))
		}
	}
}

func TestRecallIsBounded(t *testing.T) {
	now := time.Unix(1000, 0)
	key := strings.Repeat("a", fingerprintLen)
	d := newDirectory(time.Hour)
	d.idsPerKey = 2
	d.recall([]binding{
		{"over", key, now},
		{"late", key, now.Add(1000 * time.Hour)}, // by a clock that was ahead
		{"soon", key, now.Add(time.Minute)},
		{"many", key, now.Add(1000 * time.Hour)},
	}, now)
	require.Len(t, d.names, 2, "one of four is over, and one too many")
	d.expire(now.Add(time.Minute))
	require.Len(t, d.names, 1, "each ends in its own time, whatever the order they came in")
	d.expire(now.Add(time.Hour))
	require.Empty(t, d.names)
	require.Empty(t, d.keys)
	require.Empty(t, d.holds)
}

// A server that comes back to others has no better title to a name than the key
// that got it from them meanwhile, and a better one than whoever comes later.
func TestRecallAmongServers(t *testing.T) {
	now := time.Unix(1000, 0)
	key := func(s string) string { return strings.Repeat(s, fingerprintLen) }
	one, two := strings.Repeat("1", serverNameLen), strings.Repeat("2", serverNameLen)
	all := map[string]*directory{one: alone(one), two: alone(two)}
	all[two].have(t, key("e"), "alice", now.Add(-time.Minute))
	all[two].have(t, key("e"), "bob", now.Add(time.Minute))
	all[one].recall([]binding{{name: "alice", owner: key("a")}, {name: "bob", owner: key("b")}}, now)
	require.Equal(t, []string{key("e")}, compareAll(all, now.Add(2*time.Minute)), "of bob, which was somebody's")
	require.Equal(t, key("e"), all[two].names["alice"].owner)
	require.Nil(t, all[one].names["alice"])
	require.Nil(t, all[two].names["bob"])
	require.Equal(t, key("b"), all[one].names["bob"].owner)
}

func TestTextsThatAreNoNames(t *testing.T) {
	key := strings.Repeat("a", fingerprintLen)
	for text, want := range map[string]string{
		"alice":                                       "line 1: it is a name",
		"# first\n\nalice " + key + " soon":           "line 3: ",
		"alice " + key + " - -":                       "line 1: it is a name",
		"Alice " + key + " -":                         `"Alice" is no name`,
		key + " " + key + " -":                        "is no name",
		"alice bob -":                                 `"bob" is no fingerprint`,
		"a " + key + " -\na " + key + " -":            `line 2: "a" is there twice`,
		strings.Repeat("#", MaxNamesText+1):           "too many",
		"alice " + key + " 9999-12-31T23:59:59-02:00": "the year 10000",
		"alice " + key + " 0001-01-01T00:00:00Z":      "the year 1",
		"alice " + key + " 2026-13-01T00:00:0":        "line 1: ",
	} {
		_, err := parseNames([]byte(text))
		require.ErrorContains(t, err, want)
	}
	var b bytes.Buffer
	for i := range MaxNames + 1 {
		fmt.Fprintf(&b, "a%d %s -\n", i, key)
	}
	_, err := parseNames(b.Bytes())
	require.ErrorContains(t, err, fmt.Sprintf("line %d: more than", MaxNames+1))
}

func FuzzNames(f *testing.F) {
	key := strings.Repeat("a", fingerprintLen)
	f.Add([]byte("alice " + key + " -\n# none\nbob " + key + " 2026-03-01T12:00:00Z\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		all, err := parseNames(text)
		if err != nil {
			return
		}
		kept := formatNames(all)
		again, err := parseNames(kept)
		if err != nil {
			t.Fatalf("%q was kept and can't be read: %v", kept, err)
		}
		if twice := formatNames(again); !bytes.Equal(kept, twice) {
			t.Fatalf("%q became %q", kept, twice)
		}
	})
}
