package probe

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/gostunt/stunt/internal/sock"
	"github.com/gostunt/stunt/predict"
)

const (
	// A connection and its Binding, with the SYN repeated after 1 and 3 s.
	openTimeout = 5 * time.Second

	// The samples of the port assignment have an order, so the connections
	// that make them start one after the other: longer apart than a host needs
	// for a SYN, and together shorter than a round trip.
	pace = 3 * time.Millisecond
)

// prober measures one family. It is used for one run.
type prober struct {
	net    *sock.Net
	server netip.AddrPort
	from   netip.Addr // the address to probe from; may be unspecified
	other  netip.AddrPort
	log    *slog.Logger
	start  time.Time

	mu      sync.Mutex // guards following
	next    time.Duration
	samples []predict.Sample
}

func newProber(cfg Config, server netip.AddrPort, from netip.Addr) *prober {
	if !from.IsValid() {
		from = sock.Unspecified(server.Addr(), 0).Addr()
	}
	return &prober{net: cfg.Net, server: server, from: from, log: cfg.Logger, start: time.Now()}
}

// facts are the measurements of a run, before they are judged.
type facts struct {
	seen
	samples []predict.Sample
	knocks  knocks
	hairpin Tri
}

// public returns the addresses that servers saw, in the order of their
// appearance, at most maxPublic.
func (f *facts) public() []netip.Addr {
	var addrs []netip.Addr
	for _, s := range f.samples {
		if a := s.Mapped.Addr(); !slices.Contains(addrs, a) && len(addrs) < maxPublic {
			addrs = append(addrs, a)
		}
	}
	return addrs
}

// stream is a STUN connection and what its server said first.
type stream struct {
	*net.TCPConn
	answer
}

// reserve returns when the next connection may start, since p.start.
func (p *prober) reserve() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := max(p.next, time.Since(p.start))
	p.next = at + pace
	return at
}

// open connects from local to a STUN server at its reserved time, asks for the
// mapping and notes it as a sample. The caller closes the stream, best by
// sock.Abort.
func (p *prober) open(ctx context.Context, at time.Duration, local, server netip.AddrPort) (*stream, error) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	t := time.NewTimer(at - time.Since(p.start))
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	at = time.Since(p.start) // a busy machine wakes late
	conn, err := p.net.Dial(ctx, local, server, 0)
	if err != nil {
		return nil, err
	}
	a, err := exchange(ctx, conn, ask{})
	if err != nil {
		sock.Abort(conn)
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.samples = append(p.samples, predict.Sample{
		Local: sock.AddrPort(conn.LocalAddr()), Dst: server, Mapped: a.mapped, At: at,
	})
	return &stream{conn, a}, nil
}

// run does the tests of one family: the mapping tests from one local port, and
// beside them one connection each for the filtering tests, which are samples
// of the port assignment as well. early is called when both are known.
func (p *prober) run(ctx context.Context, early func(facts)) (facts, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var f facts
	var tests, opened sync.WaitGroup
	mapped := make(chan struct{}) // closed when the mapping is known
	at := p.reserve()             // the first, as everybody waits for it
	for _, t := range p.tests(&f, mapped) {
		opened.Add(1)
		tests.Go(func() { p.test(ctx, t, opened.Done) })
	}
	if err := p.mapping(ctx, at, &f); err != nil {
		cancel()
		tests.Wait()
		return f, err
	}
	opened.Wait()
	p.mu.Lock()
	f.samples = slices.Clone(p.samples)
	p.mu.Unlock()
	p.log.Debug("nat mapping", "phase", "mapping", "local", f.local, "remote", f.first)
	early(facts{seen: f.seen, samples: f.samples})
	close(mapped)
	tests.Wait()
	return f, nil
}
