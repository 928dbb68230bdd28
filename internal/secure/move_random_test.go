package secure

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
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
	random := func(n uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, n)) }
	r := random(0)
	m := newMoved(t, room(r))
	stop := make(chan struct{})
	var moves, flows errgroup.Group
	moves.Go(func() error { return moveUntil(m, r, stop) })
	for i, d := range [][2]*Conn{{m.a, m.b}, {m.b, m.a}} {
		counted := make(chan int, 1)
		flows.Go(func() error { return writeRandomly(d[0], random(uint64(10+i)), counted) })
		flows.Go(func() error { return readRandomly(d[1], random(uint64(20+i)), counted) })
	}
	require.NoError(t, flows.Wait())
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
			c.SetWriteDeadline(time.Now().Add(time.Duration(r.IntN(1 << r.IntN(26)))))
		} else {
			c.SetWriteDeadline(time.Time{})
		}
		p := make([]byte, r.IntN(1<<r.IntN(17)))
		pattern(p, sent)
		n, err := c.Write(p)
		sent += n
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return fmt.Errorf("write: %w", err)
		}
	}
	pause(r)
	err := c.CloseWrite()
	for errors.Is(err, os.ErrDeadlineExceeded) {
		time.Sleep(time.Millisecond)
		c.SetWriteDeadline(time.Now().Add(time.Duration(r.IntN(1 << r.IntN(26)))))
		err = c.CloseWrite()
	}
	counted <- sent
	if err != nil {
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
			c.SetReadDeadline(time.Now().Add(time.Duration(r.IntN(1 << r.IntN(26)))))
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
