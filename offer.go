package stunt

import (
	"context"
	"errors"
	"time"

	"github.com/gostunt/stunt/internal/punch"
	"github.com/gostunt/stunt/internal/secure"
	"github.com/gostunt/stunt/rendezvous"
)

// offerTimeout bounds an offer as a whole: the Allow hook, the race, the
// dialer's choice. The server's own patience with a dial is shorter.
const offerTimeout = 30 * time.Second

// onOffer is called on the session's reader and must not block.
func (n *Node) onOffer(o *rendezvous.Offer) {
	began := time.Now()
	from := o.Observed.Addr()
	if !n.offers.enter(from) {
		o.Answer(rendezvous.Answer{Code: rendezvous.CodeBusy, Text: "too many dials at once"})
		return
	}
	n.wg.Go(func() { // ends with the offer, its timeout, or the node
		defer n.offers.leave(from)
		in := &incoming{node: n, offer: o, began: began}
		in.serve()
	})
}

// incoming is one offer: the listener's end of a dial.
type incoming struct {
	node   *Node
	offer  *rendezvous.Offer
	began  time.Time
	timing Timing

	// Set by consider.
	opening opening
	resumes *resumption // the connection that the dialer wants another path for; nil: a new one

	// Set by handshake.
	peer    Peer
	session *secure.Session
	msg2    []byte
}

func (in *incoming) step(s Step) {
	s.Peer, s.At = in.peerName(), time.Since(in.began)
	in.node.Config.Trace.step(s)
}

func (in *incoming) peerName() string {
	if ids := in.offer.FromIDs; len(ids) > 0 {
		return ids[0]
	}
	return Fingerprint(in.offer.From)
}

func (in *incoming) serve() {
	ctx, cancel := context.WithTimeout(in.node.life, offerTimeout)
	defer cancel()
	in.step(Step{Phase: PhaseDialing})
	if err := in.accept(ctx); err != nil {
		in.step(Step{Phase: PhaseFailed, Err: err})
		in.node.log.Debug("offer", "phase", "failed", "peer", in.peerName(), "err", err)
	}
}

// refusal is an error that the dialer is told.
type refusal struct {
	code rendezvous.Code
	text string
}

func (r refusal) Error() string { return r.text }

// accept takes part in one dial. Where nobody is to be asked, it fires at once,
// so that the SYNs cross, and does the public-key work of its answer while they
// are on their way. Otherwise the dialer knows no address of ours yet: the
// answer comes first, and both fire when the server has passed it on.
func (in *incoming) accept(ctx context.Context) error {
	n, o := in.node, in.offer
	theirs, err := in.consider()
	if err == nil && o.Ask {
		err = in.handshake(ctx)
	}
	var ln *Listener
	if err == nil && in.resumes == nil { // after the hook: who may not connect need not know what there is
		ln, err = in.listener()
	}
	if err != nil {
		in.refuse(err)
		return err
	}
	s, err := in.slot(ctx, theirs)
	if err != nil {
		in.refuse(err)
		return err
	}
	race, err := punch.NewRace(punch.Config{
		Door: &n.door, Port: s.port, ID: o.DialID, Moves: in.opening.mode == secure.Encrypted,
		Window: n.Config.window(), Budget: n.Config.budget(), Log: n.log,
		Event: func(e punch.Event) { in.step(stepOf(e)) },
	})
	if err != nil {
		n.ports.release(s)
		in.refuse(err)
		return err
	}
	n.keep(race, s, nil)
	p, err := in.race(ctx, race, n.side(s), theirs)
	if err != nil {
		race.Stop()
		o.Conclude(n.outcome(race, nil, err, time.Since(in.began)))
		return err
	}
	in.timing.Chosen = time.Since(in.began)
	c, err := in.conn(p, race, s, theirs)
	if err != nil {
		race.Stop()
		o.Conclude(n.outcome(race, p, err, in.timing.Chosen))
		return err
	}
	if race.GoesOn(p) {
		upgrade{n, c, race, nil, in.began, in.step, o.Conclude}.start()
	} else {
		o.Conclude(n.outcome(race, p, nil, in.timing.Chosen))
	}
	if ln != nil {
		ln.deliver(c)
	}
	return nil
}

// conn makes a connection of the path that was chosen, or gives it to the one
// that it is for.
func (in *incoming) conn(p *punch.Path, race *punch.Race, s *slot, theirs punch.Side) (*Conn, error) {
	path := pathOf(p, race, s, in.began, in.timing)
	in.node.onRelay(&path, theirs)
	if in.resumes != nil {
		return in.resumes.resumed(p, path)
	}
	return in.node.conn(p, in.peer, path)
}

// slot is the port to punch from: the session's, or where only the newest port
// tells which one the NAT gives next, a fresh one.
func (in *incoming) slot(ctx context.Context, theirs punch.Side) (*slot, error) {
	n := in.node
	if in.offer.Ask && n.counted() && !theirs.OpenToAll() {
		return n.ports.open(ctx)
	}
	return n.sessionSlot(ctx)
}

