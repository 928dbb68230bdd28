package resume

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/nettest"

	"github.com/gostunt/stunt/internal/tcppipe"
)

// immortal makes paths that live until a test kills them.
type immortal struct {
	mu   sync.Mutex // guards following
	ends [][2]*tcppipe.End
}

func (m *immortal) path() (a, b net.Conn) {
	x, y := tcppipe.New("", 64<<10)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ends = append(m.ends, [2]*tcppipe.End{x, y})
	return x, y
}

// last returns the two ends of the last path.
func (m *immortal) last() [2]*tcppipe.End {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ends[len(m.ends)-1]
}

func (m *immortal) kill() { m.last()[0].Reset(syscall.ECONNRESET) }

// tcpPath is a connection over loopback.
func tcpPath(t testing.TB) (a, b net.Conn) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	a, err = net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	b, err = ln.Accept()
	require.NoError(t, err)
	return a, b
}

// TestConn runs the definition of a net.Conn over a connection whose path dies every few milliseconds.
func TestConn(t *testing.T) {
	nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
		p := newPair(t, time.Minute, func() (net.Conn, net.Conn) { return tcpPath(t) }, func() {})
		stop, done := make(chan struct{}), make(chan struct{})
		go func() { // until stop
			defer close(done)
			for {
				select {
				case <-stop:
					return
				case <-time.After(2 * time.Millisecond):
					p.a.Break(errors.New("killed"))
				}
			}
		}()
		return p.a, p.b, func() {
			p.close()
			close(stop)
			<-done
			p.stop()
			p.a.Fail(io.ErrUnexpectedEOF)
			p.b.Fail(io.ErrUnexpectedEOF)
		}, nil
	})
}

// inBubble runs a test on a pair with paths that live until it kills them; then another is there after a second.
func inBubble(t *testing.T, test func(t *testing.T, p *pair, m *immortal)) {
	synctest.Test(t, func(t *testing.T) {
		m := &immortal{}
		p := newPair(t, time.Minute, m.path, func() { time.Sleep(time.Second) })
		test(t, p, m)
		p.close()
		time.Sleep(time.Hour)
		p.stop()
		require.EqualValues(t, 2, p.over.Load(), "both ends have ended")
	})
}

// TestWriteWithoutReader: both ends write and nobody reads. What was acknowledged is nobody's problem but the reader's, and
// Write holds when there is no more room, until its deadline.
func TestWriteWithoutReader(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pair, m *immortal) {
		var wrote [2]int
		for i, c := range []*Conn{p.a, p.b} {
			c.SetWriteDeadline(time.Now().Add(time.Minute))
			n, err := c.Write(make([]byte, 10<<20))
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			require.Equal(t, 2*window, n, "one kept here, one there")
			wrote[i] = n
		}
		require.EqualValues(t, 1, p.paths.Load(), "the path works, and nobody doubts it")
		for i, c := range []*Conn{p.b, p.a} {
			require.NoError(t, []*Conn{p.a, p.b}[i].CloseWrite())
			got, err := io.ReadAll(c)
			require.NoError(t, err)
			require.Len(t, got, wrote[i])
		}
	})
}

// TestIdle: a connection on which nothing is said holds no memory and keeps its path, for hours.
func TestIdle(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pair, m *immortal) {
		_, err := p.a.Write(make([]byte, 100<<10))
		require.NoError(t, err)
		_, err = io.ReadFull(p.b, make([]byte, 100<<10))
		require.NoError(t, err)
		time.Sleep(5 * time.Hour)
		require.EqualValues(t, 1, p.paths.Load())
		require.Empty(t, p.a.out.chunks)
		require.Empty(t, p.b.in.chunks)
	})
}

// TestSilence: a path over which nothing comes is given up within Idle and Silence if nothing is said, and within Silence
// if something is.
func TestSilence(t *testing.T) {
	for name, say := range map[string]string{"idle": "", "written": "hello"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				first := true
				p := newPair(t, time.Minute, func() (net.Conn, net.Conn) {
					x, y := tcppipe.New("", 64<<10)
					left := 1 << 30
					if first {
						first, left = false, 0
					}
					return &mortal{End: x, silent: true, left: left}, &mortal{End: y, silent: true, left: left}
				}, func() {})
				began := time.Now()
				_, err := p.a.Write([]byte(say))
				require.NoError(t, err)
				for p.paths.Load() == 1 {
					time.Sleep(time.Millisecond)
				}
				want := p.a.cfg.Silence
				if say == "" {
					want += p.a.cfg.Idle
				}
				require.InDelta(t, want, time.Since(began), float64(time.Second))
				_, err = io.ReadFull(p.b, make([]byte, len(say)))
				require.NoError(t, err)
				p.close()
				time.Sleep(time.Hour)
				p.stop()
			})
		})
	}
}

