package stuntd

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/gostunt/stunt/internal/sock"
	"github.com/gostunt/stunt/relay"
	"github.com/gostunt/stunt/rendezvous"
	"github.com/gostunt/stunt/stuntd/status"
)

// The first byte of a connection says what it speaks (RFC 7983 does the same
// for UDP).
const (
	firstSTUN = 0x01 // and 0x00: the type of a STUN message begins with two zero bits, and its method is below 0x100
	firstTLS  = 0x16 // a TLS record of type handshake
)

// quiet is how long the log says nothing more about what a stranger can repeat
// at will.
const quiet = 10 * time.Second

// A mux accepts connections and hands each to the protocol that it opens with:
// STUN, a relay stream, or TLS and then what ALPN says. Until then a client is half-open and
// costs one goroutine and no buffer beyond that of its TLS handshake; how many
// may be half-open, and for how long, is limited.
//
// The handlers own their connection and close it. They may return before it
// ends: session does when the session has begun. The goroutine that calls stun
// has not grown its stack in a handshake; those that call web and the relay are
// fresh for the same reason: an idle stream keeps its stack for as long as it lives.
type mux struct {
	door    *door
	quota   *quota // of handshakes
	turns   turns  // in which they compute
	tls     *tls.Config
	log     *slog.Logger
	stun    func(context.Context, net.Conn)
	session func(context.Context, *tls.Conn)
	web     func(*tls.Conn)
	relay   *relay.Server // nil: none
	board   *status.Board // nil: nobody counts

	wg      sync.WaitGroup // accept loops, greetings and handlers
	refused atomic.Int64   // since the last line about it
	warn    rate.Sometimes // Interval: quiet
}

// run accepts connections on ln until it is closed. ctx ends those that are
// half-open and is what the handlers get. It returns at once; m.wg waits.
func (m *mux) run(ctx context.Context, ln net.Listener) {
	m.wg.Go(func() { m.accept(ctx, ln) })
}

// accept is the accept loop of one listener. Only a closed listener ends it:
// all other errors are a want of something (files, buffers, memory) that comes
// back, so it waits, says so once, and says when it is over.
func (m *mux) accept(ctx context.Context, ln net.Listener) {
	const most = time.Second
	var wait time.Duration
	var said bool // in the log, that there are errors
	some := rate.Sometimes{Interval: quiet}
	for {
		nc, err := ln.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			if wait == 0 { // files come free one at a time and are taken again: not a line for each
				some.Do(func() {
					m.log.Error("not accepting connections", "local", ln.Addr(), "err", err)
					said = true
				})
			}
			wait = min(max(2*wait, 5*time.Millisecond), most)
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				return
			}
			continue
		case said:
			m.log.Info("accepting connections again", "local", ln.Addr())
			said = false
		}
		wait = 0
		c, err := m.door.admit(nc)
		if err != nil {
			m.refuse(nc, err)
			continue
		}
		m.wg.Go(func() { m.greet(ctx, c) })
	}
}

// refuse closes a connection that is over the limit that err names.
func (m *mux) refuse(nc net.Conn, err error) {
	remote := nc.RemoteAddr()
	m.refused.Add(1)
	m.met(err) // before the client can know
	if tc, ok := nc.(*net.TCPConn); ok {
		sock.Abort(tc)
	} else {
		nc.Close()
	}
	m.log.Debug("connection refused", "remote", remote, "err", err)
	m.warn.Do(func() { // a stranger does not choose how long our log is
		m.log.Warn("too many connections", "remote", remote, "err", err, "refused", m.refused.Swap(0))
	})
}

// greet finds out what a client speaks and hands it on.
func (m *mux) greet(ctx context.Context, c *conn) {
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	c.SetDeadline(time.Now().Add(m.door.limits.Handshake))
	first, err := c.peek()
	switch {
	case err != nil:
		m.drop(c, "first byte", err)
	case first <= firstSTUN && m.door.memory.strain() >= noSTUN:
		m.refuse(c, errMemory)
	case first <= firstSTUN:
		if m.settle(c, stop) {
			m.saw(status.ProtocolSTUN)
			m.stun(ctx, c)
		}
	case first == relay.FirstByte && m.relay != nil:
		m.pair(c, stop)
	case first == firstTLS:
		m.secure(ctx, c, stop)
	default:
		m.drop(c, "first byte", errProtocol)
	}
}

// pair hands a relay stream on once it has shown a good ticket: until then it
// is half-open.
func (m *mux) pair(c *conn, stop func() bool) {
	s, err := m.relay.Greet(c) // bounded by the deadline on c, and ctx closes it
	if err != nil {
		m.drop(c, "relay", err)
		return
	}
	if m.settle(c, stop) {
		m.saw(status.ProtocolRelay)
		m.wg.Go(func() { m.relay.Serve(s) }) // which counts and logs how it ended
	}
}

// secure makes the TLS handshake and hands c on to what ALPN says. A client
// that names no protocol (some health checks) gets HTTP.
func (m *mux) secure(ctx context.Context, c *conn, stop func() bool) {
	if !m.quota.allow(c.source, time.Now()) {
		m.refuse(c.Conn, errHandshakes)
		c.Close() // gives its place back
		return
	}
	c.wholeRecords()
	tc := tls.Server(c, m.tls)
	if err := m.turns.handshake(tc, c); err != nil { // bounded by the deadline on c, and ctx closes it
		m.drop(c, "tls", err)
		return
	}
	if !m.settle(c, stop) {
		return
	}
	switch tc.ConnectionState().NegotiatedProtocol {
	case protoSession:
		m.saw(status.ProtocolSession)
		m.session(ctx, tc)
	default:
		m.saw(status.ProtocolHTTP)
		m.wg.Go(func() { m.web(tc) })
	}
}

// settle ends the half-open state of c. It reports whether c is still open:
// if not, ctx ended and closed it.
func (m *mux) settle(c *conn, stop func() bool) bool {
	if !stop() {
		c.Close()
		return false
	}
	c.settle()
	c.SetDeadline(time.Time{})
	return true
}

// drop closes a connection that said nothing that we understand. That is what
// a port on the Internet sees all day, so nobody is told about it.
func (m *mux) drop(c *conn, phase string, err error) {
	m.saw(status.ProtocolNone)
	m.log.Debug("connection dropped", "remote", c.RemoteAddr(), "phase", phase, "err", err)
	c.Close()
}

// saw counts what a connection turned out to speak.
func (m *mux) saw(protocol string) {
	if m.board != nil {
		m.board.Accepted(protocol)
	}
}

// met counts a limit that a connection was over.
func (m *mux) met(err error) {
	if over, ok := errors.AsType[*overLimit](err); ok && m.board != nil {
		m.board.Limited(over.name)
	}
}

var errProtocol = errors.New("neither STUN nor TLS nor a relay stream")

// ALPN protocols (RFC 7301).
const (
	protoSession = rendezvous.ALPN
	protoHTTP    = "http/1.1"
)
