package stunt

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/gostunt/stunt/internal/punch"
	"github.com/gostunt/stunt/internal/secure"
	"github.com/gostunt/stunt/internal/sock"
	"github.com/gostunt/stunt/rendezvous"
)

// DialContext connects to the peer at address, id or id:port. The network is
// "tcp" or "stunt". ctx bounds the establishment of the connection, not its
// life. The error is a *net.OpError around a *[DialError].
func (n *Node) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := n.Dial(ctx, network, address)
	if err != nil {
		return nil, err // a nil *Conn in a net.Conn would not be nil
	}
	return c, nil
}

// Dial is DialContext with the concrete type.
func (n *Node) Dial(ctx context.Context, network, address string) (*Conn, error) {
	switch network {
	case "tcp", "tcp4", "tcp6", "stunt":
	default:
		return nil, opError("dial", net.UnknownNetworkError(network), nil, nil)
	}
	addr, err := ParseAddr(address)
	if err != nil {
		return nil, opError("dial", err, nil, nil)
	}
	began := time.Now()
	if err := n.Up(ctx); err != nil {
		return nil, opError("dial", &DialError{Err: timeoutOf(err)}, nil, addr)
	}
	d := &dial{node: n, addr: addr, began: began}
	c, err := d.run(ctx, false)
	if d.spoiled {
		// The session's port has a connection to that peer already, under
		// another of its names, or had one in the last minute; or a SYN came
		// between two of ours. A second try is from another port, and leaves the
		// other end the time to be first.
		d.patient = true
		c, err = d.run(ctx, true)
	}
	if errors.Is(err, ErrNoServer) && !d.heard() {
		// The session was dead, which the dial has found out: another stands soon.
		if up := n.Up(ctx); up != nil {
			err = &DialError{Err: timeoutOf(up)}
		} else {
			c, err = d.run(ctx, true)
		}
	}
	var busy *punch.BusyError
	for errors.As(err, &busy) {
		// Other dials of this process are guessing: wait for our turn, and begin
		// again with what we need in hand.
		if take := n.Config.budget().Take(ctx, busy.Sockets); take != nil {
			err = &DialError{Err: timeoutOf(take), Help: busy.Error()}
			break
		}
		d.prepaid = busy.Sockets
		c, err = d.run(ctx, true)
	}
	if err != nil {
		d.step(Step{Phase: PhaseFailed, Err: err})
		return nil, opError("dial", err, nil, addr)
	}
	return c, nil
}

// dial is one call of Dial.
type dial struct {
	node     *Node
	addr     Addr
	began    time.Time
	timing   Timing
	theirs   punch.Side        // as told last
	ticket   []byte            // for a relay; nil: none
	prefixes []netip.Prefix    // of this host
	told     ed25519.PublicKey // whom the server knows under the name; nil: it has not said
	observed netip.AddrPort    // where the server sees the peer; invalid: it has not said
	hint     punch.Method      // what has worked between such ends; empty: not known
	resumes  *resumption       // the connection that gets another path; nil: it is for a new one
	prepaid  int               // sockets of the budget that the next race gets
	spoiled  bool              // the first try found its pair of ports taken, or made it useless
	patient  bool              // the other end fires first: we wait for its answer
}

// heard reports whether the server, or the peer, had anything to say.
func (d *dial) heard() bool { return d.told != nil || d.timing.Keyed > 0 }

func (d *dial) step(s Step) {
	s.Peer, s.Dialer, s.At = d.addr.String(), true, time.Since(d.began)
	d.node.Config.Trace.step(s)
}

// slot is the session's port for the first connection to a peer, at no cost.
// A node that listens leaves that port to its listeners: two nodes that dial
// each other at once would otherwise race twice for the same pair of ports.
func (d *dial) slot(ctx context.Context, fresh bool) (*slot, error) {
	n := d.node
	if n.counted() { // only the newest port tells which one comes next
		return n.ports.open(ctx)
	}
	n.ports.warmUp()
	if !fresh && !n.listens() {
		n.mu.Lock()
		public := n.st.public
		n.mu.Unlock()
		if s := n.ports.borrowSession(d.addr.ID, public); s != nil {
			return s, nil
		}
	}
	return n.ports.take(ctx)
}

