package rendezvous

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// A server may ask for any keepalive; what it gets is within these.
const (
	minKeepalive = 50 * time.Millisecond
	maxKeepalive = 5 * time.Minute
)

// errDrained ends a session whose server said Bye.
var errDrained = errors.New("the server is shutting down")

// A clientSession is the client's side of one connection to one server.
type clientSession struct {
	client  *Client
	link    *link
	welcome Welcome // set before the client's welcome is

	awaiting atomic.Bool // a ping is out, and nothing has come since

	mu       sync.Mutex // guards following
	requests map[uint32]*request
	calls    map[DialID]*Call
	offers   map[DialID]*Offer
	lastRef  uint32
	err      error // why the session ended

	// Owned by run:
	began     time.Time // the Welcome
	notBefore time.Time // see visit
	spread    time.Duration
	leave     *time.Timer
	pinger    sync.WaitGroup
	stop      chan struct{} // closed by run, to stop the pinger
}

// A request waits for the reply that has its number.
type request struct {
	registration *registration // not nil: the reply settles it
	reply        chan reply    // capacity 1; gets at most one
}

type reply struct {
	message message
	err     error
}

// visit connects to the round's server, unless a connection is there already,
// and runs a session until it ends.
func (c *Client) visit(ctx context.Context, r *round, cert tls.Certificate, conn *tls.Conn) (v visit) {
	if v.found = FoundServer; conn == nil {
		if conn, v.found, v.err = c.connect(ctx, r.server(), cert); v.err != nil {
			if ctx.Err() != nil {
				v.err = context.Cause(ctx)
			}
			return v
		}
	}
	token, err := c.cfg.token()
	if err != nil {
		conn.NetConn().Close()
		v.err = fmt.Errorf("rendezvous: the token: %w", err)
		return v
	}
	s := &clientSession{client: c, link: newLink(conn, conn.NetConn(), math.MaxInt), stop: make(chan struct{}),
		requests: make(map[uint32]*request), calls: make(map[DialID]*Call), offers: make(map[DialID]*Offer)}
	defer context.AfterFunc(ctx, func() { s.link.hangUp(context.Cause(ctx)) })()
	s.begin(token)
	look := c.lookOut(ctx, r, cert, func() { s.link.hangUp(errEarlier) })
	v.err = s.link.reason(s.read())
	v.earlier = look.end()
	s.end(v.err)
	v.notBefore, v.spread = s.notBefore, s.spread
	if !s.began.IsZero() {
		v.lasted = time.Since(s.began)
	}
	return v
}

// connect says also what it found, where there is an error.
func (c *Client) connect(ctx context.Context, server ServerAddr, cert tls.Certificate) (_ *tls.Conn, found Found, _ error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.timeout())
	defer cancel()
	dial := c.cfg.Dial
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	raw, err := dial(ctx, "tcp", server.HostPort())
	if err != nil {
		return nil, foundBy(err, false), err
	}
	abort(raw)
	conn := tls.Client(raw, server.tlsConfig(cert, c.cfg.RootCAs))
	err = conn.HandshakeContext(ctx)
	if err == nil && conn.ConnectionState().NegotiatedProtocol != ALPN {
		err = ErrProtocol
	}
	if err != nil {
		raw.Close()
		return nil, foundBy(err, true), err
	}
	return conn, FoundServer, nil
}

// begin sends everything that a server is to know, before it is asked: a node
// is registered one round trip after TLS. The candidates go before the names,
// so that nobody is introduced to a node without them.
func (s *clientSession) begin(token string) {
	c := s.client
	c.mu.Lock()
	defer c.mu.Unlock()
	batch, err := encode(&hello{Min: MinVersion, Max: MaxVersion, Agent: clip(c.cfg.Agent, MaxText), Token: token})
	if err == nil && c.info != nil {
		var frame []byte
		frame, err = encode(c.info)
		batch = append(batch, frame...)
	}
	if err != nil { // not with checked input
		s.link.close(err)
		return
	}
	for _, r := range c.ids {
		batch = append(batch, s.registerFrame(r)...)
	}
	// Under the lock, so that no later Register or Update gets in before it.
	s.link.send(batch)
	c.current = s
}

// registerFrame makes the request for a registration. Caller holds the client's mu.
func (s *clientSession) registerFrame(r *registration) []byte {
	frame, err := encode(&register{Ref: s.number(&request{registration: r}), ID: r.id})
	if err != nil {
		return nil // a valid ID fits
	}
	return frame
}

// number gives a request its own.
func (s *clientSession) number(r *request) uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastRef++
	s.requests[s.lastRef] = r
	return s.lastRef
}

