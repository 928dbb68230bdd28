package secure

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/nettest"
	"golang.org/x/sync/errgroup"

	"github.com/gostunt/stunt/internal/tcppipe"
)

// movedStream returns what s writes over its first connection and over the one that it is moved to.
func movedStream(t testing.TB, s *Session, first, second string) (before, after []byte) {
	t.Helper()
	old, next := &wire{in: &bytes.Buffer{}}, &wire{in: &bytes.Buffer{}}
	c, err := s.Conn(old)
	require.NoError(t, err)
	_, err = c.Write([]byte(first))
	require.NoError(t, err)
	require.NoError(t, c.Move(next))
	_, err = c.Write([]byte(second))
	require.NoError(t, err)
	require.NoError(t, c.Close())
	return old.out.Bytes(), next.out.Bytes()
}

// TestMoveGolden holds the bytes of a move: the keys and the nonces run on, the switch is a record of its own.
func TestMoveGolden(t *testing.T) {
	ds, _ := provenSessions(t)
	before, after := movedStream(t, ds, "hello", "world")
	got := fmt.Sprintf("before %x\nafter %x\n", before, after)
	const file = "testdata/move.golden"
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(got), 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(want), got)
	require.Equal(t, []byte{typeSwitch, 0, tagSize}, before[recordOverhead+5:][:recordHeader])
}

// TestMoveConn runs the definition of a net.Conn over a connection that is moved all the time.
func TestMoveConn(t *testing.T) {
	nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
		x, y := tcpPair(t)
		a, b := testConns(t, x, y)
		stop, done := make(chan struct{}), make(chan struct{})
		go func() { // until stop
			defer close(done)
			for moveTCP(t, a, b, stop) == nil {
				select {
				case <-stop:
					return
				case <-time.After(time.Millisecond):
				}
			}
		}()
		return a, b, func() {
			close(stop)
			<-done
			a.Close()
			b.Close()
		}, nil
	})
}

