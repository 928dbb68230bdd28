package rendezvous

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gostunt/stunt/internal/park"
)

const defaultPatience = 10 * time.Second

// A Server introduces nodes to each other. The zero value is ready for use; do
// not copy one, and set its fields before the first connection. All methods may
// be called at any time from any goroutine.
type Server struct {
	Logger    *slog.Logger  // nil is silent
	Agent     string        // told to clients; may be empty
	Keepalive time.Duration // clients ping this often, and are gone after 2.5 times that in silence; 0: 25 s
	Hold      time.Duration // how long a name stays with its key after its session ended, and if it is more than the default, after it was given up; 0: 1 min, negative: not at all
	Patience  time.Duration // how long a peer may take to answer an Offer; 0: 10 s
	Greeting  time.Duration // from the accepted connection to its Hello; 0: 10 s
	Drain     time.Duration // over which Shutdown spreads the clients' return; 0: 5 s
	// ReturnRate is how many clients a second are to come back if all lose the
	// server at once, as when it is killed: they are told so beforehand, and
	// spread themselves. 0: they come as they like.
	ReturnRate int
	Limits     Limits

	// Admit, if not nil, is asked about everybody who wants a session, and says
	// what it may do; a nil Pass is everything. Its error is told to the client, as that of a Pass is, and
	// final for it if it is CodeNotAllowed or about the token.
	// It holds up only that client, and one of the places of Limits.Handshakes.
	Admit func(Applicant) (Pass, error)

	// Entitled, if not nil, is asked by Review about each name that a key has here,
	// or that is held for it. It must not block.
	Entitled func(fingerprint, name string) bool

	// Denied, if not nil, is called by Review for each session that it ends, but for
	// one whose token is over, and which may have another. It must not block.
	Denied func(key ed25519.PublicKey)

	// Trace, if not nil, sees what happens, for who counts it.
	Trace *Trace

	// Relays are told to every client: host:port each, with RelayHere in front
	// if it is this server; the first MaxRelays.
	Relays []string
	// Tickets, if not nil, makes what the two ends of a dial meet at one of
	// Relays with. It is called for each dial, and must not block.
	Tickets func(id DialID, caller, callee ed25519.PublicKey) (toCaller, toCallee []byte)

	// Lends are the endpoints, as clients know them, that the other servers of a
	// cluster may send their clients to; the first MaxLends. DoErrand, if not nil,
	// does what another server asks for in an Errand, and calls answer once, from
	// whichever goroutine, or not at all. It must not block.
	Lends    []netip.AddrPort
	DoErrand func(message []byte, answer func([]byte))

	Now func() time.Time // for the hold time and what is learnt; nil: time.Now

	start     sync.Once
	sessions  atomic.Int64
	lot       park.Lot       // where sessions wait
	running   sync.WaitGroup // sessions, and what may become one
	door      door
	directory directory
	dials     dialTable
	pace      pace
	learnt    learnt
	cluster   *cluster // nil: there is no other server; set by Join
}

func (s *Server) setUp() {
	s.start.Do(func() {
		if s.lot == nil {
			s.lot = park.New()
		}
		s.door.handshakes, s.door.perSource = s.Limits.handshakes(), s.Limits.sessionsPerSource()
		s.door.silence = s.keepalive() * 5 / 2
		s.directory.hold = span(s.Hold, time.Minute)
		s.directory.idsPerKey, s.directory.sessPerKey = s.Limits.idsPerKey(), s.Limits.sessionsPerKey()
		s.directory.quietPeriod = s.keepalive() * 5 / 4 // one ping missed, with room for jitter
		s.dials.pendingOut, s.dials.pendingIn = s.Limits.pendingDials(), s.Limits.pendingDials()
		s.dials.open = s.Limits.openDials()
		s.pace.setUp(s.Limits)
	})
}

func span(d, byDefault time.Duration) time.Duration {
	if d == 0 {
		return byDefault
	}
	return d
}

func (s *Server) keepalive() time.Duration { return span(s.Keepalive, 25*time.Second) }
func (s *Server) logger() *slog.Logger     { return orSilent(s.Logger) }