// request sends what build makes and waits for the reply to it.
func (s *clientSession) request(ctx context.Context, build func(ref uint32) message) (message, error) {
	r := &request{reply: make(chan reply, 1)}
	ref := s.number(r)
	defer s.take(ref)
	s.mu.Lock()
	err := s.err
	s.mu.Unlock()
	if err != nil {
		return nil, lost(err)
	}
	s.send(build(ref))
	s.await()
	select {
	case got := <-r.reply:
		return got.message, got.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// take removes a request and returns it, or nil.
func (s *clientSession) take(ref uint32) *request {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.requests[ref]
	delete(s.requests, ref)
	return r
}

// replied hands a reply to whoever asked for it.
func (s *clientSession) replied(ref uint32, m message, err error) {
	r := s.take(ref)
	switch {
	case r == nil: // given up
	case r.registration == nil:
		r.reply <- reply{m, err}
	case err == nil:
		s.client.granted(r.registration)
	default:
		s.client.denied(r.registration, err)
	}
}

// send queues a message; a session that has ended drops it.
func (s *clientSession) send(m message) {
	frame, err := encode(m)
	if err != nil {
		orSilent(s.client.cfg.Logger).Debug("message not sent", "err", err)
		return
	}
	s.link.send(frame)
}

// read serves messages until the session ends.
func (s *clientSession) read() error {
	timeout := s.client.cfg.timeout()
	s.link.expect(timeout)
	for {
		m, err := readMessage(s.link.conn, func() { s.link.expect(timeout) })
		if err != nil {
			return err
		}
		s.link.expect(0)
		s.awaiting.Store(false) // it lives, until a ping shows otherwise; last, so that no time just set is undone
		if s.began.IsZero() {
			err = s.welcomed(m)
		} else {
			err = s.serve(m)
		}
		if err != nil {
			return err
		}
	}
}

// welcomed takes the first message of the server.
func (s *clientSession) welcomed(m message) error {
	switch m := m.(type) {
	case *Error:
		return m
	case *Welcome:
		if m.Version < MinVersion || m.Version > MaxVersion {
			return errorf(CodeVersion, "the server chose %d, this client speaks %d to %d", m.Version, MinVersion, MaxVersion)
		}
		s.began, s.welcome, s.spread = time.Now(), *m, m.Spread
		s.pinger.Go(s.ping)
		s.stand()
		return nil
	}
	return errorf(CodeBadMessage, "the server began with something other than a welcome")
}

// stand makes the session the one that callers get, once OnSession knows of it:
// who dials at this moment should know what the Welcome has told.
func (s *clientSession) stand() {
	c := s.client
	if c.cfg.OnSession != nil {
		c.cfg.OnSession(s.welcome, s.link.raw)
	}
	c.mu.Lock()
	c.welcome, c.last = &s.welcome, nil
	close(c.changed)
	c.changed = make(chan struct{})
	c.mu.Unlock()
	orSilent(c.cfg.Logger).Debug("session up", "local", s.welcome.Observed, "remote", s.link.conn.RemoteAddr())
}

// ping keeps the session, and the NAT mapping under it, alive. It ends when
// the session's reader closes stop, and waits.
func (s *clientSession) ping() {
	tick := time.NewTicker(min(max(s.welcome.Keepalive, minKeepalive), maxKeepalive))
	defer tick.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-tick.C:
			s.await()
			s.send(&ping{})
		}
	}
}

// await gives the server some time to say something, after which the session
// ends. Only the first unanswered message sets the time: each of the later
// ones would put it off.
func (s *clientSession) await() {
	if s.awaiting.CompareAndSwap(false, true) {
		s.link.expect(s.client.cfg.patience())
	}
}

// serve handles one message. An error ends the session.
func (s *clientSession) serve(m message) error {
	switch m := m.(type) {
	case *registered:
		s.replied(m.Ref, m, nil)
	case *deregistered:
		s.replied(m.Ref, m, nil)
	case *Presence:
		s.replied(m.Ref, m, nil)
	case *Ringing:
		s.rang(m)
	case *Answer:
		s.answeredBy(m)
	case *Offer:
		s.offered(m)
	case *goAhead:
		s.told(m.DialID, nil)
	case *cancel:
		s.told(m.DialID, &Error{Code: m.Code, DialID: m.DialID})
	case *Error:
		return s.failed(m)
	case *bye:
		s.bye(m)
	case *pong:
		s.spread = m.Spread
	case *unknown:
	default:
		return errorf(CodeBadMessage, "a server does not send this (kind %d)", m.kind())
	}
	return nil
}

// failed finds out what an Error is about. One about the session ends it.
func (s *clientSession) failed(e *Error) error {
	switch {
	case e.DialID != DialID{}:
		s.refused(e)
	case e.Ref != 0:
		s.replied(e.Ref, nil, e)
	case e.Code == CodeReplaced:
		s.client.replaced(e.ID, e)
		return e
	case e.Code == CodeIDTaken && e.ID != "": // the name only; servers that were apart have compared
		s.client.replaced(e.ID, e)
	default:
		return e
	}
	return nil
}

// bye leaves a draining server at a random moment of the time it gives. Dials
// go on until then.
func (s *clientSession) bye(m *bye) {
	if s.leave != nil {
		return
	}
	var wait time.Duration
	if most := min(m.Spread, maxLeave); most > 0 {
		wait = rand.N(most)
	}
	s.notBefore = time.Now().Add(wait)
	s.leave = time.AfterFunc(wait, func() { s.link.hangUp(errDrained) })
}

// end closes the connection and tells everybody who waited for something.
func (s *clientSession) end(reason error) {
	close(s.stop)
	s.pinger.Wait()
	if s.leave != nil {
		s.leave.Stop()
	}
	c := s.client
	c.mu.Lock()
	c.current, c.welcome = nil, nil
	c.mu.Unlock()
	s.link.flush() // what the hooks and Conclude have queued
	s.link.close(reason)
	s.link.wait()
	s.fail(reason)
}

// fail ends what needed the session. A dial that has its answer does not.
func (s *clientSession) fail(reason error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = reason
	for ref, r := range s.requests {
		delete(s.requests, ref)
		if r.reply != nil {
			r.reply <- reply{err: lost(reason)} // has room: it was still awaited
		}
	}
	for id, call := range s.calls {
		delete(s.calls, id)
		if !call.answered {
			call.fail(lost(reason))
		}
	}
	for id, o := range s.offers {
		delete(s.offers, id)
		if o.needsServer() {
			o.fail(lost(reason))
		}
	}
}

// lost wraps the reason for which there is no session.
func lost(reason error) error {
	return fmt.Errorf("rendezvous: %w: %w", ErrDisconnected, reason)
}
