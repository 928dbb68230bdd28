package grid

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/gostunt/stunt"
	"github.com/gostunt/stunt/internal/sock"
)

// order is a way in which others connect two hosts behind NATs: from the same
// kind of port as ours, which the server sees and which stays open, and told at
// the same moment by the same kind of server. What it lacks is the rules.
type order struct {
	name, about string
	listens     bool // on the punching port, all the time
	predicts    bool // the next port, from two, where the NAT maps per destination
	run         func(ctx context.Context, dialer *peer) (*net.TCPConn, error)
}

// String returns the name of an order, or that of ours.
func (o *order) String() string {
	if o == nil {
		return "stunt"
	}
	return o.name
}

// tries is how often libp2p's DCUtR makes the same attempt
// (p2p/protocol/holepunch, maxRetries).
const tries = 3

var (
	once = order{
		name: "one connect", about: "both connect at the moment that the server names, once, as openp2p does",
		run: func(ctx context.Context, p *peer) (*net.TCPConn, error) { return p.together(ctx, 1) },
	}
	retry = order{
		name: "same again", about: "both connect and listen; whatever fails is done again as it was, twice, as libp2p does",
		listens: true,
		run:     func(ctx context.Context, p *peer) (*net.TCPConn, error) { return p.together(ctx, tries) },
	}
	stunt2 = order{
		name:     "STUNT-2",
		about:    "one sends a SYN, gives it up and listens, then the other connects; after that the other way round; a port per destination is predicted from two, as XSTUNT does",
		predicts: true,
		run:      stepAside,
	}
	orders = []*order{&once, &retry, &stunt2}
)

// together has both ends connect, as often as is said or until one connection
// stands.
func (p *peer) together(ctx context.Context, tries int) (*net.TCPConn, error) {
	var err error
	for range tries {
		p.say("both " + wordConnect)
		var c *net.TCPConn
		if c, err = p.outcome(ctx); err == nil {
			return c, nil
		}
	}
	return nil, err
}

// stepAside is STUNT-2 with this end as the one that sends the SYN, and then
// with the other.
func stepAside(ctx context.Context, p *peer) (*net.TCPConn, error) {
	p.say("me " + wordPrime)
	c, err := p.outcome(ctx)
	if err != nil {
		p.say("other " + wordPrime)
		c, err = p.outcome(ctx)
	}
	return c, err
}

// errNothingCame ends a try in which nobody connected.
var errNothingCame = errors.New("nobody connected in time")

// outcome waits for a connection, whichever end made it, or for the end of the try.
func (p *peer) outcome(ctx context.Context) (*net.TCPConn, error) {
	over := time.NewTimer(p.patience)
	defer over.Stop()
	select {
	case c := <-p.conns:
		return c, nil
	case err := <-p.failed:
		return nil, err
	case <-over.C:
		return nil, errNothingCame
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// peers are the two ends of an order, and the broker between them.
type peers struct {
	order            order
	broker           *broker
	config           Config
	hosts            hosts
	nets             [2]*sock.Net // of the listener and the dialer
	listener, dialer *peer        // of the dial that is under way, or the last one
}

func startPeers(ctx context.Context, w *world, h hosts, o order) (*peers, error) {
	b, err := startBroker(ctx, h.server)
	if err != nil {
		return &peers{}, err
	}
	return &peers{order: o, broker: b, config: w.config, hosts: h, nets: [2]*sock.Net{{Open: h.listener.Do}, {Open: h.dialer.Do}}}, nil
}

// prepare opens fresh ports, which the broker has seen when it returns.
func (ps *peers) prepare(ctx context.Context) error {
	ps.hangUp()
	for i, at := range []struct {
		name string
		peer **peer
	}{{listenerHost, &ps.listener}, {dialerHost, &ps.dialer}} {
		p, err := openPeer(ctx, peerConfig{at.name, ps.nets[i], ps.hosts.server, ps.order, ps.config.Window})
		if err != nil {
			return fmt.Errorf("the %s and its server: %w", at.name, err)
		}
		*at.peer = p
		if err := ps.broker.wait(ctx, p.name, p.public); err != nil {
			return err
		}
	}
	ps.listener.answer()
	return nil
}

func (ps *peers) dial(ctx context.Context, _ int) (net.Conn, stunt.Method, error) {
	c, err := ps.order.run(ctx, ps.dialer)
	if err != nil {
		return nil, "", err
	}
	return c, stunt.Method(ps.order.name), nil
}

// hangUp ends what the last dial left.
func (ps *peers) hangUp() {
	for _, p := range []*peer{ps.dialer, ps.listener} {
		if p != nil {
			p.close()
		}
	}
	ps.listener, ps.dialer = nil, nil
}

func (ps *peers) close() {
	ps.hangUp()
	if ps.broker != nil {
		ps.broker.close()
	}
}
