package keyrate

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/time/rate"
)

var at = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func TestEachKeyHasItsOwn(t *testing.T) {
	l := Limiter[string]{Rate: 10, Burst: 3}
	for range 3 {
		require.True(t, l.Allow("a", at))
	}
	require.False(t, l.Allow("a", at), "its burst is over")
	require.True(t, l.Allow("b", at), "another's is not")
	require.True(t, l.Allow("a", at.Add(100*time.Millisecond)))
	require.False(t, l.Allow("a", at.Add(150*time.Millisecond)))
}

// Who is forgotten gets no more than who is remembered.
func TestForgettingGivesNothing(t *testing.T) {
	l := Limiter[string]{Rate: 10, Burst: 3}
	allowed := 0
	for i := range 1000 {
		if l.Allow("a", at.Add(time.Duration(i)*10*time.Millisecond)) {
			allowed++
		}
		l.Allow("b", at.Add(time.Duration(i)*10*time.Millisecond))
	}
	require.LessOrEqual(t, allowed, 3+100, "ten seconds, and a burst")
	for i := range 10_000 { // keys cost nothing
		require.True(t, l.Allow(string(rune(i)), at.Add(time.Minute+time.Duration(i)*time.Millisecond)))
	}
	require.LessOrEqual(t, l.recent.Len(), 301, "no more than came in the time of a burst")
	require.Len(t, l.keys, l.recent.Len())
}

// Who does more than it may waits for as long as that takes, and cannot be
// forgotten meanwhile.
func TestReserve(t *testing.T) {
	l := Limiter[string]{Rate: 10, Burst: 3}
	require.Zero(t, l.Reserve("a", 3, at))
	require.Equal(t, 100*time.Millisecond, l.Reserve("a", 1, at))
	require.Equal(t, 400*time.Millisecond, l.Reserve("a", 3, at), "after what waits already")
	require.Zero(t, l.Reserve("b", 1, at), "another one has its own")
	require.Equal(t, 700*time.Millisecond, l.Reserve("a", 1000, at), "never longer for one than for a burst")
	require.Equal(t, 500*time.Millisecond, l.Reserve("a", 1, at.Add(300*time.Millisecond)))
	require.False(t, l.Allow("a", at.Add(750*time.Millisecond)), "it is remembered while it waits, and its whole burst after")
	l.Allow("b", at.Add(2*time.Second))
	require.Len(t, l.keys, 1, "and then not")
}

func TestNoLimit(t *testing.T) {
	l := Limiter[int]{Rate: rate.Inf}
	for range 1000 {
		require.True(t, l.Allow(1, at))
		require.Zero(t, l.Reserve(1, 1, at))
	}
	require.Zero(t, l.recent.Len())
}