// run is one race: ask the server, fire when told, choose.
func (d *dial) run(ctx context.Context, fresh bool) (*Conn, error) {
	n := d.node
	prepaid := d.prepaid
	d.prepaid = 0
	s, err := d.slot(ctx, fresh)
	if err != nil {
		n.Config.budget().Return(prepaid)
		return nil, &DialError{Err: timeoutOf(err)}
	}
	d.timing = Timing{Session: time.Since(d.began)}
	params := d.params()
	rand.Read(params.DialID[:])
	race, err := punch.NewRace(punch.Config{
		Door: &n.door, Port: s.port, ID: params.DialID, Dialer: true,
		Moves: params.Mode == secure.Encrypted, Window: n.Config.window(), Budget: n.Config.budget(), Prepaid: prepaid, Again: !d.patient, Log: n.log,
		Event: func(e punch.Event) { d.step(stepOf(e)) },
	})
	if err != nil {
		n.Config.budget().Return(prepaid)
		n.ports.release(s)
		return nil, &DialError{Err: err}
	}
	c, err := d.meet(ctx, race, s, params)
	if err == nil {
		return c, nil
	}
	race.Stop()
	n.keep(race, s, nil)
	tries := race.Tries()
	d.spoiled = errors.Is(err, punch.ErrSpoiled) || s.peer != "" && collision(tries)
	de := &DialError{Err: timeoutOf(err)}
	if errors.Is(err, ErrNoPath) || ctx.Err() != nil { // else it was not for want of a path
		de.Attempts, de.Help = attempts(tries, d.began), d.help(err)
	}
	return nil, de
}

// meet goes through the messages of a dial.
func (d *dial) meet(ctx context.Context, race *punch.Race, s *slot, params secure.Params) (*Conn, error) {
	n := d.node
	initiator, msg1, err := secure.Initiate(n.key, params)
	if err != nil {
		return nil, err
	}
	mine := n.side(s)
	d.prefixes, _ = n.ports.net.Prefixes() // now, because later every moment counts
	d.step(Step{Phase: PhaseDialing})
	call, err := n.client.Dial(ctx, rendezvous.DialRequest{
		DialID: params.DialID, Peer: params.Peer, Port: params.Port,
		Noise:      d.opening(params, msg1).encode(),
		Candidates: punch.AppendCandidates(nil, mine),
		Report:     encodeReport(mine.Report),
		Kind:       mine.Report.Kind(),
		Hidden:     n.Config.Relay == RelayOnly,
	})
	if err != nil {
		return nil, fromServer(err)
	}
	err = d.ring(ctx, call, race, mine, initiator)
	if err != nil {
		call.Cancel()
		return nil, err
	}
	p, err := race.Wait(ctx)
	if errors.Is(err, punch.ErrSpoiled) {
		call.Cancel() // nothing is to be learnt from it yet
		return nil, err
	}
	if err != nil {
		call.Conclude(n.outcome(race, nil, err, time.Since(d.began)))
		if ctx.Err() != nil {
			call.Cancel()
		}
		return nil, noPath(err)
	}
	d.timing.Chosen = time.Since(d.began)
	c, err := d.conn(p, race, s)
	if err != nil {
		call.Conclude(n.outcome(race, p, err, d.timing.Chosen))
		return nil, err
	}
	if race.GoesOn(p) {
		upgrade{n, c, race, s, d.began, d.step, call.Conclude}.start()
		return c, nil
	}
	call.Conclude(n.outcome(race, p, nil, d.timing.Chosen))
	n.keep(race, s, c)
	return c, nil
}

// params is what both ends must agree on.
func (d *dial) params() secure.Params {
	c := &d.node.Config
	p := secure.Params{Peer: d.addr.ID, Port: d.addr.Port, Mode: c.Security.mode(), Resumable: c.Resume && c.Security == Encrypted}
	if d.resumes != nil {
		p.Mode, p.Resumable, p.Resumes = secure.Encrypted, true, d.resumes.secret
	}
	return p
}

func (d *dial) opening(p secure.Params, msg1 []byte) opening {
	o := opening{mode: p.Mode, resumable: p.Resumable, msg1: msg1}
	if d.resumes != nil {
		o.resumes = d.resumes.id
	}
	return o
}

// conn makes a connection of the path that was chosen, or gives it to the one
// that it is for.
func (d *dial) conn(p *punch.Path, race *punch.Race, s *slot) (*Conn, error) {
	path := pathOf(p, race, s, d.began, d.timing)
	d.node.onRelay(&path, d.theirs)
	if d.resumes != nil {
		return d.resumes.resumed(p, path)
	}
	return d.node.conn(p, Peer{ID: d.addr.ID, Key: p.Session.Peer()}, path)
}

