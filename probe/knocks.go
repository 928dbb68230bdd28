package probe

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"github.com/gostunt/stunt/internal/sock"
)

// visit is a test of a port that has a listener and a STUN connection.
type visit struct {
	ask ask                                           // sent behind the first request; zero: none is
	run func(ctx context.Context, d *door, s *stream) // s is nil if there was no connection
}

// knockAll starts the knocks, each at a port of its own, and the hairpin test
// on a fourth one, which waits for calm so that its mappings are not taken for
// samples. The first and the last port are adjacent, if they can be. opened
// waits for the connections, tests for all.
func (p *prober) knockAll(ctx context.Context, tests, opened *sync.WaitGroup, calm <-chan struct{}) {
	var first *door
	for i, v := range p.visits(ctx, calm) {
		var port uint16
		if i == 3 && first != nil {
			port = first.port + 1
		}
		d, err := p.listen(ctx, port)
		if err != nil {
			p.over(i)
			continue
		}
		if i == 0 {
			first = d
		}
		p.watch(d, i)
		c := call{at: p.reserve(), local: netip.AddrPortFrom(p.from, d.port), server: p.server, first: ask{syn: true}, then: v.ask}
		opened.Add(1)
		tests.Go(func() {
			defer d.close()
			s, err := p.open(ctx, c)
			if err == nil && s.then.conn != nil {
				p.asked(i, s.at+s.rtt, s.rtt)
			}
			opened.Done()
			if err == nil {
				defer sock.Abort(s.TCPConn)
			} else {
				p.log.Debug("no answer", "phase", "filtering", "remote", p.server, "err", err)
			}
			v.run(ctx, d, s)
			p.over(i)
		})
	}
}

func (p *prober) visits(ctx context.Context, calm <-chan struct{}) []visit {
	knocking := func(q ask, keep func(f *facts) *knock) visit {
		return visit{q, func(ctx context.Context, d *door, s *stream) {
			if s == nil || q.change == changeIP && !p.otherAddress(s.other) {
				return
			}
			k := p.knock(ctx, d, s, q)
			p.note(func(f *facts) { *keep(f) = k })
		}}
	}
	all := []visit{knocking(ask{change: changePort}, func(f *facts) *knock { return &f.knocks.port })}
	all = append(all, knocking(ask{change: changeIP}, func(f *facts) *knock { return &f.knocks.addr }))
	all = append(all, p.freshVisit(ctx))
	return append(all, visit{run: func(ctx context.Context, d *door, s *stream) {
		if s == nil {
			return
		}
		p.count(s)
		select {
		case <-calm:
			h := p.hairpin(ctx, d, s)
			p.note(func(f *facts) { f.hairpin = h })
		case <-ctx.Done():
		}
	}})
}

// freshVisit has the server dial back to a port that was never used: behind a
// NAT nobody answers there, unless it forwards everything to this host.
func (p *prober) freshVisit(ctx context.Context) visit {
	fresh, err := p.listen(ctx, 0)
	if err != nil {
		return visit{run: func(context.Context, *door, *stream) {}}
	}
	p.watch(fresh, 2)
	far := func(other netip.AddrPort) ask {
		q := ask{change: changePort, port: fresh.port}
		if p.otherAddress(other) {
			q.change = changeIP
			if other.Port() != p.server.Port() {
				q.change |= changePort
			}
		}
		return q
	}
	first := far(p.other)
	if !p.other.IsValid() { // hope for the best: a server that has no other address refuses, and is asked again
		first.change = changeIP | changePort
	}
	return visit{first, func(ctx context.Context, _ *door, s *stream) {
		defer fresh.close()
		if s == nil {
			return
		}
		q := far(s.other)
		if q != first {
			s.then = request{} // its answer is read past
		}
		k := p.knock(ctx, fresh, s, q)
		p.note(func(f *facts) { f.knocks.fresh = k })
	}}
}

// openDoor opens a port and a connection from it.
func (p *prober) openDoor(ctx context.Context) (*door, *stream, error) {
	d, err := p.listen(ctx, 0)
	if err != nil {
		return nil, nil, err
	}
	s, err := p.open(ctx, call{at: p.reserve(), local: netip.AddrPortFrom(p.from, d.port), server: p.server})
	if err != nil {
		d.close()
		return nil, nil, err
	}
	return d, s, nil
}

// otherAddress reports whether the server has a second address.
func (p *prober) otherAddress(other netip.AddrPort) bool {
	return other.IsValid() && other.Addr() != p.server.Addr()
}

// knock has the server dial back to a door, unless it was asked to already.
func (p *prober) knock(ctx context.Context, d *door, s *stream, q ask) knock {
	ctx, cancel := context.WithTimeout(ctx, dialBackTimeout+handOver+openTimeout)
	defer cancel()
	r, err := s.then, error(nil)
	if r.conn == nil {
		r, err = send(s, q)
		p.asked(d.trial, time.Since(p.start), s.rtt)
	}
	s.then = request{}
	var a answer
	if err == nil {
		a, err = r.receive(ctx)
	}
	if err != nil {
		// Other people's servers refuse CHANGE-REQUEST over TCP.
		p.log.Debug("no dial back", "phase", "filtering", "remote", p.server, "err", err)
		return knock{}
	}
	k := knock{a.dialled.outcome, a.dialled.after, d.saw(a.dialled.token)}
	p.log.Debug("dialled back", "phase", "filtering", "outcome", k.outcome.String(), "arrived", k.arrived)
	return k
}
