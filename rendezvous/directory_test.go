package rendezvous

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func newDirectory(hold time.Duration) *directory {
	return &directory{hold: hold, idsPerKey: math.MaxInt, sessPerKey: math.MaxInt, quietPeriod: time.Minute}
}

// at is a session of the key named by a letter.
func (d *directory) at(t *testing.T, key string, now time.Time) *session {
	s := &session{fingerprint: key}
	s.heard.Store(now.UnixNano())
	_, err := d.join(s, now)
	require.NoError(t, err)
	return s
}

func (d *directory) mustHave(t *testing.T, s *session, id string, now time.Time) (replaced *session) {
	t.Helper()
	replaced, err := d.register(s, id, now)
	require.NoError(t, err)
	return replaced
}

// Whatever comes and goes, the directory ends as empty as it began.
func TestDirectoryForgets(t *testing.T) {
	for _, hold := range []time.Duration{-1, time.Minute} {
		d, now := newDirectory(hold), time.Unix(0, 0)
		for range 100 {
			a, b := d.at(t, "a", now), d.at(t, "a", now)
			d.mustHave(t, a, "x", now)
			require.Equal(t, a, d.mustHave(t, b, "x", now), "the newer has it, the older is to be told")
			d.mustHave(t, a, "y", now)
			d.leave(a, now)
			require.Equal(t, b, d.find("x"))
			require.Nil(t, d.find("y"))
			now = now.Add(time.Second)
			d.leave(b, now)
			d.leave(b, now) // again is no error
			require.Nil(t, d.find("x"))
		}
		now = now.Add(time.Hour)
		c := d.at(t, "c", now)
		d.leave(c, now)
		require.Empty(t, d.names)
		require.Empty(t, d.keys)
		require.Zero(t, d.held.Len())
		require.Empty(t, d.holds)
	}
}

// A source that comes with ever new keys, or ever again with one, does not fill
// the server's memory with names that are held for it; nor does it cost others
// theirs.
func TestHoldsOfASourceAreBounded(t *testing.T) {
	d, now := newDirectory(time.Minute), time.Unix(0, 0)
	come := func(key, addr, name string) {
		s := &session{fingerprint: key, observed: at(0, addr).observed}
		_, err := d.join(s, now)
		require.NoError(t, err)
		d.mustHave(t, s, name, now)
		d.leave(s, now)
	}
	come("honest", "192.0.2.1", "alice")
	for i := range 3 * maxHolds {
		come(fmt.Sprint("key", i), "203.0.113.1", fmt.Sprint("name", i))
		come("again", "203.0.113.2", "bob")
	}
	require.Equal(t, maxHolds+2, len(d.names))
	require.Equal(t, maxHolds+2, len(d.keys))
	require.Equal(t, maxHolds+2, d.held.Len())
	thief := d.at(t, "thief", now)
	_, err := d.register(thief, "alice", now)
	require.ErrorIs(t, err, CodeIDTaken, "others' names are held as ever")
	d.mustHave(t, thief, fmt.Sprint("name", maxHolds), now)

	now = now.Add(time.Minute)
	d.mustHave(t, thief, "alice", now)
	d.leave(thief, now)
	require.Equal(t, 2, d.held.Len())
}

func TestDirectoryFingerprintReachesNewest(t *testing.T) {
	d, now := newDirectory(time.Minute), time.Unix(0, 0)
	a, b := d.at(t, "a", now), d.at(t, "a", now)
	require.Nil(t, d.find("a"), "a session that registered nothing cannot be dialled")
	d.mustHave(t, a, "x", now)
	require.Equal(t, a, d.find("a"), "a name brings the fingerprint with it")
	d.mustHave(t, b, "", now)
	require.Equal(t, b, d.find("a"))
	d.deregister(b, "", now)
	require.Equal(t, a, d.find("a"))
	d.leave(a, now)
	require.Nil(t, d.find("a"))
	_, err := d.register(a, "z", now)
	require.ErrorIs(t, err, CodeReplaced, "a session that left registers nothing")
}

func TestDirectoryNames(t *testing.T) {
	d, now := newDirectory(time.Minute), time.Unix(0, 0)
	a, b := d.at(t, "a", now), d.at(t, "a", now)
	d.mustHave(t, a, "z", now)
	d.mustHave(t, b, "y", now)
	require.Equal(t, []string{"y", "z"}, d.ids("a"), "of all sessions of the key")
	d.leave(a, now)
	require.Equal(t, []string{"y"}, d.ids("a"), "a held name is not live")
	require.Empty(t, d.ids("b"))
	d.deregister(b, "z", now)
	other := d.at(t, "b", now)
	_, err := d.register(other, "z", now)
	require.ErrorIs(t, err, CodeIDTaken, "only its session can give a name up")
	d.deregister(other, "y", now)
	require.Equal(t, b, d.find("y"))
}

// A session is dropped for a new one only when it has missed its pings.
func TestDirectoryDropsTheQuietest(t *testing.T) {
	d, now := newDirectory(-1), time.Unix(1000, 0)
	d.sessPerKey = 1
	old := d.at(t, "a", now)
	d.mustHave(t, old, "x", now)
	fresh := &session{fingerprint: "a"}
	_, err := d.join(fresh, now.Add(59*time.Second))
	require.ErrorIs(t, err, CodeLimit)
	stale, err := d.join(fresh, now.Add(time.Minute))
	require.NoError(t, err)
	require.Equal(t, old, stale)
	d.mustHave(t, fresh, "x", now)
	d.leave(old, now) // when its goroutine notices
	require.Equal(t, fresh, d.find("x"))
}

func BenchmarkDirectoryFind(b *testing.B) {
	d, now := newDirectory(time.Minute), time.Unix(0, 0)
	s := &session{fingerprint: "a"}
	if _, err := d.join(s, now); err != nil {
		b.Fatal(err)
	}
	if _, err := d.register(s, "x", now); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if d.find("x") == nil {
			b.Fatal("not found")
		}
	}
}