// ring waits for the server's word and the peer's answer, and fires at once on
// each that brings addresses.
func (d *dial) ring(ctx context.Context, call *rendezvous.Call, race *punch.Race, mine punch.Side, initiator *secure.Initiator) error {
	fire := func(r rendezvous.Ringing) error { return d.fire(race, mine, r.Candidates, r.Report) }
	held := func() error { return nil } // the firing that waits for the answer
	rang := func(r rendezvous.Ringing) error {
		d.told, d.hint, d.ticket = r.Key, punch.ParseHint(r.Hint), d.node.ticket(r.Ticket)
		d.observed = r.Observed
		d.step(Step{Phase: PhaseRinging, Method: d.hint})
		if d.patient {
			held = func() error { return fire(r) }
			return nil
		}
		return fire(r)
	}
	for {
		select {
		case r := <-call.Ringing:
			if err := rang(r); err != nil {
				return err
			}
		case a := <-call.Answer:
			select {
			case r := <-call.Ringing: // it came first; select chose at random
				if err := rang(r); err != nil {
					return err
				}
			default:
			}
			if a.Code == rendezvous.CodeNone {
				if err := held(); err != nil {
					return err
				}
			}
			return d.answered(a, race, mine, initiator)
		case <-call.Done:
			return fromServer(call.Err())
		case <-d.node.life.Done():
			return net.ErrClosed
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// answered finishes the handshake, and fires at what the answer adds.
func (d *dial) answered(a rendezvous.Answer, race *punch.Race, mine punch.Side, initiator *secure.Initiator) error {
	if a.Code != rendezvous.CodeNone {
		return fromServer(&rendezvous.Error{Code: a.Code, Text: a.Text})
	}
	session, err := initiator.Finish(a.Noise)
	if err != nil {
		return err
	}
	if err := d.verify(session); err != nil {
		return err
	}
	d.timing.Keyed = time.Since(d.began)
	if a.Hint != "" { // it was not for us before the peer had answered
		d.hint = punch.ParseHint(a.Hint)
	}
	if a.Ticket != nil {
		d.ticket = d.node.ticket(a.Ticket)
	}
	if a.Observed.IsValid() {
		d.observed = a.Observed
	}
	d.step(Step{Phase: PhaseAnswered, Method: d.hint})
	if err := d.fire(race, mine, a.Candidates, a.Report); err != nil {
		return err
	}
	race.Keys(session)
	return nil
}

// fire starts the attempts at what the peer, or the server for it, has told.
func (d *dial) fire(race *punch.Race, mine punch.Side, candidates, report []byte) error {
	theirs, err := side(candidates, report, d.observed)
	if err != nil {
		return err
	}
	if len(theirs.Candidates)+len(theirs.Relays) == 0 && d.timing.Keyed == 0 {
		return nil // they come with the answer
	}
	d.theirs = theirs
	if d.timing.Told == 0 {
		d.timing.Told = time.Since(d.began)
	}
	race.Meet(punch.Meeting{Mine: mine, Theirs: theirs, Prefixes: d.prefixes, Dialer: true, ID: race.ID(), Hint: d.hint, Ticket: d.ticket})
	return nil
}

// verify compares the key that the peer has proved with the one it was dialled
// by: a fingerprint, or the key that the server knows under the name.
func (d *dial) verify(session *secure.Session) error {
	got := Fingerprint(session.Peer())
	if rendezvous.IsFingerprint(d.addr.ID) {
		if got != d.addr.ID {
			return ErrWrongPeer
		}
		return nil
	}
	if d.told != nil && !d.told.Equal(session.Peer()) {
		return ErrWrongPeer
	}
	return nil
}

func (d *dial) help(err error) string {
	if !errors.Is(err, ErrNoPath) {
		return ""
	}
	return d.node.noRelay(d.theirs, d.ticket) + punch.Explain(d.node.known(), d.theirs.Report)
}

// keep returns the slot when the race is over and c is closed.
func (n *Node) keep(race *punch.Race, s *slot, c *Conn) {
	switch {
	case c != nil && s.peer != "":
		c.whenClosed(func() { n.ports.release(s) }) // its tuple is in use until then
	case s.session:
		n.ports.release(s)
	default:
		n.wg.Go(func() { // ends with the race, which ends by itself
			<-race.Done()
			n.ports.release(s)
		})
	}
}

// collision reports whether nothing but the port itself stood in the way.
func collision(tries []punch.Try) bool {
	for _, t := range tries {
		if sock.Classify(t.Err) == sock.AddrNotAvail {
			return true
		}
	}
	return false
}

func noPath(err error) error {
	if errors.Is(err, punch.ErrNoPath) {
		return ErrNoPath
	}
	return err
}

// timeoutOf makes a context's deadline match os.ErrDeadlineExceeded too, as in
// package net.
func timeoutOf(err error) error {
	if errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, os.ErrDeadlineExceeded) {
		return meaning{os.ErrDeadlineExceeded, err}
	}
	return err
}
