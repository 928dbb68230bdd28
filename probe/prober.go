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

	// The TTL of connections that the server counts the routers of.
	fullTTL = 64
)

// prober measures one family. It is used for one run.
type prober struct {
	net      *sock.Net
	server   netip.AddrPort
	from     netip.Addr // the address to probe from; may be unspecified
	log      *slog.Logger
	tell     func(facts) // called by herald when more is known that dialling needs
	lifetime time.Duration
	start    time.Time

	// Owned by run, and read by tests that start later:
	other   netip.AddrPort
	mapping Mapping
	model   predict.Model

	news   chan struct{} // capacity 1: something happened to a trial
	once   sync.Once     // of walkPath
	walked chan struct{} // closed by walkPath

	mu    sync.Mutex // guards following
	next  time.Duration
	facts facts
}

func newProber(cfg Config, server netip.AddrPort, from netip.Addr) *prober {
	if !from.IsValid() {
		from = sock.Unspecified(server.Addr(), 0).Addr()
	}
	return &prober{
		net: cfg.Net, server: server, from: from, log: cfg.Logger, lifetime: cfg.Lifetime, start: time.Now(),
		tell: func(facts) {}, news: make(chan struct{}, 1), walked: make(chan struct{}),
	}
}

// expect has the run begin with an OTHER-ADDRESS that was told beforehand, if it
// is one that the server itself would be believed.
func (p *prober) expect(other netip.AddrPort) {
	if alike(other.Addr(), p.server.Addr()) {
		p.other = other
	}
}

// facts are the measurements of a run, before they are judged.
type facts struct {
	seen
	compared bool          // all of these are in that there will be, but for the repeat
	rtt      time.Duration // of the first handshake
	samples  []predict.Sample
	sampled  bool // and there are no more, as other tests make mappings that are none
	knocks   knocks
	trials   trials        // how far the knocks are
	silent   time.Duration // nothing came of a knock for so long, before it was over
	hairpin  Tri
	hops     int // to the server; 0 unknown
	walk     []hop
	holes    []hole
	holeAddr bool // they were for the server's other address
	far      afar
	seq      Tri
	lifetime time.Duration
}

// afar is the server's other address, which may be that of another server.
type afar struct {
	rtt    time.Duration // of a handshake; 0 unknown
	hops   int           // to there; 0 unknown
	walk   []hop         // if there are not as many as to the server
	detour time.Duration // between the two, there and back, at most; 0 unknown
}

// note changes the facts.
func (p *prober) note(change func(f *facts)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(&p.facts)
}

// known returns the facts so far.
func (p *prober) known() facts {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := p.facts
	f.samples, f.holes = slices.Clone(f.samples), slices.Clone(f.holes)
	f.walk, f.far.walk = slices.Clone(f.walk), slices.Clone(f.far.walk)
	return f
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

// reserve returns when the next connection may start, since p.start.
func (p *prober) reserve() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := max(p.next, time.Since(p.start))
	p.next = at + pace
	return at
}

// call is a connection to a STUN server.
type call struct {
	at            time.Duration // reserved
	local, server netip.AddrPort
	first         ask // of the request that shows the mapping
	then          ask // of one that follows at once; zero: none
}

// stream is a STUN connection and what its server said first.
type stream struct {
	*net.TCPConn
	answer
	at   time.Duration // when the SYN left, since prober.start
	rtt  time.Duration // of the handshake
	then request       // if the call had one
}

// open connects at the reserved time, asks for the mapping and notes it as a
// sample, if they are still taken. The caller closes the stream, best by sock.Abort.
func (p *prober) open(ctx context.Context, c call) (*stream, error) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	if err := p.sleep(ctx, c.at); err != nil {
		return nil, err
	}
	at := time.Since(p.start) // a busy machine wakes late
	conn, err := p.net.Dial(ctx, c.local, c.server, fullTTL)
	if err != nil {
		return nil, err
	}
	s := &stream{TCPConn: conn, at: at, rtt: time.Since(p.start) - at}
	if err := s.greet(ctx, c); err != nil {
		sock.Abort(conn)
		return nil, err
	}
	p.note(func(f *facts) {
		if !f.sampled {
			f.samples = append(f.samples, predict.Sample{
				Local: sock.AddrPort(conn.LocalAddr()), Dst: c.server, Mapped: s.mapped, At: at,
			})
		}
	})
	return s, nil
}

// greet sends the requests of the call together, so that a dial back costs no
// round trip more, and reads the first answer.
func (s *stream) greet(ctx context.Context, c call) error {
	first, err := send(s, c.first)
	if err != nil {
		return err
	}
	if c.then != (ask{}) {
		if s.then, err = send(s, c.then); err != nil {
			return err
		}
	}
	s.answer, err = first.receive(ctx)
	return err
}

// sleep waits until the time since p.start.
func (p *prober) sleep(ctx context.Context, until time.Duration) error {
	t := time.NewTimer(until - time.Since(p.start))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// run does the tests of one family. First come the mapping tests from one
// local port and beside them the knocks, whose connections are samples of the
// port assignment as well. When all of these stand, which is two round trips
// from the start if the server's other endpoints are known, the rest follows.
// What the knocks say takes one more.
func (p *prober) run(ctx context.Context) (facts, error) {
	ctx, cancel := context.WithCancel(ctx)
	var tests sync.WaitGroup
	defer func() {
		cancel()
		tests.Wait()
	}()
	var opened sync.WaitGroup
	calm := make(chan struct{}) // closed when no more samples are taken
	at := p.reserve()           // the first, as everybody waits for it
	p.knockAll(ctx, &tests, &opened, calm)
	tests.Go(func() { p.herald(ctx) })
	main, err := p.mappings(ctx, at)
	if err != nil {
		return facts{}, err
	}
	defer main.close()
	opened.Wait()
	p.judge()
	p.note(func(f *facts) { f.compared = true })
	p.wake()
	if !p.counts() { // else its SYNs would pass for other hosts'
		tests.Go(func() { p.walkPath(ctx) })
	}

	again := make(chan struct{}) // closed when that is over
	tests.Go(func() {
		defer close(again)
		main.again(ctx)
	})
	p.sample(ctx)
	if p.counts() { // else the holes notice by themselves if they are another connection's
		<-again
	}
	p.note(func(f *facts) { f.sampled = true })
	p.judge()
	close(calm)
	tests.Go(func() { p.walkPath(ctx) }) // if it was not yet
	tests.Go(func() { p.probeHoles(ctx) })
	tests.Go(func() { p.sequence(ctx) })
	if p.lifetime > 0 {
		tests.Go(func() { p.idle(ctx) })
	}
	tests.Wait()
	p.note(func(f *facts) { f.silent = 0 }) // the knocks know better now
	return p.known(), nil
}

// counts reports whether each SYN of ours moves the port that is the next one's.
func (p *prober) counts() bool {
	return p.model.Kind == predict.Sequential || p.model.Kind == predict.Unknown
}

// judge sets what the tests that follow depend on.
func (p *prober) judge() {
	f := p.known()
	p.model = predict.Infer(f.samples)
	p.mapping, _ = f.judge(p.model.Kind == predict.Preserving)
	p.log.Debug("nat mapping", "phase", "mapping", "local", f.local, "remote", f.first, "mapping", p.mapping.String(), "ports", p.model.String())
}
