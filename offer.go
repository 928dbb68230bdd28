package stunt

import (
	"context"
	"crypto/ed25519"
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
	node  *Node
	offer *rendezvous.Offer
	began time.Time
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

func (in *incoming) accept(ctx context.Context) error {
	n, o := in.node, in.offer
	ln, session, msg2, err := in.consider(ctx)
	if err != nil {
		r := refusal{rendezvous.CodeRefused, "the offer is not valid"}
		errors.As(err, &r)
		o.Answer(rendezvous.Answer{Code: r.code, Text: r.text})
		return err
	}
	theirs, err := side(o.Candidates, o.Report)
	if err != nil {
		o.Answer(rendezvous.Answer{Code: rendezvous.CodeRefused, Text: err.Error()})
		return err
	}
	s, err := n.sessionSlot(ctx)
	if err != nil {
		o.Answer(rendezvous.Answer{Code: rendezvous.CodeRefused, Text: "no port to punch from"})
		return err
	}
	race, err := punch.NewRace(punch.Config{
		Door: &n.door, Port: s.port, ID: o.DialID, Window: n.Config.window(), Log: n.log,
		Event: func(e punch.Event) { in.step(stepOf(e)) },
	})
	if err != nil {
		return err
	}
	race.Keys(session)
	p, err := in.race(ctx, race, s, theirs, msg2)
	if err != nil {
		race.Stop()
		o.Conclude(rendezvous.Outcome{Text: reason(err), Elapsed: time.Since(in.began)})
		return err
	}
	timing := Timing{Chosen: time.Since(in.began)}
	o.Conclude(rendezvous.Outcome{OK: true, Method: string(p.Method), Elapsed: timing.Chosen})
	c, err := n.conn(p, Peer{ID: firstID(o.FromIDs), Key: session.Peer()}, race, s, in.began, timing)
	if err != nil {
		return err
	}
	ln.deliver(c)
	return nil
}

// consider decides whether to take part, before any address is given away.
func (in *incoming) consider(ctx context.Context) (*Listener, *secure.Session, []byte, error) {
	n, o := in.node, in.offer
	ln := n.listener(o.Port)
	if ln == nil {
		return nil, nil, nil, refusal{rendezvous.CodePortClosed, "nobody listens on that port"}
	}
	if len(ln.conns) == cap(ln.conns) {
		return nil, nil, nil, refusal{rendezvous.CodeBusy, "the listener's backlog is full"}
	}
	mode, msg1, ok := parseOpening(o.Noise)
	if !ok {
		return nil, nil, nil, errors.New("no handshake in the offer")
	}
	if mode == secure.Raw && n.Config.Security != Raw {
		return nil, nil, nil, refusal{rendezvous.CodeModeMismatch, "the listener wants encrypted connections"}
	}
	r, err := secure.Respond(n.key, secure.Params{DialID: o.DialID, Peer: o.To, Port: o.Port, Mode: mode}, msg1)
	if err != nil {
		return nil, nil, nil, err
	}
	if !r.Peer().Equal(ed25519.PublicKey(o.From)) {
		return nil, nil, nil, ErrWrongPeer
	}
	if allow := n.Config.Allow; allow != nil {
		if err := allow(ctx, Peer{ID: firstID(o.FromIDs), Key: r.Peer()}); err != nil {
			in.step(Step{Phase: PhaseFailed, Err: err})
			return nil, nil, nil, refusal{rendezvous.CodeNotAllowed, "the peer does not allow it"}
		}
	}
	msg2, session, err := r.Answer()
	return ln, session, msg2, err
}

// race answers the dialer and fires: at once, or when the server has told the
// dialer our addresses, which it does not hold if we are to be asked first.
func (in *incoming) race(ctx context.Context, race *punch.Race, s *slot, theirs punch.Side, msg2 []byte) (*punch.Path, error) {
	n, o := in.node, in.offer
	mine := punch.Side{Candidates: s.candidates(), Report: n.known()}
	prefixes, _ := n.ports.net.Prefixes()
	plan := punch.Plan(mine, theirs, prefixes)
	fire := func() {
		in.step(Step{Phase: PhaseRinging})
		race.Fire(plan)
	}
	if !o.Ask {
		fire()
	}
	err := o.Answer(rendezvous.Answer{
		Noise:      msg2,
		Candidates: punch.AppendCandidates(nil, mine.Candidates),
		Report:     encodeReport(mine.Report),
	})
	if err != nil {
		return nil, err
	}
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
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	n.wg.Go(func() { // ends with the race
		select {
		case <-o.Done:
			cancel()
		case <-ctx.Done():
		}
	})
	return race.Wait(ctx)
}
