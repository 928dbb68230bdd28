package stunt

import (
	"context"
	"crypto/sha256"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/gostunt/stunt/internal/punch"
	"github.com/gostunt/stunt/internal/resume"
	"github.com/gostunt/stunt/internal/secure"
	"github.com/gostunt/stunt/rendezvous"
)

// What a node does for connections that outlive their path.

const (
	// resumeIdle and resumeSilence are when a path is asked for a sign of life,
	// and given up without one. The first is what package net has for TCP's
	// keepalive, but this sees behind a relay. The second is how long a session
	// waits for its server: TCP has sent a segment five times by then, and a resume
	// that was not needed costs a dial. It is the time in which a record of 32 KiB
	// must come through, so that a path of less than 7 kB/s is given up
	// now and then; the first records on the next are small, and it gets on.
	resumeIdle, resumeSilence = 15 * time.Second, 5 * time.Second

	// A dial for another path is made at once, given up after redialTimeout, when
	// a peer that was cut off with its server may have another session, and made
	// again after redialLeast, then twice that, up to redialMost: a node whose network
	// changed loses all its connections at one time, and shall not ask its server
	// for all of them at once again and again. So it is for a path that does not
	// last for redialStable, as if something between the two, or the peer, killed each.
	redialTimeout           = 8 * time.Second
	redialLeast, redialMost = 200 * time.Millisecond, 3 * time.Second
	redialStable            = 10 * time.Second

	// What a listening node keeps of connections whose dialers are not heard of.
	maxLost        = 1024
	maxLostPerPeer = 256
)

var (
	errNodeClosed = errors.New("its node is closed")
	errTooMany    = errors.New("too many connections have lost their paths")
)

// resumption is a connection that can be resumed, and its node's part in that.
type resumption struct {
	node   *Node
	conn   *Conn
	stream *resume.Conn
	params secure.Params // of the first dial
	dialer bool
	secret [32]byte
	id     resumeID
	ctx    context.Context // ends with the connection, or the node
	end    context.CancelFunc
	done   chan struct{} // closed when the connection needs no path any more

	mu      sync.Mutex    // guards following
	dialing bool          // redial runs
	wait    time.Duration // before the next dial
	since   time.Time     // when it got its last path
}

// resumeID is how an offer names a connection. It is no secret: what it is made
// from is, and both ends sign that.
type resumeID [16]byte

// resumeIDOf is the id of the connection with a secret.
func resumeIDOf(secret [32]byte) resumeID {
	h := sha256.Sum256(append([]byte("stunt/1 connection\x00"), secret[:]...))
	return resumeID(h[:len(resumeID{})])
}

// resumptions are those of a node.
type resumptions struct {
	mu  sync.Mutex // guards following
	all map[resumeID]*resumption
}

// resumable makes c one that can be resumed, over the path of its first session.
func (n *Node) resumable(c *Conn, p *punch.Path) error {
	session := p.Session
	r := &resumption{node: n, conn: c, params: session.Params(), dialer: session.Role() == secure.Dialer, secret: session.Resumption()}
	r.id = resumeIDOf(r.secret)
	r.ctx, r.end = context.WithCancel(n.life)
	r.done = make(chan struct{})
	r.stream = resume.New(resume.Config{
		Timeout: n.Config.resumeTimeout(),
		Idle:    resumeIdle,
		Silence: resumeSilence,
		Lost:    r.lost,
		Over:    r.over,
	})
	c.rw, c.resumption = r.stream, r
	n.resumptions.add(r)
	c.mu.Lock() // whatever becomes of this path comes later
	defer c.mu.Unlock()
	var err error
	c.records, err = r.stream.Attach(session, p.Conn)
	if err != nil {
		r.stream.Fail(err)
	}
	return err
}

func (rs *resumptions) add(r *resumption) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if rs.all == nil {
		rs.all = make(map[resumeID]*resumption)
	}
	rs.all[r.id] = r
}

func (rs *resumptions) remove(r *resumption) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	delete(rs.all, r.id)
}

// list returns those for which want is true.
func (rs *resumptions) list(want func(*resumption) bool) (some []*resumption) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	for _, r := range rs.all {
		if want(r) {
			some = append(some, r)
		}
	}
	return some
}

// find returns the connection that a peer who offers it another path has
// accepted, or nil.
func (rs *resumptions) find(id resumeID, o *rendezvous.Offer) *resumption {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	r := rs.all[id]
	if r == nil || r.dialer || !r.conn.peer.Key.Equal(o.From) {
		return nil
	}
	return r
}

// accepted reports whether peers may still look for connections here.
func (rs *resumptions) accepted() bool {
	return len(rs.list(func(r *resumption) bool { return !r.dialer })) > 0
}