// moveTCP moves both ends to a fresh connection, once they have room for it: until stop, as the program may read no more.
func moveTCP(t testing.TB, a, b *Conn, stop <-chan struct{}) error {
	x, y := tcpPair(t)
	for _, end := range []struct {
		c  *Conn
		to net.Conn
	}{{a, x}, {b, y}} {
		err := end.c.Move(end.to)
		for errors.Is(err, errMoving) {
			select {
			case <-stop:
				return err
			case <-end.c.legs.watch():
			case <-time.After(time.Millisecond): // it changed before we watched
			}
			err = end.c.Move(end.to)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// TestMoveTCP moves 64 MiB both ways through 20 moves under load. BenchmarkMoves does it with 1 GiB.
func TestMoveTCP(t *testing.T) {
	size := int64(64 << 20)
	if testing.Short() {
		size = 8 << 20
	}
	require.NoError(t, moveUnderLoad(t, size, 20))
}

// moveUnderLoad sends size bytes each way and moves the connection every size/moves bytes. Hashes tell whether what arrives
// is what was sent.
func moveUnderLoad(t testing.TB, size int64, moves int) error {
	x, y := tcpPair(t)
	a, b := testConns(t, x, y)
	defer b.Close()
	defer a.Close()
	var all errgroup.Group
	sums := make([][]byte, 4)
	progress := &meter{every: size / int64(moves+1), at: make(chan struct{}, moves)}
	for i, d := range [][2]*Conn{{a, b}, {b, a}} {
		all.Go(func() (err error) {
			defer d[0].CloseWrite()
			sums[2*i], err = hashed(d[0], io.LimitReader(testRandom(fmt.Sprint(i)), size))
			return err
		})
		all.Go(func() (err error) {
			to := io.Discard
			if i == 0 {
				to = progress
			}
			sums[2*i+1], err = hashed(to, d[1])
			return err
		})
	}
	for range moves {
		<-progress.at
		if err := moveTCP(t, a, b, nil); err != nil {
			return err
		}
	}
	if err := all.Wait(); err != nil {
		return err
	}
	if !bytes.Equal(sums[0], sums[1]) || !bytes.Equal(sums[2], sums[3]) {
		return errors.New("what arrived is not what was sent")
	}
	return nil
}

// meter tells every so many bytes that they have passed. Nothing waits for who listens.
type meter struct {
	every, passed int64
	at            chan struct{}
}

func (m *meter) Write(p []byte) (int, error) {
	before := m.passed / m.every
	m.passed += int64(len(p))
	for range m.passed/m.every - before {
		select {
		case m.at <- struct{}{}:
		default:
		}
	}
	return len(p), nil
}

// hashed copies and returns the hash of what passed.
func hashed(to io.Writer, from io.Reader) ([]byte, error) {
	h := sha256.New()
	_, err := io.Copy(io.MultiWriter(onlyWriter{to}, h), from)
	return h.Sum(nil), err
}

type onlyWriter struct{ io.Writer }

// BenchmarkMoves is TestMoveTCP with 1 GiB each way in 20 moves, and without any.
func BenchmarkMoves(b *testing.B) {
	for _, moves := range []int{0, 20} {
		b.Run(fmt.Sprint(moves), func(b *testing.B) {
			b.SetBytes(2 << 30)
			for b.Loop() {
				require.NoError(b, moveUnderLoad(b, 1<<30, moves))
			}
		})
	}
}

// moved is a connection and the pipes that it was moved over.
type moved struct {
	a, b  *Conn
	pipes [][2]*tcppipe.End
}

func newMoved(t testing.TB, room int) *moved {
	m := &moved{}
	a, b := m.pipe(room)
	m.a, m.b = testConns(t, a, b)
	return m
}

func (m *moved) pipe(room int) (a, b *tcppipe.End) {
	a, b = tcppipe.New(fmt.Sprint(len(m.pipes)), room)
	m.pipes = append(m.pipes, [2]*tcppipe.End{a, b})
	return a, b
}

// both moves both ends.
func (m *moved) both(t testing.TB, room int) {
	t.Helper()
	a, b := m.pipe(room)
	require.NoError(t, m.a.Move(a))
	require.NoError(t, m.b.Move(b))
}

func (m *moved) close() {
	m.a.Close()
	m.b.Close()
}

// requireOn shows that the connection works, both ways, over its last pipe and no other.
func (m *moved) requireOn(t testing.TB) {
	t.Helper()
	for _, d := range [][2]*Conn{{m.a, m.b}, {m.b, m.a}} {
		_, err := d[0].Write([]byte("hello"))
		require.NoError(t, err)
		requireRead(t, d[1], "hello")
	}
	last := len(m.pipes) - 1
	require.Equal(t, m.pipes[last][0].LocalAddr(), m.a.LocalAddr())
	require.Equal(t, m.pipes[last][1].RemoteAddr(), m.b.RemoteAddr())
	for i, ends := range m.pipes[:last] {
		require.True(t, ends[0].Closed() && ends[1].Closed(), "pipe %d of %d is left", i, last)
	}
}

func requireRead(t testing.TB, c *Conn, want string) {
	t.Helper()
	p := make([]byte, len(want))
	_, err := io.ReadFull(c, p)
	require.NoError(t, err)
	require.Equal(t, want, string(p))
}

// inBubble runs a test in virtual time. goleak, which looks at the whole process at its end, sees what is left, and
// synctest what is left in the bubble.
func inBubble(t *testing.T, name string, f func(t *testing.T)) {
	t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
}

func TestMove(t *testing.T) {
	inBubble(t, "idle", func(t *testing.T) {
		m := newMoved(t, 1<<16)
		defer m.close()
		for range 3 * maxLegs {
			m.both(t, 1<<16)
			m.requireOn(t)
		}
		require.Nil(t, m.a.out.buf, "idle, it holds no buffer")
		require.Nil(t, m.a.in.big)
	})
	inBubble(t, "several before anything is read", func(t *testing.T) {
		m := newMoved(t, 1<<16)
		defer m.close()
		for i := range maxLegs - 1 {
			_, err := m.a.Write([]byte{byte('0' + i)})
			require.NoError(t, err)
			m.both(t, 1<<16)
		}
		a, _ := tcppipe.New("too many", 1)
		require.ErrorIs(t, m.a.Move(a), errMoving)
		require.False(t, a.Closed(), "it stays the caller's")
		requireRead(t, m.b, "012"[:maxLegs-1])
		m.requireOn(t)
	})
	inBubble(t, "a Read that waits goes on over the new one", func(t *testing.T) {
		m := newMoved(t, 1<<16)
		defer m.close()
		got := make(chan error, 1)
		go func() {
			_, err := io.ReadFull(m.b, make([]byte, 5))
			got <- err
		}()
		synctest.Wait()
		m.both(t, 1<<16)
		synctest.Wait()
		_, err := m.a.Write([]byte("hello"))
		require.NoError(t, err)
		require.NoError(t, <-got)
		require.Equal(t, tcppipe.Addr("1a"), m.a.RemoteAddr())
	})
	inBubble(t, "a Write that waits goes over at the next record", func(t *testing.T) {
		m := newMoved(t, 1000)
		defer m.close()
		data := bytes.Repeat([]byte("0123456789"), 30_000)
		wrote := make(chan error, 1)
		go func() {
			_, err := m.a.Write(data)
			wrote <- err
		}()
		synctest.Wait() // the old leg is full
		m.both(t, 1000)
		synctest.Wait()
		require.Equal(t, tcppipe.Addr("0a"), m.a.LocalAddr(), "what is encrypted goes where it was to go")
		requireRead(t, m.b, string(data))
		require.NoError(t, <-wrote)
		m.requireOn(t)
	})
	inBubble(t, "dead", func(t *testing.T) {
		m := newMoved(t, 1000)
		m.close()
		a, _ := tcppipe.New("", 1)
		require.ErrorIs(t, m.a.Move(a), net.ErrClosed)
		require.False(t, a.Closed(), "it stays the caller's")
	})
}

// TestMoveOldLegBreaks breaks the old leg after and before the word to leave it has come through.
func TestMoveOldLegBreaks(t *testing.T) {
	inBubble(t, "after", func(t *testing.T) {
		m := newMoved(t, 1000)
		defer m.close()
		_, err := m.a.Write([]byte("before"))
		require.NoError(t, err)
		requireRead(t, m.b, "before")
		m.both(t, 1000)
		// b reads the switch record, a none yet.
		got := make(chan error, 1)
		go func() {
			_, err := io.ReadFull(m.b, make([]byte, 5))
			got <- err
		}()
		synctest.Wait()
		m.pipes[0][0].ResetOut(syscall.ECONNRESET)
		_, err = m.a.Write([]byte("after"))
		require.NoError(t, err)
		require.NoError(t, <-got)
		m.requireOn(t)
	})
	inBubble(t, "before", func(t *testing.T) {
		m := newMoved(t, 1000)
		defer m.close()
		m.both(t, 1000)
		synctest.Wait()
		m.pipes[0][0].Reset(syscall.ECONNRESET)
		_, err := m.a.Write([]byte("after"))
		require.NoError(t, err, "the sender is over already")
		_, err = m.b.Read(make([]byte, 10))
		require.ErrorIs(t, err, syscall.ECONNRESET)
	})
}

// TestMoveAlone moves one end only, as no caller should.
func TestMoveAlone(t *testing.T) {
	inBubble(t, "the other waits, and says so", func(t *testing.T) {
		m := newMoved(t, 1000)
		defer m.close()
		a, _ := m.pipe(1000)
		require.NoError(t, m.a.Move(a))
		began := time.Now()
		_, err := m.b.Read(make([]byte, 1))
		require.ErrorIs(t, err, errNotMoved)
		require.Equal(t, moveTimeout, time.Since(began))
		_, err = m.b.Write([]byte("x"))
		require.ErrorIs(t, err, errNotMoved, "it is dead")
	})
	inBubble(t, "deadlines hold meanwhile", func(t *testing.T) {
		m := newMoved(t, 1000)
		defer m.close()
		a, b := m.pipe(1000)
		require.NoError(t, m.a.Move(a))
		began := time.Now()
		for range 3 {
			m.b.SetReadDeadline(time.Now().Add(time.Second))
			_, err := m.b.Read(make([]byte, 1))
			var nerr net.Error
			require.ErrorAs(t, err, &nerr)
			require.True(t, nerr.Timeout())
		}
		require.Equal(t, 3*time.Second, time.Since(began))
		m.b.SetReadDeadline(time.Time{})
		time.AfterFunc(time.Second, func() { m.b.SetReadDeadline(time.Unix(1, 0)) })
		_, err := m.b.Read(make([]byte, 1))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded, "one that is set during the wait")
		m.b.SetReadDeadline(time.Time{})
		time.AfterFunc(time.Second, func() { m.b.Move(b) })
		m.a.Write([]byte("x"))
		requireRead(t, m.b, "x")
		m.requireOn(t)
	})
	inBubble(t, "Close ends the wait", func(t *testing.T) {
		m := newMoved(t, 1000)
		defer m.close()
		a, _ := m.pipe(1000)
		require.NoError(t, m.a.Move(a))
		time.AfterFunc(time.Second, func() { m.b.Close() })
		_, err := m.b.Read(make([]byte, 1))
		require.ErrorIs(t, err, net.ErrClosed)
	})
}

// TestMoveHalfClose ends one direction before, during and after the move; the other goes over.
func TestMoveHalfClose(t *testing.T) {
	for _, when := range []string{"before", "during", "after"} {
		inBubble(t, when, func(t *testing.T) {
			m := newMoved(t, 1000)
			defer m.close()
			_, err := m.a.Write([]byte("last"))
			require.NoError(t, err)
			if when == "before" {
				require.NoError(t, m.a.CloseWrite())
			}
			a, b := m.pipe(1000)
			require.NoError(t, m.a.Move(a))
			if when == "during" {
				require.NoError(t, m.a.CloseWrite())
			}
			require.NoError(t, m.b.Move(b))
			if when == "after" {
				synctest.Wait()
				require.NoError(t, m.a.CloseWrite())
			}
			got, err := io.ReadAll(m.b)
			require.NoError(t, err)
			require.Equal(t, "last", string(got))
			_, err = m.b.Write([]byte("reply"))
			require.NoError(t, err)
			requireRead(t, m.a, "reply")
			require.Equal(t, tcppipe.Addr("1b"), m.b.LocalAddr())
			require.True(t, m.pipes[0][0].Closed() && m.pipes[0][1].Closed(), "the old leg is left")
			require.NoError(t, m.b.CloseWrite())
			_, err = m.a.Read(make([]byte, 1))
			require.ErrorIs(t, err, io.EOF)
		})
	}
}

// TestMoveWriteTimesOut lets the switch record itself wait behind a full leg and a deadline.
func TestMoveWriteTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMoved(t, 1000)
		defer m.close()
		data := bytes.Repeat([]byte("0123456789"), 300)
		require.NoError(t, m.a.SetWriteDeadline(time.Now().Add(time.Second)))
		n, err := m.a.Write(data)
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		m.both(t, 1000)
		synctest.Wait()
		got := make([]byte, n)
		done := make(chan error, 1)
		go func() {
			_, err := io.ReadFull(m.b, got)
			done <- err
		}()
		synctest.Wait()
		require.NoError(t, m.a.SetWriteDeadline(time.Time{}), "from here on moveOut may go on by itself")
		require.NoError(t, <-done)
		require.Equal(t, data[:n], got)
		synctest.Wait()
		m.requireOn(t)
	})
}

