package check

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/gostunt/stunt/relay"
	"github.com/gostunt/stunt/rendezvous"
)

// guest is a node that is there for a moment, under a key that nobody knows.
type guest struct {
	client  *rendezvous.Client
	key     ed25519.PublicKey
	welcome chan rendezvous.Welcome // capacity 1
	down    chan error              // capacity 1
	offers  chan *rendezvous.Offer  // capacity 1
	end     context.CancelFunc
	ended   chan struct{} // closed when it has
}

// enter starts a guest and waits until it has a session, or knows why not.
func (v *visit) enter(ctx context.Context) (*guest, rendezvous.Welcome, error) {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return nil, rendezvous.Welcome{}, err
	}
	g := &guest{key: public, welcome: make(chan rendezvous.Welcome, 1), down: make(chan error, 1),
		offers: make(chan *rendezvous.Offer, 1), ended: make(chan struct{})}
	cfg := rendezvous.ClientConfig{
		Servers: []rendezvous.ServerAddr{v.target.Server}, Key: private, RootCAs: v.target.RootCAs, Agent: "stuntd check",
		OnSession: func(w rendezvous.Welcome, _ net.Conn) { offer(g.welcome, w) },
		OnDown:    func(err error) { offer(g.down, err) },
		OnOffer:   func(o *rendezvous.Offer) { offer(g.offers, o) },
	}
	if v.target.Token != "" {
		cfg.Token = func() (string, error) { return v.target.Token, nil }
	}
	g.client = rendezvous.NewClient(cfg)
	ctx, g.end = context.WithCancel(ctx)
	go g.run(ctx) // leave ends it and waits
	select {
	case w := <-g.welcome:
		return g, w, nil
	case err = <-g.down:
	case <-time.After(answerTime):
		err = errors.New("no answer")
	}
	g.leave()
	return nil, rendezvous.Welcome{}, err
}

func (g *guest) run(ctx context.Context) {
	defer close(g.ended)
	g.client.Run(ctx)
}

func (g *guest) leave() {
	g.end()
	<-g.ended
}

// offer keeps the first of what comes.
func offer[T any](ch chan T, v T) {
	select {
	case ch <- v:
	default:
	}
}

// sessions enters as a node does, and has two of them introduced to each other.
func (v *visit) sessions(ctx context.Context) {
	a, welcome, err := v.enter(ctx)
	switch {
	case err == nil:
	case errors.Is(err, rendezvous.CodeTokenRequired):
		v.Doubt("session", "give one (-token)", "it lets in only who has a token: sessions and the relay were not looked at")
		return
	case errors.Is(err, rendezvous.ErrPin):
		return // that of the certificate was said
	default:
		v.Bad("session", "", "no session: %v", err)
		return
	}
	defer a.leave()
	v.Good("session", "version %d with %s, which sees this host as %v", welcome.Version, welcome.Agent, welcome.Observed)
	b, _, err := v.enter(ctx)
	if err != nil {
		v.Bad("session", "", "no second session: %v", err)
		return
	}
	defer b.leave()
	mine, theirs, err := introduce(ctx, a, b)
	if err != nil {
		v.Doubt("dial", "see whether its rules allow it", "it did not introduce two guests to each other: %v", err)
		return
	}
	v.Good("dial", "it introduces two nodes to each other")
	if len(welcome.Relays) == 0 || mine == nil {
		v.Doubt("relay", "let it relay, or name one that does (-relay-at)", "there is none: nodes without a direct path don't connect")
		return
	}
	for _, at := range welcome.Relays {
		v.relay(ctx, at, mine, theirs)
	}
}

// introduce has a dial b, and returns the tickets of both for a relay. Then it
// gives the dial up.
func introduce(ctx context.Context, a, b *guest) (mine, theirs []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	if err := b.client.Register(ctx, ""); err != nil {
		return nil, nil, err
	}
	call, err := a.client.Dial(ctx, rendezvous.DialRequest{Peer: rendezvous.Fingerprint(b.key)})
	if err != nil {
		return nil, nil, err
	}
	defer call.Cancel()
	for range 2 {
		select {
		case r := <-call.Ringing:
			mine = r.Ticket
		case o := <-b.offers:
			theirs = o.Ticket
		case <-call.Done:
			return nil, nil, call.Err()
		case <-ctx.Done():
			return nil, nil, errors.New("no answer")
		}
	}
	return mine, theirs, nil
}

// relay has two streams meet at a relay, and sends a word from one to the other.
func (v *visit) relay(ctx context.Context, at string, mine, theirs []byte) {
	at, here := strings.CutPrefix(at, rendezvous.RelayHere)
	if here {
		at = v.reached[0].String()
	}
	began := time.Now()
	err := pass(ctx, at, mine, theirs)
	switch {
	case err == nil:
		v.Good("relay", "%s carries bytes, after %v", at, time.Since(began).Round(time.Millisecond))
	case errors.Is(err, relay.BadTicket):
		v.Bad("relay", "give all servers the same secret (-relay-secret), and the right time", "%s does not accept the tickets of this server", at)
	default:
		v.Bad("relay", "see that it runs and relays, and that the firewall lets TCP in", "%s does not relay: %v", at, plain(err))
	}
}

func pass(ctx context.Context, at string, mine, theirs []byte) error {
	var ends [2]net.Conn
	for i, ticket := range [][]byte{mine, theirs} {
		pre, err := relay.Preamble(ticket)
		if err != nil {
			return err
		}
		d := net.Dialer{Timeout: connectTime}
		if ends[i], err = d.DialContext(ctx, "tcp", at); err != nil {
			return err
		}
		defer ends[i].Close()
		ends[i].SetDeadline(time.Now().Add(answerTime))
		if _, err := ends[i].Write(pre); err != nil {
			return err
		}
	}
	for _, c := range ends {
		if err := relay.ReadStatus(c); err != nil {
			return err
		}
	}
	const word = "is anybody there"
	if _, err := io.WriteString(ends[0], word); err != nil {
		return err
	}
	got := make([]byte, len(word))
	if _, err := io.ReadFull(ends[1], got); err != nil {
		return err
	}
	if string(got) != word {
		return fmt.Errorf("%q came for %q", got, word)
	}
	return nil
}
