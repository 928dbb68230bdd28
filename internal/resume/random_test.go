package resume

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/gostunt/stunt/internal/streamtest"
)

// TestRandomly is the property: whatever both ends write, read, wait for and half-close, and however often and wherever
// their paths die, each reads exactly what the other's writes counted, and its end.
func TestRandomly(t *testing.T) {
	seeds := 100
	if testing.Short() {
		seeds = 20
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { randomly(t, uint64(seed)) })
		})
	}
}

func randomly(t *testing.T, seed uint64) {
	random := func(n uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, n)) }
	r := random(0)
	var mu sync.Mutex // of r: paths are made by one goroutine at a time, but not always the same
	p := newPair(t, time.Hour, func() (net.Conn, net.Conn) {
		mu.Lock()
		defer mu.Unlock()
		return newMortals(r, fmt.Sprint(seed))
	}, func() {
		mu.Lock()
		wait := time.Duration(r.IntN(1 << r.IntN(34)))
		mu.Unlock()
		time.Sleep(wait)
	})
	var flows errgroup.Group
	flows.Go(func() error {
		return streamtest.Draw{Pause: 1 << 32, Deadline: 1 << 32, Piece: 1 << 21}.Run(seed, p.a, p.b)
	})
	if random(30).IntN(2) == 0 {
		flows.Go(func() error { return disturb(p, random(31)) })
	}
	require.NoError(t, flows.Wait())
	p.close()
	time.Sleep(2 * time.Hour) // virtual: whatever is still to be said
	require.EqualValues(t, 2, p.over.Load(), "both ends have ended")
	p.stop()
	for _, c := range []*Conn{p.a, p.b} {
		require.Empty(t, c.out.chunks)
		require.Empty(t, c.in.chunks)
	}
}

// disturb doubts paths, gives them up and moves them, as a node whose network changes does.
func disturb(p *pair, r *rand.Rand) error {
	for range r.IntN(20) {
		time.Sleep(time.Duration(r.IntN(1 << r.IntN(32))))
		c := p.a
		if r.IntN(2) == 0 {
			c = p.b
		}
		switch r.IntN(3) {
		case 0:
			c.Doubt()
		case 1:
			c.Break(errors.New("moved"))
		case 2:
			p.move(func() { pause(r) })
		}
	}
	return nil
}

// pause lets virtual time pass, or nothing.
func pause(r *rand.Rand) {
	if r.IntN(3) == 0 {
		time.Sleep(time.Duration(r.IntN(1 << r.IntN(32))))
	}
}