// TestMoveClose closes at any stage of a move. What was written before a Close that nothing disturbs arrives, with its end.
func TestMoveClose(t *testing.T) {
	for _, settle := range []bool{false, true} {
		inBubble(t, fmt.Sprint(settle), func(t *testing.T) {
			m := newMoved(t, 1000)
			defer m.close()
			a, b := m.pipe(1000)
			require.NoError(t, m.a.Move(a))
			if settle {
				synctest.Wait()
			}
			_, err := m.a.Write([]byte("last words"))
			require.NoError(t, err)
			require.NoError(t, m.a.Close())
			require.NoError(t, m.b.Move(b))
			got, err := io.ReadAll(m.b)
			require.NoError(t, err)
			require.Equal(t, "last words", string(got))
		})
	}
	inBubble(t, "the peer's switch is unread", func(t *testing.T) {
		m := newMoved(t, 1000)
		defer m.close()
		_, err := m.a.Write([]byte("last "))
		require.NoError(t, err)
		a, b := m.pipe(1000)
		require.NoError(t, m.b.Move(b))
		synctest.Wait()
		require.NoError(t, m.a.Move(a))
		_, err = m.a.Write([]byte("words"))
		require.NoError(t, err)
		require.NoError(t, m.a.Close(), "which would reset the old leg")
		got, err := io.ReadAll(m.b)
		require.NoError(t, err)
		require.Equal(t, "last words", string(got))
	})
	inBubble(t, "the peer's switch does not come", func(t *testing.T) {
		m := newMoved(t, 1000)
		defer m.close()
		a, _ := m.pipe(1000)
		require.NoError(t, m.a.Move(a))
		began := time.Now()
		require.NoError(t, m.a.Close())
		require.Equal(t, farewell, time.Since(began))
	})
}