// TestDoubt: a path that is doubted and silent is given up within three seconds; one that answers stays.
func TestDoubt(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pair, m *immortal) {
		p.a.Doubt()
		time.Sleep(time.Minute)
		require.EqualValues(t, 1, p.paths.Load())
	})
	synctest.Test(t, func(t *testing.T) {
		dead := true
		p := newPair(t, time.Minute, func() (net.Conn, net.Conn) {
			x, y := tcppipe.New("", 64<<10)
			left := 1 << 30
			if dead {
				dead, left = false, 0
			}
			return &mortal{End: x, silent: true, left: left}, y
		}, func() {})
		p.a.Doubt()
		time.Sleep(leaveTimeout + time.Second)
		require.EqualValues(t, 2, p.paths.Load())
		p.close()
		time.Sleep(time.Hour)
		p.stop()
	})
}

// TestGivesUp: without another path both ends fail when their time is over, and say what the last one ended with. What had
// arrived is read before that.
func TestGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &immortal{}
		p := newPair(t, time.Minute, m.path, func() { time.Sleep(time.Hour) })
		_, err := p.a.Write([]byte("hello"))
		require.NoError(t, err)
		time.Sleep(time.Second)
		m.kill()
		began := time.Now()
		got, err := io.ReadAll(p.b)
		require.Equal(t, "hello", string(got))
		require.ErrorIs(t, err, ErrGaveUp)
		require.ErrorIs(t, err, syscall.ECONNRESET)
		require.Equal(t, time.Minute, time.Since(began))
		_, err = p.a.Read(make([]byte, 1))
		require.ErrorIs(t, err, ErrGaveUp)
		_, err = p.a.Write([]byte("x"))
		require.ErrorIs(t, err, ErrGaveUp)
		require.ErrorIs(t, p.a.CloseWrite(), ErrGaveUp)
		p.close()
		time.Sleep(2 * time.Hour)
		p.stop()
		require.EqualValues(t, 2, p.over.Load())
	})
}

// TestClose: what was written before arrives, over another path if need be, and its end; the other end's writes fail.
func TestClose(t *testing.T) {
	for name, killed := range map[string]bool{"path lives": false, "path dies": true} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, p *pair, m *immortal) {
				sent := make([]byte, 300<<10)
				rand.NewChaCha8([32]byte{}).Read(sent)
				if killed {
					m.kill()
				}
				_, err := p.a.Write(sent)
				require.NoError(t, err)
				require.NoError(t, p.a.Close())
				require.NoError(t, p.a.Close())
				_, err = p.a.Write(sent)
				require.ErrorIs(t, err, net.ErrClosed)
				_, err = p.a.Read(sent)
				require.ErrorIs(t, err, net.ErrClosed)
				got, err := io.ReadAll(p.b)
				require.NoError(t, err)
				require.True(t, bytes.Equal(sent, got))
				_, err = p.b.Write(make([]byte, 4*window))
				require.ErrorIs(t, err, syscall.EPIPE)
			})
		})
	}
}

// TestCloseUnblocks: Close ends a Write that waits for room and a Read, with a path and without one.
func TestCloseUnblocks(t *testing.T) {
	for name, killed := range map[string]bool{"path lives": false, "path dies": true} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, p *pair, m *immortal) {
				errs := make(chan error, 2)
				go func() {
					_, err := p.a.Write(make([]byte, 10*window))
					errs <- err
				}()
				go func() {
					_, err := p.a.Read(make([]byte, 1))
					errs <- err
				}()
				synctest.Wait()
				if killed {
					m.kill()
					synctest.Wait()
				}
				require.NoError(t, p.a.Close())
				require.ErrorIs(t, <-errs, net.ErrClosed)
				require.ErrorIs(t, <-errs, net.ErrClosed)
			})
		})
	}
}

// TestTotalLoss: for half a minute nothing comes through, and no dial does. Soon after the connection goes on.
func TestTotalLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		p := newPair(t, time.Minute, func() (net.Conn, net.Conn) {
			x, y := tcppipe.New("", 64<<10)
			left := 1 << 30
			if time.Since(began) < 30*time.Second {
				left = 0
			}
			return &mortal{End: x, silent: true, left: left}, &mortal{End: y, silent: true, left: left}
		}, func() { time.Sleep(2 * time.Second) })
		_, err := p.a.Write([]byte("hello"))
		require.NoError(t, err)
		_, err = p.b.Write([]byte("hello"))
		require.NoError(t, err)
		for _, c := range []*Conn{p.a, p.b} {
			_, err := io.ReadFull(c, make([]byte, 5))
			require.NoError(t, err)
		}
		require.Less(t, time.Since(began), 30*time.Second+p.a.cfg.Silence+3*time.Second)
		p.close()
		time.Sleep(time.Hour)
		p.stop()
	})
}

