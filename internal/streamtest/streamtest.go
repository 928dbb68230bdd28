// Package streamtest is the property of a connection, for tests: whatever both ends write, read, wait for and half-close,
// each reads exactly what the other's writes have counted, and its end.
package streamtest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"math/rand/v2"
	"net"
	"os"
	"time"

	"golang.org/x/sync/errgroup"
)

// Conn is one end.
type Conn interface {
	net.Conn
	CloseWrite() error
}

// Draw is how much a test draws at most, of each thing: 2 or more. Small ones are as frequent as big ones.
type Draw struct {
	Pause    time.Duration // before a step, before a third of them
	Deadline time.Duration // of a call, of a third of them; many pass
	Piece    int           // bytes in a Write; twice that in a Read
}

// Run writes at random in both directions, reads all of it, and ends both. What it draws follows from the seed.
func (d Draw) Run(seed uint64, a, b Conn) error {
	random := func(n uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, n)) }
	var flows errgroup.Group
	for i, ends := range [][2]Conn{{a, b}, {b, a}} {
		counted := make(chan int, 1)
		flows.Go(func() error { return d.write(ends[0], random(uint64(10+i)), counted) })
		flows.Go(func() error { return d.read(ends[1], random(uint64(20+i)), counted) })
	}
	return flows.Wait()
}

// upTo draws less than n, which is 2 or more.
func upTo[T int | time.Duration](r *rand.Rand, n T) T {
	return T(r.Int64N(1 << r.IntN(bits.Len64(uint64(n-1)))))
}

func (d Draw) pause(r *rand.Rand) {
	if r.IntN(3) == 0 {
		time.Sleep(upTo(r, d.Pause))
	}
}

// pattern is what position i of every stream holds.
func pattern(p []byte, i int) {
	for j := range p {
		p[j] = byte((i + j) * 2654435761 >> 16)
	}
}

// write writes in pieces of all sizes, under deadlines, and ends the stream. It gives out how much its writes have counted.
func (d Draw) write(c Conn, r *rand.Rand, counted chan<- int) error {
	sent := 0
	for range r.IntN(30) {
		d.pause(r)
		if r.IntN(3) == 0 {
			c.SetWriteDeadline(time.Now().Add(upTo(r, d.Deadline)))
		} else {
			c.SetWriteDeadline(time.Time{})
		}
		p := make([]byte, upTo(r, d.Piece))
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
	d.pause(r)
	err := c.CloseWrite()
	for errors.Is(err, os.ErrDeadlineExceeded) {
		time.Sleep(time.Millisecond)
		c.SetWriteDeadline(time.Now().Add(upTo(r, d.Deadline)))
		err = c.CloseWrite()
	}
	counted <- sent
	if err != nil {
		return fmt.Errorf("close write: %w", err)
	}
	return nil
}

// read reads to the end, and compares.
func (d Draw) read(c Conn, r *rand.Rand, counted <-chan int) error {
	got := 0
	for {
		d.pause(r)
		if r.IntN(3) == 0 {
			c.SetReadDeadline(time.Now().Add(upTo(r, d.Deadline)))
		}
		p := make([]byte, 1+upTo(r, 2*d.Piece))
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
