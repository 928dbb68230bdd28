package rendezvous

import (
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt/internal/park"
)

var many = flag.Int("many", 2000, "sessions of the larger server of BenchmarkDialAmong")

// BenchmarkDialAmong is one introduction by a server with so many sessions: from
// the caller's Dial to the moment at which both have been told. The sessions are
// whole but for the kernel: TLS with key proof, over memory, so that no limit on
// open files is in the way:
//
//	go test ./rendezvous -run '^$' -bench DialAmong -benchtime 20000x -args -many 100000
//
// KiB/session is the heap in use by the server, after a collection.
func BenchmarkDialAmong(b *testing.B) {
	for _, n := range []int{1000, *many} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			h := newHall(b, n)
			var took []time.Duration
			for b.Loop() {
				from, to := h.pick(), h.pick()
				if from != to {
					took = append(took, h.dial(b, from, to))
				}
			}
			if slices.Sort(took); len(took) > 0 {
				b.ReportMetric(float64(took[len(took)/2].Nanoseconds()), "p50-ns")
				b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds()), "p99-ns")
			}
			b.ReportMetric(h.perSession, "KiB/session")
		})
	}
}

// A hall is a server with sessions over memory.
type hall struct {
	server     *Server
	seats      []*peer // the clients of some, evenly among all; that of the others is gone, and silent
	perSession float64
}

// seats is how many sessions of a hall can dial.
const seats = 500