// TestCloseUnread: who closes with bytes unread still says all that it has written, which plain TCP would lose.
func TestCloseUnread(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pair, m *immortal) {
		_, err := p.b.Write([]byte("nobody reads this"))
		require.NoError(t, err)
		_, err = p.a.Write([]byte("bye"))
		require.NoError(t, err)
		time.Sleep(time.Second)
		require.NoError(t, p.a.Close())
		got, err := io.ReadAll(p.b)
		require.NoError(t, err)
		require.Equal(t, "bye", string(got))
	})
}

// TestCloseLingers: an end that was closed, and whose other end takes nothing, ends with its time, and holds nothing.
func TestCloseLingers(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pair, m *immortal) {
		p.a.SetWriteDeadline(time.Now().Add(time.Second))
		_, err := p.a.Write(make([]byte, 4*window))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		began := time.Now()
		require.NoError(t, p.a.Close())
		require.LessOrEqual(t, time.Since(began), farewell)
		time.Sleep(2*time.Minute + time.Second)
		require.ErrorIs(t, p.a.Err(), ErrGaveUp)
		require.Empty(t, p.a.out.chunks)
		_, err = io.ReadAll(p.b)
		require.Error(t, err, "there is no end that was not sent")
	})
}

// TestAbort: the other end reads what has arrived, and then an error and no end; and it looks for no other path.
func TestAbort(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pair, m *immortal) {
		_, err := p.a.Write([]byte("hello"))
		require.NoError(t, err)
		time.Sleep(time.Second)
		p.a.Abort()
		p.a.Abort()
		got, err := io.ReadAll(p.b)
		require.Equal(t, "hello", string(got))
		require.ErrorIs(t, err, syscall.ECONNRESET)
		_, err = p.a.Write([]byte("x"))
		require.ErrorIs(t, err, net.ErrClosed)
		require.EqualValues(t, 1, p.paths.Load())
	})
}

// TestBothHalfClosed: when both streams are over there is no path any more, though nobody has called Close.
func TestBothHalfClosed(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pair, m *immortal) {
		require.NoError(t, p.a.CloseWrite())
		time.Sleep(time.Second)
		m.kill()
		require.NoError(t, p.b.CloseWrite())
		time.Sleep(time.Minute)
		require.EqualValues(t, 2, p.paths.Load())
		require.True(t, m.last()[0].Closed() && m.last()[1].Closed())
		for _, c := range []*Conn{p.a, p.b} {
			got, err := io.ReadAll(c)
			require.NoError(t, err)
			require.Empty(t, got)
			_, err = c.Write([]byte("x"))
			require.ErrorIs(t, err, syscall.EPIPE)
		}
	})
}

// TestAttachEnded: an end that needs no path takes none.
func TestAttachEnded(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pair, m *immortal) {
		p.a.Fail(io.ErrNoProgress)
		ds, _ := newSessions(t)
		x, _ := tcppipe.New("", 1)
		_, err := p.a.Attach(ds, x)
		require.ErrorIs(t, err, net.ErrClosed)
		require.False(t, x.Closed(), "it stays the caller's")
		_, err = p.a.Read(make([]byte, 1))
		require.ErrorIs(t, err, io.ErrNoProgress)
	})
}

// TestProtocol: a peer that says in its own records what cannot be ends the connection, and no other path is looked for.
func TestProtocol(t *testing.T) {
	for name, b := range map[string][]byte{
		"nothing known":        {9},
		"a flag not known":     append([]byte{kindState, 4}, make([]byte, 16)...),
		"more than was sent":   state{received: 6, limit: window}.append(nil),
		"end that is not":      state{received: 7, limit: window}.append(nil),
		"end before the bytes": appendEnd(nil, 1),
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, p *pair, m *immortal) {
				_, err := p.a.Write([]byte("hello"))
				require.NoError(t, err)
				time.Sleep(time.Second)
				require.NoError(t, p.b.last().Control(b))
				_, err = p.a.Read(make([]byte, 1))
				require.ErrorIs(t, err, ErrProtocol)
				require.EqualValues(t, 1, p.paths.Load())
			})
		})
	}
	t.Run("less than it had", func(t *testing.T) {
		inBubble(t, func(t *testing.T, p *pair, m *immortal) {
			_, err := p.a.Write([]byte("hello"))
			require.NoError(t, err)
			time.Sleep(time.Second)
			require.NoError(t, p.b.last().Control(state{received: 4, limit: window}.append(nil)))
			_, err = p.a.Read(make([]byte, 1))
			require.ErrorIs(t, err, ErrProtocol)
		})
	})
}