// refuse tells the dialer why, in words that give nothing away.
func (in *incoming) refuse(err error) {
	r := refusal{rendezvous.CodeRefused, "the peer can't take part"}
	errors.As(err, &r)
	in.offer.Answer(rendezvous.Answer{Code: r.code, Text: r.text})
}

// consider looks at what costs nothing to look at.
func (in *incoming) consider() (punch.Side, error) {
	o := in.offer
	if o.To != in.node.Config.ID && o.To != Fingerprint(in.node.Key()) {
		return punch.Side{}, refusal{rendezvous.CodeRefused, "that is not this node's name"} // the dialer's signature covers it
	}
	var ok bool
	in.opening, ok = parseOpening(o.Noise)
	if !ok {
		return punch.Side{}, refusal{rendezvous.CodeRefused, "no handshake in the offer"}
	}
	if in.opening.resumes != (resumeID{}) {
		if in.resumes = in.node.resumptions.find(in.opening.resumes, o); in.resumes == nil {
			return punch.Side{}, refusal{rendezvous.CodeNoConnection, "there is no such connection to be resumed"}
		}
	}
	if in.opening.mode == secure.Raw && in.node.Config.Security != Raw {
		return punch.Side{}, refusal{rendezvous.CodeModeMismatch, "the listener wants encrypted connections"}
	}
	theirs, err := side(o.Candidates, o.Report, o.Observed)
	if err != nil {
		return punch.Side{}, refusal{rendezvous.CodeRefused, err.Error()}
	}
	return theirs, nil
}

// listener finds whom the connection is for.
func (in *incoming) listener() (*Listener, error) {
	ln := in.node.listener(in.offer.Port)
	switch {
	case ln == nil:
		return nil, refusal{rendezvous.CodePortClosed, "nobody listens on that port"}
	case len(ln.conns) == cap(ln.conns):
		return nil, refusal{rendezvous.CodeBusy, "the listener's backlog is full"}
	}
	return ln, nil
}

// race answers, fires and waits, in the order that accept explains.
func (in *incoming) race(ctx context.Context, race *punch.Race, mine, theirs punch.Side) (*punch.Path, error) {
	n, o := in.node, in.offer
	prefixes, _ := n.ports.net.Prefixes()
	fire := func() {
		in.timing.Told = time.Since(in.began)
		hint := punch.ParseHint(o.Hint)
		in.step(Step{Phase: PhaseRinging, Method: hint})
		race.Meet(punch.Meeting{Mine: mine, Theirs: theirs, Prefixes: prefixes, ID: o.DialID, Hint: hint, Ticket: n.ticket(o.Ticket)})
	}
	if !o.Ask {
		fire()
		if err := in.handshake(ctx); err != nil {
			in.refuse(err)
			return nil, err
		}
	}
	race.Keys(in.session)
	err := o.Answer(rendezvous.Answer{
		Noise:      in.msg2,
		Candidates: punch.AppendCandidates(nil, mine),
		Report:     encodeReport(mine.Report),
	})
	if err != nil {
		return nil, err
	}
	in.timing.Keyed = time.Since(in.began)
	in.step(Step{Phase: PhaseAnswered})
	if o.Ask {
		select {
		case <-o.Go:
			fire()
		case <-o.Done:
			return nil, context.Canceled
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return in.wait(ctx, race)
}

// handshake verifies who asks, asks the hook, and makes the second message.
func (in *incoming) handshake(ctx context.Context) error {
	n, o := in.node, in.offer
	p := secure.Params{DialID: o.DialID, Peer: o.To, Port: o.Port, Mode: in.opening.mode, Resumable: in.opening.resumable}
	if in.resumes != nil {
		p.Resumes = in.resumes.secret
	}
	r, err := secure.Respond(n.key, p, in.opening.msg1)
	if err != nil {
		return err
	}
	in.peer = Peer{ID: firstID(o.FromIDs), Key: r.Peer()}
	if !in.peer.Key.Equal(o.From) {
		return ErrWrongPeer
	}
	if allow := n.Config.Allow; allow != nil && in.resumes == nil { // who was let in stays
		if err := allow(ctx, in.peer); err != nil {
			n.log.Debug("not allowed", "phase", "offer", "peer", in.peer, "err", err)
			return refusal{rendezvous.CodeNotAllowed, "the peer does not allow it"}
		}
	}
	in.msg2, in.session, err = r.Answer(n.Config.Resume || in.resumes != nil)
	return err
}

// wait is race.Wait that ends when the dialer gives up, too.
func (in *incoming) wait(ctx context.Context, race *punch.Race) (*punch.Path, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	in.node.wg.Go(func() { // ends with the race
		select {
		case <-in.offer.Done:
			cancel()
		case <-ctx.Done():
		}
	})
	return race.Wait(ctx)
}
