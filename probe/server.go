package probe

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/pion/stun/v3"
	"golang.org/x/time/rate"

	"github.com/gostunt/stunt/internal/sock"
)

// Server answers STUN Binding requests over TCP (RFC 8489) and dials back for
// the filtering tests (RFC 5780, see the package documentation). The zero
// value answers and can dial back from another port. A Server must not be
// changed or copied once ServeConn was called; it is safe for concurrent use.
//
// It listens to nothing itself: its caller accepts, limits the connections of
// each source, and hands over those whose first byte is 0 or 1.
type Server struct {
	// Alternates are all endpoints at which the caller accepts for this
	// server, as its sockets see them. With a second address, a second port or
	// both, clients are told of one of them (OTHER-ADDRESS) and can measure
	// more: a complete server listens on two ports of two addresses. An
	// unspecified address stands for that of the connection at hand.
	Alternates []netip.AddrPort

	// Public translates addresses of Alternates that clients know by another
	// name, on a host behind a one-to-one NAT. Nil: they are public.
	Public map[netip.Addr]netip.Addr

	// Lenders, if not nil, returns other servers whose addresses do where this
	// one has no second address, those first that are to be preferred. It is
	// called for each connection, and must not block.
	Lenders func() []Lender

	// IdleTimeout ends a connection that was silent for so long. Zero is 70 s:
	// a binding speaks every 25, so two of its requests may be late.
	IdleTimeout time.Duration

	// MessageRate is how many messages a second are read from a connection in
	// the long run, after a burst of 16. Zero is 4, negative is no limit. What
	// comes faster waits in the sender's socket.
	MessageRate float64

	// DialBacks is how many dial backs may be under way at once. Zero is 512,
	// negative none. DialBackRate is how many a second one source (an IPv4
	// address or an IPv6 /64) gets in the long run, after a burst of 48; zero
	// is 0.5. A Run takes about twelve, none longer than 3 s.
	DialBacks    int
	DialBackRate float64

	// Holds is how many answers may be held back at once for those who measure
	// how long their NAT keeps an idle connection, none longer than three
	// hours. Zero is 256, negative none; more are answered at once.
	Holds int

	// Software is the SOFTWARE attribute. Empty is "stunt".
	Software string

	// Net is where dial backs leave from. Nil is the process's own network.
	Net *sock.Net

	// Logger gets a line per connection that ends badly and per dial back, at
	// Debug. Nil is silent.
	Logger *slog.Logger

	once    sync.Once
	slots   chan struct{} // capacity DialBacks: a send takes one, a receive gives it back
	holds   chan struct{} // capacity Holds, likewise
	lending lending
	sources *sources
	counts  counters
}

const (
	defaultIdle        = 70 * time.Second
	defaultMessageRate = 4
	defaultDialBacks   = 512
	defaultDialRate    = 0.5
	defaultHolds       = 256
	burst              = 16 // of messages per connection
	dialBurst          = 48 // of dial backs per source: several hosts behind one NAT

	writeTimeout = 5 * time.Second // an answer is smaller than any socket buffer
)

func (s *Server) init() {
	s.slots = make(chan struct{}, slots(s.DialBacks, defaultDialBacks))
	s.holds = make(chan struct{}, slots(s.Holds, defaultHolds))
	s.lending = newLending(cap(s.slots))
	r := s.DialBackRate
	if r == 0 {
		r = defaultDialRate
	}
	s.sources = newSources(rate.Limit(r), dialBurst)
}

func slots(n, normal int) int {
	if n == 0 {
		return normal
	}
	return max(n, 0)
}

func (s *Server) idle() time.Duration {
	if s.IdleTimeout > 0 {
		return s.IdleTimeout
	}
	return defaultIdle
}

func (s *Server) messages() *rate.Limiter {
	switch {
	case s.MessageRate == 0:
		return rate.NewLimiter(defaultMessageRate, burst)
	case s.MessageRate < 0:
		return rate.NewLimiter(rate.Inf, 0)
	}
	return rate.NewLimiter(rate.Limit(s.MessageRate), burst)
}

func (s *Server) logger() *slog.Logger {
	if s.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return s.Logger
}

// ServeConn answers on conn until the other end closes it, breaks the
// protocol or falls silent, or ctx ends; it owns conn and closes it. It runs
// on the caller's goroutine and starts none. conn's addresses must be TCP ones.
func (s *Server) ServeConn(ctx context.Context, conn net.Conn) {
	s.once.Do(s.init)
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	err := s.serve(ctx, conn)
	if err != nil && ctx.Err() == nil && !errors.Is(err, io.EOF) {
		s.logger().Debug("stun connection ended", "remote", conn.RemoteAddr(), "err", err)
	}
}

