package relay

import (
	"errors"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gostunt/stunt/internal/sock"
)

// pair is two streams that are one connection. Each has a goroutine that
// carries what it sends to the other; while nothing comes, that is all it has.
type pair struct {
	ends   [2]*Stream
	server *Server
	began  time.Time
	timer  *time.Timer // nil without a limit on time

	ready  chan struct{} // closed by begin
	done   chan struct{} // closed by cut
	flows  atomic.Int32  // that have not ended
	bytes  atomic.Int64  // carried
	active atomic.Int64  // when the last came, in Unix ns; kept with an idle limit only
	reason atomic.Pointer[error]
}

var (
	errIdle = errors.New("relay: idle for too long")
	errLife = errors.New("relay: the pair's time is over")

	errShutOut = errors.New("relay: one of its keys is shut out")
)

// begin starts the clocks of a pair. The second end calls it; the first waits
// for it in carry.
func (p *pair) begin(s *Server) {
	p.server, p.began = s, time.Now()
	p.flows.Store(2)
	p.active.Store(p.began.UnixNano())
	s.paired.Add(1)
	s.log().Info("relay pair began", "remote", p.ends[0].conn.RemoteAddr(), "peer", p.ends[1].conn.RemoteAddr())
	if l := &s.table.limits; l.Idle > 0 || l.Life > 0 {
		p.timer = time.AfterFunc(p.left(), p.check)
	}
	close(p.ready)
}

// left returns how long the pair may go on as it is; not positive: no longer.
func (p *pair) left() time.Duration {
	l, now := &p.server.table.limits, time.Now()
	left := time.Duration(1<<63 - 1)
	if l.Life > 0 {
		left = l.Life - now.Sub(p.began)
	}
	if l.Idle > 0 {
		left = min(left, l.Idle-now.Sub(time.Unix(0, p.active.Load())))
	}
	return left
}

// check ends a pair whose time is over, or comes back when it may be.
func (p *pair) check() {
	switch left := p.left(); {
	case left > 0:
		p.timer.Reset(left)
	case p.server.table.limits.Life > 0 && time.Since(p.began) >= p.server.table.limits.Life:
		p.server.table.meet(limitLife)
		p.cut(errLife)
	default:
		p.server.table.meet(limitIdle)
		p.cut(errIdle)
	}
}

// carry passes on what one end sends, until its end. An end of one direction
// is passed on as such; an error ends both, with a RST, so that neither takes
// a part for the whole.
func (p *pair) carry(src *Stream) {
	<-p.ready
	dst := p.ends[0]
	if src == dst {
		dst = p.ends[1]
	}
	if err := p.flow(dst, src); err != nil {
		p.cut(err)
	}
	if p.flows.Add(-1) == 0 {
		p.finish()
	}
}

func (p *pair) flow(dst, src *Stream) error {
	// What dst reads first comes from this goroutine, and so before any data.
	if _, err := dst.tcp.Write([]byte{byte(Paired)}); err != nil {
		return err
	}
	queue, err := sock.NewQueue(src.tcp)
	if err != nil {
		return err
	}
	for {
		n, err := queue.Wait()
		if err != nil {
			return err
		}
		if p.server.table.limits.Rate > 0 {
			n = min(n, bufferSize) // what a limiter lets through at once
		}
		m, err := move(dst.tcp, src.tcp, n)
		p.carried(m)
		switch {
		case errors.Is(err, io.EOF):
			return dst.tcp.CloseWrite()
		case err != nil:
			return err
		}
		if !p.pace(m) {
			return net.ErrClosed
		}
	}
}

// pace waits until n more bytes are within the rates of both keys. Nothing is
// read meanwhile, by which TCP tells the sender. It reports false if the pair
// was cut.
func (p *pair) pace(n int) bool {
	for _, e := range p.ends {
		if e.holder.rate == nil {
			return true
		}
		wait := e.holder.rate.ReserveN(time.Now(), n).Delay()
		if wait <= 0 {
			continue
		}
		p.server.table.meet(limitRate)
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-p.done:
			timer.Stop()
			return false
		}
	}
	return true
}

func (p *pair) carried(n int) {
	p.bytes.Add(int64(n))
	p.server.bytes.Add(int64(n))
	if p.server.table.limits.Idle > 0 {
		p.active.Store(time.Now().UnixNano())
	}
}

// cut ends both streams with a RST. Only the first reason counts.
func (p *pair) cut(why error) {
	if !p.reason.CompareAndSwap(nil, &why) {
		return
	}
	close(p.done)
	for _, e := range p.ends {
		e.tcp.SetLinger(0)
		e.conn.Close()
	}
}

// finish is called when both directions have ended.
func (p *pair) finish() {
	if p.timer != nil {
		p.timer.Stop()
	}
	for _, e := range p.ends {
		e.conn.Close() // closed already, if it was cut
	}
	var why error
	if r := p.reason.Load(); r != nil {
		why = *r
	}
	p.server.log().Info("relay pair ended", "remote", p.ends[0].conn.RemoteAddr(), "peer", p.ends[1].conn.RemoteAddr(),
		"bytes", p.bytes.Load(), "after", time.Since(p.began).Round(time.Millisecond), "err", why)
	p.server.table.end(p)
}

const (
	// bufferSize is what is copied through a buffer: for so little, two system
	// calls and a copy cost less than a pipe's four.
	bufferSize = 32 << 10
	// burst bounds what one turn moves, so that rates are kept and a pipe is
	// given back now and then.
	burst = 1 << 20
	// maxPipes bounds the pipes that are in use at once, two files each: a peer
	// that does not read holds one for as long as it likes. More go through
	// buffers.
	maxPipes = 256
)

// buffers lends what bytes are copied through, while there are any.
var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

var pipes atomic.Int32 // in use

// move passes on up to n bytes that are there to be read. It returns io.EOF at
// the end of src.
func move(dst, src *net.TCPConn, n int) (int, error) {
	if runtime.GOOS == "linux" && n > bufferSize {
		defer pipes.Add(-1)
		if pipes.Add(1) <= maxPipes {
			// Package net splices, through a pipe of the runtime's pool. It asks
			// for no more than there is, so it waits for dst only.
			m, err := dst.ReadFrom(&io.LimitedReader{R: src, N: int64(min(n, burst))})
			return int(m), err
		}
	}
	buf := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buf)
	m, err := src.Read(buf[:])
	if m == 0 {
		return 0, err
	}
	return dst.Write(buf[:m])
}
