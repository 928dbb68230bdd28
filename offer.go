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
	if !n.offers.TryAcquire(1) {
		o.Answer(rendezvous.Answer{Code: rendezvous.CodeBusy, Text: "too many dials at once"})
		return
	}
	n.wg.Go(func() { // ends with the offer, its timeout, or the node
		defer n.offers.Release(1)
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

// accept takes part in one dial: it fires at once, so that the SYNs cross, and
// does the public-key work of its answer while they are on their way.
func (in *incoming) accept(ctx context.Context) error {
	n, o := in.node, in.offer
	ln, theirs, err := in.consider()
	if err != nil {
		in.refuse(err)
		return err
	}
	s, err := n.sessionSlot(ctx)
	if err != nil {
		in.refuse(err)
		return err
	}
	race, err := punch.NewRace(punch.Config{
		Door: &n.door, Port: s.port, ID: o.DialID, Window: n.Config.window(), Log: n.log,
		Event: func(e punch.Event) { in.step(stepOf(e)) },
	})
	if err != nil {
		in.refuse(err)
		return err
	}
	mine := punch.Side{Candidates: s.candidates(), Report: n.known()}
	p, peer, err := in.race(ctx, race, mine, theirs)
	if err != nil {
		race.Stop()
		o.Conclude(rendezvous.Outcome{Text: reason(err), Elapsed: time.Since(in.began)})
		return err
	}
	timing := in.timing
	timing.Chosen = time.Since(in.began)
	o.Conclude(rendezvous.Outcome{OK: true, Method: string(p.Method), Elapsed: timing.Chosen})
	c, err := n.conn(p, peer, race, s, in.began, timing)
	if err != nil {
		return err
	}
	ln.deliver(c)
	return nil
}

// refuse tells the dialer why, in words that give nothing away.
func (in *incoming) refuse(err error) {
	r := refusal{rendezvous.CodeRefused, "the peer can't take part"}
	errors.As(err, &r)
	in.offer.Answer(rendezvous.Answer{Code: r.code, Text: r.text})
}

// consider looks at what costs nothing to look at.
func (in *incoming) consider() (*Listener, punch.Side, error) {
	o := in.offer
	if o.To != in.node.Config.ID && o.To != Fingerprint(in.node.Key()) {
		return nil, punch.Side{}, refusal{rendezvous.CodeRefused, "that is not this node's name"} // the dialer's signature covers it
	}
	ln := in.node.listener(o.Port)
	if ln == nil {
		return nil, punch.Side{}, refusal{rendezvous.CodePortClosed, "nobody listens on that port"}
	}
	if len(ln.conns) == cap(ln.conns) {
		return nil, punch.Side{}, refusal{rendezvous.CodeBusy, "the listener's backlog is full"}
	}
	mode, _, ok := parseOpening(o.Noise)
	if !ok {
		return nil, punch.Side{}, refusal{rendezvous.CodeRefused, "no handshake in the offer"}
	}
	if mode == secure.Raw && in.node.Config.Security != Raw {
		return nil, punch.Side{}, refusal{rendezvous.CodeModeMismatch, "the listener wants encrypted connections"}
	}
	theirs, err := side(o.Candidates, o.Report)
	if err != nil {
		return nil, punch.Side{}, refusal{rendezvous.CodeRefused, err.Error()}
	}
	return ln, theirs, nil
}

// race fires and answers. Where a hook is to be asked first, the dialer knows
// no address of ours yet: then the answer comes first, and both ends fire when
// the server has passed it on.
func (in *incoming) race(ctx context.Context, race *punch.Race, mine, theirs punch.Side) (*punch.Path, Peer, error) {
	n, o := in.node, in.offer
	prefixes, _ := n.ports.net.Prefixes()
	fire := func() {
		in.timing.Told = time.Since(in.began)
		in.step(Step{Phase: PhaseRinging})
		race.Fire(punch.Plan(mine, theirs, prefixes))
	}
	if !o.Ask {
		fire()
	}
	session, msg2, peer, err := in.handshake(ctx)
	if err != nil {
		in.refuse(err)
		return nil, peer, err
	}
	race.Keys(session)
	err = o.Answer(rendezvous.Answer{
		Noise:      msg2,
		Candidates: punch.AppendCandidates(nil, mine.Candidates),
		Report:     encodeReport(mine.Report),
	})
	if err != nil {
		return nil, peer, err
	}
	in.timing.Keyed = time.Since(in.began)
	in.step(Step{Phase: PhaseAnswered})
	if o.Ask {
		select {
		case <-o.Go:
			fire()
		case <-o.Done:
			return nil, peer, context.Canceled
		case <-ctx.Done():
			return nil, peer, ctx.Err()
		}
	}
	p, err := in.wait(ctx, race)
	return p, peer, err
}

// handshake verifies who asks, asks the hook, and makes the second message.
func (in *incoming) handshake(ctx context.Context) (*secure.Session, []byte, Peer, error) {
	n, o := in.node, in.offer
	mode, msg1, _ := parseOpening(o.Noise) // consider has looked at it
	r, err := secure.Respond(n.key, secure.Params{DialID: o.DialID, Peer: o.To, Port: o.Port, Mode: mode}, msg1)
	if err != nil {
		return nil, nil, Peer{}, err
	}
	peer := Peer{ID: firstID(o.FromIDs), Key: r.Peer()}
	if !peer.Key.Equal(o.From) {
		return nil, nil, peer, ErrWrongPeer
	}
	if allow := n.Config.Allow; allow != nil {
		if err := allow(ctx, peer); err != nil {
			n.log.Debug("not allowed", "phase", "offer", "peer", peer, "err", err)
			return nil, nil, peer, refusal{rendezvous.CodeNotAllowed, "the peer does not allow it"}
		}
	}
	msg2, session, err := r.Answer()
	return session, msg2, peer, err
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
