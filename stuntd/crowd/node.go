package crowd

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/gostunt/stunt/internal/park"
	"github.com/gostunt/stunt/rendezvous"
)

const (
	// connectTime is a Client's: for TCP, TLS and the Welcome.
	connectTime = 10 * time.Second
	// frameTime is for a frame that has begun.
	frameTime = 10 * time.Second
	// stableTime is how long a session must have lasted for its end not to be
	// one more failure, as in package rendezvous.
	stableTime = 10 * time.Second
)

// What a node says of itself has the size that it has with a node at home.
var (
	someCandidates = make([]byte, 120)
	someReport     = make([]byte, 250)
	someNoise      = make([]byte, 200)
)

// A node is one light node. Between two events it has no goroutine.
type node struct {
	crowd *nodes
	index int
	cert  tls.Certificate

	mu       sync.Mutex // guards following
	session  *session   // nil while it is away
	again    *time.Timer
	failures int
	spread   time.Duration // as the server has said last
}

// A session is one of a node's, from its Welcome to its end.
type session struct {
	conn  *tls.Conn
	spot  park.Spot
	began time.Time

	mu      sync.Mutex // guards following
	leaving *time.Timer
	pinged  bool // and nothing has come since
}

func newNode(c *nodes, index int) (*node, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	cert, err := rendezvous.Certificate(key)
	return &node{crowd: c, index: index, cert: cert}, err
}

func name(index int) string { return fmt.Sprintf("n%d", index) }

// local is an address of the loopback that no other node has.
func local(index int) netip.Addr {
	i := index + 1<<16 // 127.1.0.0 and on
	return netip.AddrFrom4([4]byte{127, byte(i >> 16), byte(i >> 8), byte(i)})
}

// come makes a session, or has another attempt follow. It runs on a goroutine
// of its own, which ends with it.
func (n *node) come() {
	conn, err := n.connect()
	if err != nil {
		n.crowd.failed.Add(1)
		n.away(found(err))
		return
	}
	n.stand(conn)
}

// found is what a Client takes an error of connect for.
func found(err error) rendezvous.Found {
	op, ok := errors.AsType[*net.OpError](err)
	switch {
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return rendezvous.FoundFull
	case errors.Is(err, syscall.ECONNREFUSED):
		return rendezvous.FoundGone
	case ok && op.Op == "dial":
		return rendezvous.FoundNobody
	}
	return rendezvous.FoundServer
}

// connect takes a connection to its Registered.
func (n *node) connect() (_ *tls.Conn, err error) {
	ctx, cancel := context.WithTimeout(n.crowd.ctx, connectTime)
	defer cancel()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: local(n.index).AsSlice()}}
	raw, err := d.DialContext(ctx, "tcp", n.crowd.server.HostPort())
	if err != nil {
		return nil, err
	}
	raw.(*net.TCPConn).SetLinger(0) // as a Client, which wants its port back
	conn := tls.Client(raw, n.crowd.tls(n.cert))
	deadline, _ := ctx.Deadline()
	conn.SetDeadline(deadline)
	if err = conn.HandshakeContext(ctx); err == nil {
		err = n.introduce(conn)
	}
	if err != nil {
		raw.Close()
		return nil, err
	}
	conn.SetDeadline(time.Time{})
	return conn, nil
}

// introduce says who the node is and waits until it is registered.
func (n *node) introduce(conn *tls.Conn) error {
	_, err := conn.Write(encode(frame{Kind: kindHello, Min: 1, Max: 1, Text: "crowd"},
		frame{Kind: kindInfo, Candidates: someCandidates, Report: someReport},
		frame{Kind: kindRegister, Ref: 1, ID: name(n.index)}))
	for _, want := range []uint8{kindWelcome, kindRegistered} {
		var f *frame
		if err == nil {
			f, err = readFrame(conn, func() {})
		}
		if err == nil && f.Kind == kindWelcome {
			n.told(f)
		}
		if err == nil && f.Kind != want {
			err = fmt.Errorf("a message of kind %d, code %d, %q", f.Kind, f.Code, f.Text)
		}
	}
	return err
}

// told notes what a Welcome or a Pong says of the return of all.
func (n *node) told(f *frame) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.spread = f.Spread
}