func (s *Server) now() time.Time {
	if s.Now != nil {
		return s.Now()
	}
	return time.Now()
}

func orSilent(l *slog.Logger) *slog.Logger {
	if l == nil {
		return slog.New(slog.DiscardHandler)
	}
	return l
}

// ServeConn begins a session on conn, a connection accepted with [ServerTLS],
// handshake done or not, and TCP underneath. It owns conn and closes it. Its
// error says why there is no session; ctx bounds no more than its beginning.
// The session goes on without the caller until its end, Close or Shutdown. While
// it is idle it has no goroutine on Linux, and a small one elsewhere, no timer,
// and no buffer but those of crypto/tls.
func (s *Server) ServeConn(ctx context.Context, conn *tls.Conn) error {
	s.setUp()
	boundBuffer(conn)
	l := newLink(conn, conn.NetConn(), maxQueue)
	from := addrPort(conn.RemoteAddr())
	full, err := s.door.enter(sourceOf(from.Addr()), l)
	if err != nil {
		l.close(err)
		return err
	}
	s.running.Add(1)
	sess, err := s.begin(ctx, l, from, full)
	if err != nil {
		s.part(l, from)
		s.running.Done()
		return err
	}
	sess.run(false) // what came with the Hello is in crypto/tls already
	return nil
}

// begin makes a session of a connection, or tells the client why not.
func (s *Server) begin(ctx context.Context, l *link, from netip.AddrPort, full bool) (*session, error) {
	defer context.AfterFunc(ctx, func() { l.close(context.Cause(ctx)) })()
	l.conn.SetReadDeadline(time.Now().Add(span(s.Greeting, 10*time.Second)))
	l.conn.SetWriteDeadline(time.Now().Add(span(s.Greeting, 10*time.Second)))
	sess, err := s.greet(l, from, full)
	if in := s.door.greeted(l, sess); err == nil && !in {
		err = errorf(CodeShuttingDown, "come back in %v", s.drain())
	}
	if err == nil {
		err = s.settle(sess)
	}
	if err == nil {
		err = s.admit(sess)
	}
	if err != nil {
		s.refuse(l, from, err)
		return nil, l.reason(err)
	}
	return sess, nil
}

// settle gives a session the place in which it waits for the client.
func (s *Server) settle(sess *session) error {
	spot, err := s.lot.Enter(sess.link.raw, sess.run)
	if err == nil {
		sess.link.attach(spot)
	}
	return err
}

// part is the last of a connection.
func (s *Server) part(l *link, from netip.AddrPort) {
	l.close(net.ErrClosed) // not only the connection: after it nobody's word starts a writer that wait would miss
	l.wait()
	if l.spot != nil {
		l.spot.Leave()
	}
	s.door.leave(sourceOf(from.Addr()), l)
}

// greet takes the connection to its Hello and makes a session of it.
func (s *Server) greet(l *link, from netip.AddrPort, full bool) (*session, error) {
	conn := l.conn.(*tls.Conn)
	if err := conn.Handshake(); err != nil { // bounded by the deadlines just set
		return nil, err
	}
	if full {
		return nil, errorf(CodeLimit, "too many connections from your address").of(limitSource)
	}
	key, err := clientKey(conn.ConnectionState())
	if err != nil {
		return nil, err
	}
	first, err := readMessage(conn, func() {})
	if err != nil {
		return nil, err
	}
	h, ok := first.(*hello)
	if !ok {
		return nil, errorf(CodeBadMessage, "the first message is not a hello")
	}
	version, err := negotiate(h.Min, h.Max)
	if err != nil {
		return nil, err
	}
	pass, err := s.passFor(Applicant{Key: key, From: from, Token: h.Token})
	if err != nil {
		return nil, err
	}
	s.logger().Debug("hello", "remote", from, "agent", h.Agent)
	sess := newSession(s, l, key, from, version)
	sess.pass = pass
	return sess, nil
}

// negotiate returns the highest version that both ends speak.
func negotiate(lowest, highest uint16) (uint16, error) {
	version := min(highest, MaxVersion)
	if version < max(lowest, MinVersion) {
		return 0, errorf(CodeVersion, "the client speaks %d to %d, the server %d to %d",
			lowest, highest, MinVersion, MaxVersion)
	}
	return version, nil
}

