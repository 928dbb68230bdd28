package probe

import (
	"context"
	"net/netip"
	"time"

	"github.com/gostunt/stunt/internal/sock"
)

// knock is one dial back as both ends saw it.
type knock struct {
	outcome outcome
	after   time.Duration
	arrived bool // the token came in by our listener
}

// reached reports whether the SYN came through to this host, and blocked
// whether something on the way kept it out. Neither holds if the test says
// nothing: a NAT that accepts by itself, a server that would not try.
func (k knock) reached() bool { return k.outcome == connected && k.arrived }

func (k knock) blocked() bool { return k.reply() != ReplyUnknown }

func (k knock) reply() Reply {
	switch k.outcome {
	case refused, reset:
		return RST
	case unreachable:
		return ICMP
	case timeout:
		return Silence
	}
	return ReplyUnknown
}

// knocks are the filtering tests of traversal.md, each at a port of its own
// that has a listener and that spoke to nobody but the server.
type knocks struct {
	fresh knock // to a port that spoke to nobody, from the farthest endpoint there is
	addr  knock // to a live mapping, from the server's other address
	port  knock // to a live mapping, from the server's other port
}

// filtering judges the knocks. The note says what they leave open.
func (k *knocks) filtering() (f Filtering, note string) {
	switch {
	case k.fresh.reached():
		return Open, ""
	case k.addr.reached():
		return EIF, ""
	case k.port.reached() && k.addr.blocked():
		return ADF, ""
	case k.port.reached():
		return ADF, "filtering EIF or ADF: nothing came from another address"
	case k.port.blocked():
		// An address that may come in while its neighbour port may not: no
		// NAT does that, so the missing test changes nothing.
		return APDF, "filtering APDF or no-syn-in: a SYN against a SYN was not tried"
	case k.addr.blocked():
		return APDF, "filtering ADF or APDF: the test from the other port failed"
	}
	return FilteringUnknown, ""
}

// unsolicited returns what a SYN got that was not let in, and after how many
// milliseconds. A live mapping says it best: that is what a peer meets.
func (k *knocks) unsolicited() (Reply, int) {
	for _, t := range []knock{k.addr, k.port, k.fresh} {
		if t.blocked() {
			return t.reply(), int(t.after.Milliseconds())
		}
	}
	return ReplyUnknown, 0
}

// test is something done with a port that has a listener and a STUN
// connection. It runs once the connection stands.
type test func(ctx context.Context, d *door, s *stream)

// test opens a port and a connection from it, calls opened, whatever came of
// it, and runs t.
func (p *prober) test(ctx context.Context, t test, opened func()) {
	d, s, err := p.openDoor(ctx)
	opened()
	if err != nil {
		p.log.Debug("no answer", "phase", "filtering", "remote", p.server, "err", err)
		return
	}
	defer d.close()
	defer sock.Abort(s.TCPConn)
	t(ctx, d, s)
}

func (p *prober) openDoor(ctx context.Context) (*door, *stream, error) {
	d, err := p.listen(ctx)
	if err != nil {
		return nil, nil, err
	}
	s, err := p.open(ctx, p.reserve(), netip.AddrPortFrom(p.from, d.port), p.server)
	if err != nil {
		d.close()
		return nil, nil, err
	}
	return d, s, nil
}

// tests are those that need a port each. Each writes its own field of f.
func (p *prober) tests(f *facts, mapped <-chan struct{}) []test {
	return []test{
		func(ctx context.Context, d *door, s *stream) {
			if p.otherAddress(s) {
				f.knocks.addr = p.knock(ctx, d, s, ask{change: changeIP})
			}
		},
		func(ctx context.Context, d *door, s *stream) {
			f.knocks.port = p.knock(ctx, d, s, ask{change: changePort})
		},
		func(ctx context.Context, _ *door, s *stream) {
			f.knocks.fresh = p.knockFresh(ctx, s)
		},
		func(ctx context.Context, d *door, s *stream) {
			select {
			case <-mapped: // its mappings would be taken for samples
				f.hairpin = p.hairpin(ctx, d, s)
			case <-ctx.Done():
			}
		},
	}
}

// otherAddress reports whether the server has a second address.
func (p *prober) otherAddress(s *stream) bool {
	return s.other.IsValid() && s.other.Addr() != p.server.Addr()
}

// knock has the server dial back to d.
func (p *prober) knock(ctx context.Context, d *door, s *stream, q ask) knock {
	ctx, cancel := context.WithTimeout(ctx, dialBackTimeout+handOver+openTimeout)
	defer cancel()
	a, err := exchange(ctx, s, q)
	if err != nil {
		// Other people's servers refuse CHANGE-REQUEST over TCP.
		p.log.Debug("no dial back", "phase", "filtering", "remote", p.server, "err", err)
		return knock{}
	}
	k := knock{a.dialled.outcome, a.dialled.after, d.saw(a.dialled.token)}
	p.log.Debug("dialled back", "phase", "filtering", "outcome", k.outcome.String(), "arrived", k.arrived)
	return k
}

// knockFresh has the server dial back to a port that was never used: behind a
// NAT nobody answers there, unless it forwards everything to this host.
func (p *prober) knockFresh(ctx context.Context, s *stream) knock {
	d, err := p.listen(ctx)
	if err != nil {
		return knock{}
	}
	defer d.close()
	q := ask{change: changePort, port: d.port}
	if p.otherAddress(s) {
		q.change = changeIP
		if s.other.Port() != p.server.Port() {
			q.change |= changePort
		}
	}
	return p.knock(ctx, d, s, q)
}
