package relay

import (
	"context"
	"crypto/ed25519"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/gostunt/stunt/internal/sock"
)

const (
	// refuseTime is how long a client that is refused gets to read why.
	refuseTime = time.Second
	// quiet is how long the log says nothing more about what a stranger can
	// repeat at will.
	quiet = 10 * time.Second
)

// A Server pairs streams and carries their bytes. Set its fields before the
// first stream; do not copy one. All methods may be called at any time from
// any goroutine. It does not listen: whoever accepts connections hands it those
// that begin with [FirstByte].
type Server struct {
	Secret Secret           // that tickets are signed with; must be set
	Limits Limits           // see there for the zero value
	Logger *slog.Logger     // nil is silent
	Now    func() time.Time // for the expiry of tickets; nil: time.Now
	Full   func() bool      // whether there is no room for another stream, whatever the limits say; nil: there is

	start   sync.Once
	err     error // of the fields above
	table   table
	paired  atomic.Int64
	bytes   atomic.Int64
	refused [Closing + 1]atomic.Int64
	warn    rate.Sometimes
}

// Stats are what a relay has done, and does now.
type Stats struct {
	Waiting int              // streams whose other end is not there yet
	Pairs   int              // that there are now
	Paired  int64            // pairs so far
	Bytes   int64            // carried so far, in both directions
	Refused map[Status]int64 // streams that were ended before they were paired
	Met     map[string]int64 // how often each limit was met, by its name; all are there
}

// Stats returns the counters.
func (s *Server) Stats() Stats {
	s.setUp()
	st := Stats{Paired: s.paired.Load(), Bytes: s.bytes.Load(), Refused: make(map[Status]int64)}
	s.table.stats(&st)
	for i := range s.refused {
		if n := s.refused[i].Load(); n > 0 {
			st.Refused[Status(i)] = n
		}
	}
	return st
}

func (s *Server) setUp() error {
	s.start.Do(func() {
		if s.Secret == (Secret{}) {
			s.err = errors.New("relay: Server.Secret is not set")
		}
		l, err := s.Limits.WithDefaults()
		if err != nil && s.err == nil {
			s.err = err
		}
		s.table.init(l)
		s.warn.Interval = quiet
	})
	return s.err
}

func (s *Server) log() *slog.Logger {
	if s.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return s.Logger
}

func (s *Server) now() time.Time {
	if s.Now != nil {
		return s.Now()
	}
	return time.Now()
}

// A Stream is a connection whose ticket is good.
type Stream struct {
	conn   net.Conn // closed by whoever ends the stream
	tcp    *net.TCPConn
	source netip.Prefix
	ticket ticket
	met    chan *pair // capacity 1: the second end of the pair sends it to the first
	holder *holder    // set when the table has let it in
}

func (t *ticket) half() half { return half{t.pair, t.role} }

// Greet reads what a client begins with. The caller bounds the time of that by
// a deadline on c, and may take a client that has shown a good ticket for one
// that is no stranger. c is a TCP connection or has one in it (NetConn); the
// Stream owns it, and after an error it is closed.
func (s *Server) Greet(c net.Conn) (*Stream, error) {
	if err := s.setUp(); err != nil {
		c.Close()
		return nil, err
	}
	b, err := readPreamble(c)
	st := &Stream{conn: c, tcp: sock.TCPOf(c), source: sourceOf(c.RemoteAddr()), met: make(chan *pair, 1)}
	if err == nil && st.tcp == nil {
		err = errors.New("relay: not a TCP connection")
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	var status Status
	if st.ticket, status = s.Secret.open(&b, s.now()); status != Paired {
		return nil, s.refuse(st, status)
	}
	return st, nil
}

// Serve waits for the other end of a stream and carries what this one sends,
// until that is at its end. Its error says why there was no pair; it is a
// [Status] then. The stream's deadline must have been cleared.
func (s *Server) Serve(st *Stream) error {
	if s.Full != nil && s.Full() {
		s.table.meet(limitMemory)
		return s.refuse(st, Busy)
	}
	p, status := s.table.enter(st, s.now())
	if status != Paired {
		return s.refuse(st, status)
	}
	if p != nil {
		p.begin(s)
	} else if p, status = s.await(st); p == nil {
		return s.refuse(st, status)
	}
	p.carry(st)
	return nil
}

// await waits for the other end. Nothing is read meanwhile: what the client
// sends waits in its own socket and ours.
func (s *Server) await(st *Stream) (*pair, Status) {
	timer := time.NewTimer(s.table.limits.Wait)
	defer timer.Stop()
	status := Alone
	select {
	case p := <-st.met:
		return p, Paired
	case <-timer.C:
	case <-s.table.closing:
		status = Closing
	}
	if s.table.leave(st) {
		return nil, status
	}
	return <-st.met, Paired
}

// refuse tells a client why, so that it can read it, and closes its stream:
// a close with bytes unread would have the kernel drop what we said.
func (s *Server) refuse(st *Stream, why Status) error {
	s.refused[why].Add(1)
	s.log().Debug("relay stream refused", "remote", st.conn.RemoteAddr(), "err", why)
	if why == Busy {
		s.warn.Do(func() {
			s.log().Warn("relay limit reached", "remote", st.conn.RemoteAddr(), "refused", s.refused[Busy].Load())
		})
	}
	st.conn.SetDeadline(time.Now().Add(refuseTime))
	if _, err := st.conn.Write([]byte{byte(why)}); err == nil {
		st.tcp.CloseWrite()
		io.CopyN(io.Discard, st.conn, 4096) // what a dialer sends behind its ticket is less
	}
	st.conn.Close()
	return why
}

// Shutdown lets no stream in any more, and none wait. It returns when the
// pairs that there are have ended by themselves; when ctx is over it cuts them,
// and its error is that of ctx.
func (s *Server) Shutdown(ctx context.Context) error {
	s.setUp()
	s.table.close()
	select {
	case <-s.table.empty:
		return nil
	case <-ctx.Done():
	}
	for _, p := range s.table.list() {
		p.cut(Closing)
	}
	<-s.table.empty
	return ctx.Err()
}

// Cut ends the pairs that a key is one end of, with a RST: for one that is shut
// out. A ticket that it still has is good until its time is over.
func (s *Server) Cut(key ed25519.PublicKey) {
	if s.setUp() != nil {
		return
	}
	of := s.Secret.keyOf(key)
	for _, p := range s.table.list() {
		if p.ends[0].ticket.key == of || p.ends[1].ticket.key == of {
			p.cut(errShutOut)
		}
	}
}

// sourceOf returns whom the limits per source count a as.
func sourceOf(a net.Addr) netip.Prefix {
	ta, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	ip, bits := ta.AddrPort().Addr().Unmap(), 64
	if ip.Is4() {
		bits = 32
	}
	p, _ := ip.Prefix(bits) // fails only for an invalid address, which is the zero Prefix
	return p
}
