package rendezvous

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// alone is a directory of a server that has not met any other.
func alone(name string) *directory {
	d := newDirectory(time.Hour)
	d.me = name
	return d
}

// have gives a name to a key in a directory, at a time of its clock, agreed to by
// all that it knows of.
func (d *directory) have(t *testing.T, key, id string, at time.Time) *session {
	s := d.at(t, key, at)
	d.mustHave(t, s, id, at)
	for _, one := range []string{id, key} {
		if title, ok := d.apply(key, one); ok {
			require.True(t, d.settle(title, false, 0))
		}
	}
	return s
}

// compareAll has each of some directories tell each other all that it has, and
// carries what is said to that, in any order, until nobody has anything to say.
func compareAll(all map[string]*directory, now time.Time) (told []string) {
	type note struct {
		to string
		title
	}
	var notes []note
	for from, d := range all {
		for to := range all {
			for _, id := range d.all() {
				if t := d.titleOf(id); t != nil && to != from {
					notes = append(notes, note{to, *t})
				}
			}
		}
	}
	for n := 0; len(notes) > 0 && n < 1000; n++ {
		i := rand.IntN(len(notes))
		m := notes[i]
		notes[i] = notes[len(notes)-1]
		notes = notes[:len(notes)-1]
		v := all[m.to].contest(&m.title, false, now)
		if v.lost != nil {
			told = append(told, v.lost.fingerprint)
		}
		if v.ours != nil && v.settled {
			notes = append(notes, note{m.Server, *v.ours})
		}
	}
	return told
}

// Servers that were apart, and have given a name to whoever came, agree on one
// when they meet again: the same one in whatever order they speak. Whoever loses
// it is told.
func TestOneOwnerAfterASplit(t *testing.T) {
	now := time.Unix(1000, 0)
	for range 300 {
		all := make(map[string]*directory)
		var names []string
		clock := make(map[string]time.Time) // when each server gave the name
		owner := make(map[string]string)
		live := make(map[string]int) // sessions, by key
		for i := range 2 + rand.IntN(3) {
			name := strings.Repeat(fmt.Sprint(i), serverNameLen)
			all[name] = alone(name)
			if rand.IntN(4) > 0 {
				names = append(names, name)
				clock[name] = now.Add(time.Duration(rand.IntN(3)) * time.Second)
				owner[name] = strings.Repeat(string(rune('a'+rand.IntN(3))), fingerprintLen)
				s := all[name].have(t, owner[name], "x", clock[name])
				if live[owner[name]]++; rand.IntN(4) == 0 {
					live[owner[name]]--
					all[name].leave(s, clock[name])
				}
			}
		}
		told := compareAll(all, now)
		var left []string
		for _, name := range names {
			if all[name].titleOf("x") != nil {
				left = append(left, name)
			}
		}
		if len(names) == 0 {
			continue
		}
		require.Len(t, left, 1, "%v %v", owner, clock)
		lives := 0
		for _, n := range live {
			lives += n
		}
		if all[left[0]].names["x"].session != nil {
			lives--
		}
		require.Len(t, told, lives, "who has lost it is told, once")
		first := names[0]
		for _, name := range names[1:] {
			switch d := clock[name].Compare(clock[first]); {
			case owner[name] != owner[first] && (d < 0 || d == 0 && owner[name] < owner[first]):
				first = name
			case owner[name] == owner[first] && d < 0:
				first = name
			}
		}
		require.Equal(t, owner[first], owner[left[0]], "who had it first: %v %v", owner, clock)
		reached := 0
		for _, name := range names {
			if all[name].find(owner[first]) != nil {
				reached++
			}
		}
		require.Equal(t, min(live[owner[first]], 1), reached, "a fingerprint reaches one session: %v %v", owner, clock)
	}
}

// A key that asks for a name which another has been given gets it nowhere, and
// takes it from nobody; of two that ask at once, one is refused.
func TestBids(t *testing.T) {
	now := time.Unix(1000, 0)
	one, two := alone(strings.Repeat("1", serverNameLen)), alone(strings.Repeat("2", serverNameLen))
	had := one.have(t, "a", "x", now.Add(time.Hour)) // by a clock that is ahead
	other := two.at(t, "b", now)
	two.mustHave(t, other, "x", now)
	require.Nil(t, two.find("x"), "nobody is led to a name that may be another's")
	bid, ok := two.apply("b", "x")
	require.True(t, ok)
	v := one.contest(bid, true, now)
	require.NotNil(t, v.ours)
	require.Equal(t, CodeIDTaken, v.code)
	require.False(t, two.settle(bid, true, 0))
	require.Equal(t, had, one.find("x"))
	require.Nil(t, two.find("x"))

	a, b := one.at(t, "c", now), two.at(t, "d", now)
	one.mustHave(t, a, "y", now)
	two.mustHave(t, b, "y", now)
	first, _ := one.apply("c", "y")
	second, _ := two.apply("d", "y")
	v = two.contest(first, true, now)
	require.Nil(t, v.ours)
	require.Nil(t, v.lost, "it is told by its own bid")
	v = one.contest(second, true, now)
	require.NotNil(t, v.ours)
	require.False(t, v.settled, "it is not to be told that it has lost to one that may lose")
	require.True(t, one.settle(first, false, 0))
	require.False(t, two.settle(second, true, 0))

	// Of one key, who asks has just come, whatever the clocks say.
	again := two.at(t, "a", now)
	two.mustHave(t, again, "x", now)
	bid, _ = two.apply("a", "x")
	v = one.contest(bid, true, now)
	require.Nil(t, v.ours)
	require.Equal(t, had, v.lost)
	require.Equal(t, CodeReplaced, v.why)
	require.True(t, two.settle(bid, false, v.bound))
	require.Equal(t, now.UnixNano(), two.names["x"].bound, "it had the name from the earlier of the two")
}
