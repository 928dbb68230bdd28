package secure

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/gostunt/stunt/internal/streamtest"
)

// TestMoveRandomly is the property: whatever both ends write, read, wait for and half-close, and whenever they are moved,
// each reads exactly what the other's writes counted.
func TestMoveRandomly(t *testing.T) {
	seeds := 300
	if testing.Short() {
		seeds = 30
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { moveRandomly(t, uint64(seed)) })
		})
	}
}

func moveRandomly(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 0))
	m := newMoved(t, room(r))
	stop := make(chan struct{})
	var moves errgroup.Group
	moves.Go(func() error { return moveUntil(m, r, stop) })
	require.NoError(t, streamtest.Draw{Pause: 1 << 28, Deadline: 1 << 26, Piece: 1 << 17}.Run(seed, m.a, m.b))
	close(stop)
	require.NoError(t, moves.Wait())
	require.NoError(t, m.a.Close())
	require.NoError(t, m.b.Close())
	for _, ends := range m.pipes {
		require.True(t, ends[0].Closed() && ends[1].Closed())
	}
	require.Nil(t, m.a.out.buf)
	require.Nil(t, m.b.out.buf)
}

// room is what a pipe holds: seldom less than a small record.
func room(r *rand.Rand) int { return 200 + r.IntN(1<<(8+r.IntN(10))) }

// pause lets virtual time pass, or nothing.
func pause(r *rand.Rand) {
	if r.IntN(3) == 0 {
		time.Sleep(time.Duration(r.IntN(1 << r.IntN(28))))
	}
}

// moveUntil moves both ends again and again, one after the other.
func moveUntil(m *moved, r *rand.Rand, stop <-chan struct{}) error {
	for range 20 {
		a, b := m.pipe(room(r))
		ends := []func() error{func() error { return m.a.Move(a) }, func() error { return m.b.Move(b) }}
		if r.IntN(2) == 0 {
			ends[0], ends[1] = ends[1], ends[0]
		}
		for _, move := range ends {
			pause(r)
			for err := move(); err != nil; err = move() {
				if !errors.Is(err, errMoving) {
					return err
				}
				time.Sleep(time.Millisecond)
			}
		}
		select {
		case <-stop:
			return nil
		case <-time.After(time.Duration(r.IntN(1 << r.IntN(28)))):
		}
	}
	return nil
}