// stand begins a session.
func (n *node) stand(conn *tls.Conn) {
	s := &session{conn: conn, began: time.Now()}
	var err error
	s.spot, err = n.crowd.lot.Enter(conn, func(readable bool) { n.serve(s, readable) })
	if err != nil { // TCP is in it
		panic(err)
	}
	n.mu.Lock()
	n.session = s
	n.mu.Unlock()
	n.crowd.standing.Add(1)
	if n.crowd.ctx.Err() != nil {
		s.close() // nobody else may have seen it
	}
	n.serve(s, false)
}

// serve takes what the server has said, and waits for more without this
// goroutine.
func (n *node) serve(s *session, readable bool) {
	for {
		f, err := s.next(readable)
		if err == nil && f == nil {
			s.spot.Wait()
			return
		}
		if err == nil {
			err = n.hear(s, f)
		}
		if err != nil {
			n.lose(s)
			return
		}
		readable = false
	}
}

// next reads one frame; nil if there is none.
func (s *session) next(readable bool) (*frame, error) {
	deadline := time.Now().Add(-1) // takes what TLS has read ahead
	if readable {
		deadline = time.Now().Add(frameTime)
	}
	s.conn.SetReadDeadline(deadline)
	began := false
	f, err := readFrame(s.conn, func() {
		if began = true; !readable {
			s.conn.SetReadDeadline(time.Now().Add(frameTime))
		}
	})
	if !began && errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, nil
	}
	return f, err
}

// hear handles one frame. An error ends the session.
func (n *node) hear(s *session, f *frame) error {
	s.mu.Lock()
	s.pinged = false
	s.mu.Unlock()
	switch f.Kind {
	case kindPong:
		n.told(f)
	case kindOffer:
		_, err := s.conn.Write(encode(frame{Kind: kindAnswer, DialID: f.DialID, Noise: someNoise, Candidates: someCandidates, Report: someReport},
			frame{Kind: kindOutcome, DialID: f.DialID, OK: true, Method: "crowd"}))
		return err
	case kindRinging, kindAnswer:
		if n.crowd.dials.heard(f) {
			_, err := s.conn.Write(encode(frame{Kind: kindOutcome, DialID: f.DialID, OK: true, Method: "crowd"}))
			return err
		}
	case kindBye:
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.leaving == nil {
			s.leaving = time.AfterFunc(mathrand.N(max(f.Spread, 1)), s.close)
		}
	case kindError:
		if n.crowd.dials.refused(f) {
			return nil
		}
		return fmt.Errorf("error %d, %q", f.Code, f.Text)
	}
	return nil
}

// close has the session end, on the goroutine that serves it.
func (s *session) close() {
	s.conn.NetConn().Close()
	s.spot.Wake()
}

// lose is the end of a session.
func (n *node) lose(s *session) {
	s.close()
	s.spot.Leave()
	s.mu.Lock()
	asked := s.leaving != nil && !s.leaving.Stop() // we left because we were asked to
	s.mu.Unlock()
	n.mu.Lock()
	n.session = nil
	if asked || time.Since(s.began) >= stableTime {
		n.failures = 0
	}
	n.mu.Unlock()
	n.crowd.standing.Add(-1)
	n.crowd.lost.Add(1)
	n.away(rendezvous.FoundServer)
}

// away has the next attempt follow, unless the crowd goes home.
func (n *node) away(found rendezvous.Found) {
	n.mu.Lock()
	defer n.mu.Unlock()
	wait := rendezvous.Backoff(n.failures, found, n.spread)
	if found == rendezvous.FoundFull && n.failures > 0 {
		n.spread = 0
	}
	n.failures++
	if n.crowd.ctx.Err() != nil {
		n.crowd.out.Done()
		return
	}
	n.again = time.AfterFunc(wait, n.come)
}

// goHome ends what the node does, once the crowd's ctx is done: an attempt that
// is under way sees that itself.
func (n *node) goHome() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.again != nil && n.again.Stop() {
		n.crowd.out.Done()
	}
	if n.session != nil {
		n.session.close()
	}
}

// ping keeps the session alive. One that has not answered the last is over.
func (n *node) ping() {
	n.mu.Lock()
	s := n.session
	n.mu.Unlock()
	if s == nil {
		return
	}
	s.mu.Lock()
	silent := s.pinged
	s.pinged = true
	s.mu.Unlock()
	if silent {
		s.close()
		return
	}
	s.conn.Write(pingFrame) // an error is for the reader
}

var pingFrame = encode(frame{Kind: kindPing})