// admit enters the session in the directory and welcomes it.
func (s *Server) admit(sess *session) error {
	stale, err := s.directory.join(sess, s.now())
	if err != nil {
		return err
	}
	if stale != nil {
		stale.link.close(errorf(CodeReplaced, "it missed its keepalive and another session came"))
	}
	s.sessions.Add(1)
	w := &Welcome{Version: sess.version, Observed: sess.observed, Keepalive: s.keepalive(), Agent: clip(s.Agent, MaxText), Spread: s.spread()}
	if sess.pass.MayRelay() {
		w.Relays = s.relays()
	}
	sess.tell(w)
	s.seeSession(&Error{})
	s.logger().Info("session began", "peer", sess.fingerprint, "remote", sess.observed)
	return nil
}

// refuse tells the client why there is no session, if it got as far as to hear it.
func (s *Server) refuse(l *link, from netip.AddrPort, err error) {
	s.logger().Info("session refused", "remote", from, "err", err)
	if e, ok := errors.AsType[*Error](err); ok {
		s.seeSession(e)
		l.finish(e)
		l.linger()
	}
}

// end is the end of a session. It runs on the goroutine that served it last.
func (s *Server) end(sess *session, reason error) {
	reason = sess.link.reason(reason)
	s.dismiss(sess, reason)
	s.part(sess.link, sess.observed)
	if s.Trace != nil && s.Trace.Ended != nil {
		s.Trace.Ended(reason)
	}
	s.running.Done()
}

// dismiss takes an ended session out of everything, and tells those who wait
// for it.
func (s *Server) dismiss(sess *session, reason error) {
	s.sessions.Add(-1)
	s.directory.leave(sess, s.now())
	s.changed()
	if errors.Is(reason, errSlow) {
		s.seeLimit(limitUnread)
	}
	for _, d := range s.dials.leave(sess) {
		s.seeAnswered(d, CodePeerGone)
		s.cut(d, sess.seat())
	}
	s.logger().Info("session ended", "peer", sess.fingerprint, "remote", sess.observed, "err", reason)
}

func (s *Server) drain() time.Duration { return span(s.Drain, 5*time.Second) }

// Shutdown asks all clients to leave, spread over the Drain time, in which
// sessions go on as before but no new one begins. It returns when all have
// left, and cuts those that have not when Drain or ctx is over; the error is
// then that of ctx, or nil. Close the listeners first. Nothing of the server
// runs after it, and it cannot be used again.
func (s *Server) Shutdown(ctx context.Context) error {
	s.setUp()
	there, empty := s.door.drain()
	for _, sess := range there {
		if sess != nil {
			sess.tell(&bye{Spread: s.drain()})
		}
	}
	timer := time.NewTimer(s.drain() + lingerTime)
	defer timer.Stop()
	var err error
	select {
	case <-empty:
	case <-timer.C:
	case <-ctx.Done():
		err = ctx.Err()
	}
	s.Close()
	return err
}

// Close cuts all sessions, as a crash would, and returns when nothing of the
// server runs any more. Close the listeners first. The server cannot be used
// again; the error is nil.
func (s *Server) Close() error {
	s.setUp()
	for l := range s.door.close() {
		l.close(CodeShuttingDown)
	}
	s.running.Wait()
	s.lot.Close()
	return nil
}

// spread is what clients are told of ReturnRate, in whole seconds.
func (s *Server) spread() time.Duration {
	if s.ReturnRate <= 0 {
		return 0
	}
	return min(time.Duration(s.Sessions()/s.ReturnRate)*time.Second, maxSpread)
}

// Sessions returns how many sessions there are.
func (s *Server) Sessions() int { return int(s.sessions.Load()) }

// Outcomes returns how the dials of this server ended, as their callers say.
func (s *Server) Outcomes() []OutcomeCount { return s.learnt.tally.counts() }

// Hints returns what this server has learnt of kinds of NAT, in alphabetical
// order.
func (s *Server) Hints() []Hint { return s.learnt.kinds.list(s.now()) }
