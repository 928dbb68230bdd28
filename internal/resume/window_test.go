package resume

import (
	"bytes"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt/internal/tcppipe"
)

// far is one end of a path on which any number of bytes are under way, each for as long.
type far struct {
	*tcppipe.End
	delay time.Duration

	mu  sync.Mutex // guards following
	way []func()
}

// later does what is to be done at the other end, in order.
func (f *far) later(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.way = append(f.way, do)
	time.AfterFunc(f.delay, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		first := f.way[0]
		f.way = f.way[1:]
		first()
	})
}

func (f *far) Write(b []byte) (int, error) {
	b = bytes.Clone(b)
	f.later(func() { f.End.Write(b) })
	return len(b), nil
}

func (f *far) CloseWrite() error {
	f.later(func() { f.End.CloseWrite() })
	return nil
}

func (f *far) Close() error {
	f.later(func() { f.End.Close() })
	return nil
}

// TestWindowGrows: a connection over a long path soon has as much under way as it may have, and holds no more for a
// program that then stops to read.
func TestWindowGrows(t *testing.T) {
	const oneWay, size = 50 * time.Millisecond, 32 << 20
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, time.Minute, func() (net.Conn, net.Conn) {
			x, y := tcppipe.New("", 2*maxWindow)
			return &far{End: x, delay: oneWay}, &far{End: y, delay: oneWay}
		}, func() {})
		began := time.Now()
		go p.a.Write(make([]byte, size+3*maxWindow)) // until Close
		_, err := io.ReadFull(p.b, make([]byte, size))
		require.NoError(t, err)
		require.Less(t, time.Since(began), 15*2*oneWay, "of which 8 with all under way: with the first window it were 32")
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Equal(t, maxWindow, p.b.in.len())
		require.Equal(t, maxWindow, p.a.out.len())
		p.close()
		time.Sleep(time.Hour)
		p.stop()
	})
}

// slow is one end of a path that takes 64 KiB, or less, in so long.
type slow struct {
	*tcppipe.End
	each time.Duration
}

func (s slow) Write(b []byte) (int, error) {
	time.Sleep(s.each)
	return s.End.Write(b)
}

// TestWindowStays: where the path is what holds a stream up, no more is kept than at first.
func TestWindowStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, time.Minute, func() (net.Conn, net.Conn) {
			x, y := tcppipe.New("", 64<<10)
			return slow{x, 10 * time.Millisecond}, y
		}, func() {})
		go p.a.Write(make([]byte, 12<<20)) // until Close
		_, err := io.ReadFull(p.b, make([]byte, 10<<20))
		require.NoError(t, err)
		synctest.Wait()
		require.Equal(t, window, p.a.out.room)
		p.close()
		time.Sleep(time.Hour)
		p.stop()
	})
}