func newHall(b *testing.B, n int) *hall {
	h := &hall{server: &Server{lot: memoryLot{}, Keepalive: time.Hour, Limits: Limits{Handshakes: -1, DialRate: -1, MessageRate: -1, MessageRatePerSource: -1}}}
	b.Cleanup(func() { h.server.Close() })
	cert, _ := serverCert(b)
	config := ServerTLS(cert)
	pin := ServerAddr{Host: "127.0.0.1", Pin: PinOf(cert.Leaf)}
	empty := heapInUse()
	keep := make([]*peer, n)
	next := make(chan int)
	var all sync.WaitGroup
	for range 2 * runtime.GOMAXPROCS(0) {
		all.Go(func() {
			for i := range next {
				if p := h.enter(b, i, config, pin); i%max(1, n/seats) == 0 {
					keep[i] = p
				}
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	all.Wait()
	require.Equal(b, n, h.server.Sessions())
	h.seats = slices.DeleteFunc(keep, func(p *peer) bool { return p == nil })
	h.perSession = float64(heapInUse()-empty) / 1024 / float64(n)
	return h
}

func heapInUse() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// enter makes a session, registered under its number.
func (h *hall) enter(b *testing.B, i int, config *tls.Config, server ServerAddr) *peer {
	near, far := newMemoryConns(addressOf(i))
	key := newKey(b)
	cert, err := Certificate(key)
	if err != nil {
		b.Error(err)
	}
	p := &peer{t: b, conn: tls.Client(far, server.tlsConfig(cert, nil)), key: key}
	begun := make(chan error, 1)
	go func() { begun <- h.server.ServeConn(b.Context(), tls.Server(near, config)) }() // ends with the beginning
	if err := enroll(p.conn, i); err != nil {
		b.Error(err)
	}
	if err := <-begun; err != nil {
		b.Error(err)
	}
	return p
}

// addressOf is where a client over memory comes from: no two are one source.
func addressOf(i int) net.TCPAddr {
	return net.TCPAddr{IP: net.IPv4(10, byte(i>>16), byte(i>>8), byte(i)), Port: 1024 + i%60000}
}

// enroll says what a node says that comes, and waits until it is registered.
func enroll(conn *tls.Conn, i int) error {
	var hi []byte
	for _, m := range []message{&hello{Min: 1, Max: 1}, &Info{Candidates: make([]byte, 120), Report: make([]byte, 250)}, &register{Ref: 1, ID: fmt.Sprint("n", i)}} {
		f, err := encode(m)
		if err != nil {
			return err
		}
		hi = append(hi, f...)
	}
	if _, err := conn.Write(hi); err != nil {
		return err
	}
	for _, want := range []kind{(*Welcome)(nil).kind(), (*registered)(nil).kind()} {
		m, err := readMessage(conn, func() {})
		if err == nil && m.kind() != want {
			err = fmt.Errorf("a message of kind %d: %+v", m.kind(), m)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (h *hall) pick() *peer { return h.seats[mathrand.N(len(h.seats))] }

// dial introduces two, and has both report.
func (h *hall) dial(b *testing.B, from, to *peer) time.Duration {
	id := NewDialID()
	d := &DialRequest{DialID: id, Peer: fingerprintOf(to.key), Noise: make([]byte, 200), Candidates: make([]byte, 120), Report: make([]byte, 250)}
	began := time.Now()
	from.send(d)
	read[*Ringing](from)
	read[*Offer](to)
	took := time.Since(began)
	to.send(&Answer{DialID: id}, &Outcome{DialID: id, OK: true, Method: "x"})
	read[*Answer](from)
	from.send(&Outcome{DialID: id, OK: true, Method: "x"})
	return took
}

// A memoryConn is one end of a connection that takes all that is written, and
// has as much of deadlines as a session needs: one that is over ends a Read
// that would wait.
type memoryConn struct {
	in, out *memoryFlow
	remote  net.TCPAddr

	// Owned by the reader:
	over  bool          // the deadline for reads
	turns chan struct{} // has one of the reader's, which it gives away while it waits; nil: none
}

type memoryFlow struct {
	more chan struct{} // capacity 1

	mu     sync.Mutex // guards following
	buf    []byte
	closed bool
	tell   func() // called once when there is something to read; nil: nobody waits so
}

func newMemoryConns(client net.TCPAddr) (near, far *memoryConn) {
	a, b := &memoryFlow{more: make(chan struct{}, 1)}, &memoryFlow{more: make(chan struct{}, 1)}
	return &memoryConn{in: a, out: b, remote: client}, &memoryConn{in: b, out: a}
}

func (f *memoryFlow) change(do func()) {
	f.mu.Lock()
	do()
	tell := f.tell
	f.tell = nil
	f.mu.Unlock()
	if tell != nil {
		tell()
	}
	select {
	case f.more <- struct{}{}:
	default:
	}
}

func (c *memoryConn) Read(b []byte) (int, error) {
	for {
		c.in.mu.Lock()
		n, closed := copy(b, c.in.buf), c.in.closed
		if c.in.buf = c.in.buf[n:]; len(c.in.buf) == 0 {
			c.in.buf = nil
		}
		c.in.mu.Unlock()
		switch {
		case n > 0:
			return n, nil
		case closed:
			return 0, io.EOF
		case c.over:
			return 0, os.ErrDeadlineExceeded
		}
		c.wait()
	}
}

func (c *memoryConn) wait() {
	if c.turns != nil {
		<-c.turns
		defer func() { c.turns <- struct{}{} }()
	}
	<-c.in.more
}

func (c *memoryConn) Write(b []byte) (int, error) {
	c.out.change(func() { c.out.buf = append(c.out.buf, b...) })
	return len(b), nil
}

func (c *memoryConn) Close() error {
	c.in.change(func() { c.in.closed = true })
	c.out.change(func() { c.out.closed = true })
	return nil
}

func (c *memoryConn) SetReadDeadline(t time.Time) error {
	c.over = !t.IsZero() && time.Until(t) <= 0
	return nil
}

func (c *memoryConn) SetDeadline(t time.Time) error    { return c.SetReadDeadline(t) }
func (c *memoryConn) SetWriteDeadline(time.Time) error { return nil }
func (c *memoryConn) RemoteAddr() net.Addr             { return &c.remote }
func (c *memoryConn) LocalAddr() net.Addr              { return &c.remote }

// memoryLot is where sessions over memory wait.
type memoryLot struct{}

func (memoryLot) Enter(c net.Conn, wake func(bool)) (park.Spot, error) {
	return &memorySpot{flow: c.(*memoryConn).in, wake: wake}, nil
}

func (memoryLot) Close() {}

type memorySpot struct {
	flow *memoryFlow
	wake func(readable bool)
}

// Wait has the next write, or the end, go on.
func (s *memorySpot) Wait() {
	s.flow.mu.Lock()
	ready := len(s.flow.buf) > 0 || s.flow.closed
	if !ready {
		s.flow.tell = func() { go s.wake(true) }
	}
	s.flow.mu.Unlock()
	if ready {
		go s.wake(true)
	}
}

func (s *memorySpot) Rest(time.Duration) { panic("nothing is limited") }
func (s *memorySpot) Wake()              {} // the end is told by the flow
func (s *memorySpot) Leave()             {}