func (s *Server) serve(ctx context.Context, conn net.Conn) error {
	f := flow{conn: conn, local: sock.AddrPort(conn.LocalAddr()), remote: sock.AddrPort(conn.RemoteAddr())}
	if !f.local.IsValid() || !f.remote.IsValid() {
		return errors.New("not a TCP connection")
	}
	f.around = s.around(f.local)
	limit := s.messages()
	var req stun.Message
	for {
		if err := limit.Wait(ctx); err != nil {
			return err
		}
		// One deadline for the whole message: a byte a minute is silence too.
		conn.SetReadDeadline(time.Now().Add(s.idle()))
		if err := readMessage(conn, &req); err != nil {
			return err
		}
		resp, last, err := s.answer(ctx, f, &req)
		if err != nil {
			return err
		}
		if resp != nil {
			conn.SetWriteDeadline(time.Now().Add(writeTimeout))
			if _, err := conn.Write(resp.Raw); err != nil {
				return err
			}
		}
		if last {
			return nil
		}
	}
}

// flow is a connection and its two endpoints, as this end sees them. What there
// is around the first stays what the client was told, even if a lender goes.
type flow struct {
	conn          net.Conn
	local, remote netip.AddrPort
	around        around
}

// syn is the SYN of the connection, if its listener saves them (sock.SaveSYN).
func (f flow) syn() (sock.SYN, bool) {
	if c := sock.TCPOf(f.conn); c != nil {
		return sock.SYNOf(c)
	}
	return sock.SYN{}, false
}

// maxHold is beyond what RFC 5382 REQ-5 has NATs keep idle connections for.
const maxHold = 3 * time.Hour

// hold waits for d on behalf of a client that wants to know whether an idle
// connection lives so long, or until the client speaks or leaves: then there
// is nothing more to measure. Over the limit it does not wait.
func (s *Server) hold(f flow, d time.Duration) error {
	select {
	case s.holds <- struct{}{}:
		defer func() { <-s.holds }()
	default:
		s.counts.metHolds.Add(1)
		return nil
	}
	f.conn.SetReadDeadline(time.Now().Add(min(d, maxHold)))
	_, err := f.conn.Read(make([]byte, 1))
	if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
		return nil
	}
	return errNotSTUN
}

// public is what clients call one of our endpoints.
func (s *Server) public(a netip.AddrPort) netip.AddrPort {
	if p, ok := s.Public[a.Addr()]; ok {
		return netip.AddrPortFrom(p, a.Port())
	}
	return a
}

// others returns the endpoints with another address, another port and both
// that this server itself has for a connection to local; each is invalid if
// there is none. Only those of the same family count.
func (s *Server) others(local netip.AddrPort) (ip, port, both netip.AddrPort) {
	for _, a := range s.Alternates {
		a = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
		if a.Addr().IsUnspecified() {
			a = netip.AddrPortFrom(local.Addr(), a.Port())
		}
		switch {
		case a.Addr().Is4() != local.Addr().Is4():
		case a.Addr() == local.Addr():
			port = first(port, a, a.Port() != local.Port())
		case a.Port() == local.Port():
			ip = first(ip, a, true)
		default:
			both = first(both, a, true)
		}
	}
	// Clients derive two endpoints from OTHER-ADDRESS by exchanging one half
	// of it for ours, so the three must agree.
	if ip.IsValid() && port.IsValid() {
		both = netip.AddrPortFrom(ip.Addr(), port.Port())
	}
	return ip, port, both
}

func first(have, next netip.AddrPort, fits bool) netip.AddrPort {
	if have.IsValid() || !fits {
		return have
	}
	return next
}

// Other returns the endpoint besides local that clients there are told of
// (OTHER-ADDRESS), as they know it: so that they can be told beforehand.
// Invalid: there is none.
func (s *Server) Other(local netip.AddrPort) netip.AddrPort {
	return s.other(s.around(netip.AddrPortFrom(local.Addr().Unmap(), local.Port())))
}

// other is OTHER-ADDRESS (RFC 5780 section 7.4): both halves differ where the
// server has both, else the half that can.
func (s *Server) other(r around) netip.AddrPort {
	there := s.public
	if r.lender != nil {
		there = func(a netip.AddrPort) netip.AddrPort { return a }
	}
	switch {
	case r.ip.IsValid() && r.port.IsValid():
		return there(r.both)
	case r.port.IsValid():
		return s.public(r.port)
	case r.ip.IsValid():
		return there(r.ip)
	}
	return netip.AddrPort{}
}
