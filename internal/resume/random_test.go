package resume

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
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
	for i, d := range [][2]*Conn{{p.a, p.b}, {p.b, p.a}} {
		counted := make(chan int, 1)
		flows.Go(func() error { return writeRandomly(d[0], random(uint64(10+i)), counted) })
		flows.Go(func() error { return readRandomly(d[1], random(uint64(20+i)), counted) })
	}
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

// pattern is what position i of every stream holds.
func pattern(p []byte, i int) {
	for j := range p {
		p[j] = byte((i + j) * 2654435761 >> 16)
	}
}

// writeRandomly writes in pieces of all sizes, under deadlines of which many pass, and ends the stream. It gives out how
// much its writes have counted.
func writeRandomly(c *Conn, r *rand.Rand, counted chan<- int) error {
	sent := 0
	for range r.IntN(30) {
		pause(r)
		if r.IntN(3) == 0 {
			c.SetWriteDeadline(time.Now().Add(time.Duration(r.IntN(1 << r.IntN(32)))))
		} else {
			c.SetWriteDeadline(time.Time{})
		}
		p := make([]byte, r.IntN(1<<r.IntN(21)))
		pattern(p, sent)
		n, err := c.Write(p)
		sent += n
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return fmt.Errorf("write: %w", err)
		}
		if err == nil && n != len(p) {
			return fmt.Errorf("wrote %d bytes of %d", n, len(p))
		}
	}
	pause(r)
	counted <- sent
	if err := c.CloseWrite(); err != nil {
		return fmt.Errorf("close write: %w", err)
	}
	return nil
}

// readRandomly reads to the end, and compares.
func readRandomly(c *Conn, r *rand.Rand, counted <-chan int) error {
	got := 0
	for {
		pause(r)
		if r.IntN(3) == 0 {
			c.SetReadDeadline(time.Now().Add(time.Duration(r.IntN(1 << r.IntN(32)))))
		}
		p := make([]byte, 1+r.IntN(1<<r.IntN(18)))
		n, err := c.Read(p)
		want := make([]byte, n)
		pattern(want, got)
		if !bytes.Equal(want, p[:n]) {
			return fmt.Errorf("not what was sent, after %d bytes", got)
		}
		got += n
		switch {
		case err == io.EOF:
			if sent := <-counted; got != sent {
				return fmt.Errorf("read %d bytes of %d", got, sent)
			}
			return nil
		case err != nil && !errors.Is(err, os.ErrDeadlineExceeded):
			return fmt.Errorf("read: %w", err)
		}
	}
}