// lost is called when the connection has no path any more.
func (r *resumption) lost(err error) {
	n := r.node
	n.log.Debug("path lost", "phase", "resume", "peer", r.conn.peer, "err", err)
	r.step(Step{Phase: PhaseLost, Err: plain(err)})
	if !r.dialer && n.resumptions.full(r) {
		r.fail(errTooMany)
		return
	}
	n.mu.Lock()
	closed := n.st.closed
	r.mu.Lock()
	if r.dialer && !closed && !r.dialing {
		r.dialing = true
		n.wg.Go(r.redial)
	}
	r.mu.Unlock()
	n.mu.Unlock()
	if closed {
		r.fail(errNodeClosed)
	}
}

// full reports whether too many wait for another path beside r.
func (rs *resumptions) full(r *resumption) bool {
	waiting := rs.list(func(x *resumption) bool { return x != r && !x.dialer && x.stream.Waiting() })
	same := 0
	for _, x := range waiting {
		if x.conn.peer.Key.Equal(r.conn.peer.Key) {
			same++
		}
	}
	return len(waiting) >= maxLost || same >= maxLostPerPeer
}

// lastWords gives the connections that the program has closed a second to say
// what is left, and ends them; no other is resumed from now on.
func (rs *resumptions) lastWords(end func()) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	closed := rs.list(func(r *resumption) bool { return r.conn.isClosed() })
	for _, r := range closed {
		select {
		case <-r.done:
		case <-ctx.Done():
		}
	}
	end()
	for _, r := range rs.list(func(r *resumption) bool { return r.conn.isClosed() || r.stream.Waiting() }) {
		r.fail(errNodeClosed)
	}
	for _, r := range closed {
		r.stream.Wait()
	}
}

// over is called when the connection needs no path any more.
func (r *resumption) over() {
	r.end()
	close(r.done)
	r.node.resumptions.remove(r)
	if !r.dialer {
		r.node.unlistened()
	}
}

func (r *resumption) fail(why error) { r.stream.Fail(meaning{ErrNotResumed, why}) }

func (r *resumption) step(s Step) {
	s.Peer, s.Dialer = r.conn.peer.ID, r.dialer
	if s.Peer == "" {
		s.Peer = r.conn.peer.Fingerprint()
	}
	r.node.Config.Trace.step(s)
}

// redial dials the peer until the connection has a path that works, or ends.
// lost starts it; the node waits for it.
func (r *resumption) redial() {
	for {
		wait, more := r.next()
		if !more {
			return
		}
		if wait > 0 {
			select {
			case <-time.After(wait/2 + rand.N(wait/2)):
			case <-r.ctx.Done():
			}
		}
		if err := r.dial(); err != nil {
			r.node.log.Debug("not resumed", "phase", "resume", "peer", r.conn.peer, "err", err)
		}
	}
}

// next returns how long to wait before the next dial, and whether one is needed.
func (r *resumption) next() (wait time.Duration, more bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.stream.Waiting() || r.ctx.Err() != nil {
		r.dialing = false
		return 0, false
	}
	if !r.since.IsZero() && time.Since(r.since) > redialStable {
		r.wait, r.since = 0, time.Time{}
	}
	wait = r.wait
	r.wait = min(max(2*wait, redialLeast), redialMost)
	return wait, true
}

// dial makes one attempt. A peer that knows no such connection ends it: it has
// been started anew. That is the word of a server, which could do no less by
// letting nobody through.
func (r *resumption) dial() error {
	ctx, cancel := context.WithTimeout(r.ctx, redialTimeout)
	defer cancel()
	d := &dial{node: r.node, addr: Addr{r.params.Peer, r.params.Port}, began: time.Now(), resumes: r}
	if err := r.node.Up(ctx); err != nil {
		return err
	}
	_, err := d.run(ctx, true)
	if errors.Is(err, rendezvous.CodeNoConnection) && (d.told == nil || d.told.Equal(r.conn.peer.Key)) {
		r.fail(err)
	}
	return err
}

// resumed gives the connection the path that a dial for it has found.
func (r *resumption) resumed(p *punch.Path, path Path) (*Conn, error) {
	c := r.conn
	c.settled() // a move between paths of the past
	if !p.Session.AgreedResume() || !p.Session.Peer().Equal(c.peer.Key) {
		p.Conn.Close()
		return nil, ErrWrongPeer
	}
	records, err := r.stream.Attach(p.Session, p.Conn)
	if err != nil {
		p.Conn.Close()
		return nil, err
	}
	c.mu.Lock()
	c.records, c.path = records, path
	c.mu.Unlock()
	r.mu.Lock()
	r.since = time.Now()
	r.mu.Unlock()
	r.node.log.Debug("resumed", "phase", "resume", "peer", c.peer, "remote", path.Remote, "method", path.Method)
	r.step(Step{Phase: PhaseResumed, Remote: path.Remote, Method: path.Method})
	return c, nil
}
