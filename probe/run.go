package probe

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/gostunt/stunt/internal/sock"
	"github.com/gostunt/stunt/predict"
)

// Config says what Run measures with.
type Config struct {
	// Net opens the sockets. Nil is the process's own network.
	Net *sock.Net

	// Server is the STUN server's IPv4 endpoint, Server6 its IPv6 one. One of
	// them must be set; a family without one is not measured. Any standard
	// server shows the mapping if it has a second address and port; filtering
	// needs one of ours.
	Server, Server6 netip.AddrPort

	// Other and Other6 are the OTHER-ADDRESS of Server and Server6, if known
	// from before: they save two round trips. If the server says something else,
	// that costs what they were to save. Those that the server could not send us
	// to, as a private one of a public server, are not used. Invalid: the server
	// is asked.
	Other, Other6 netip.AddrPort

	// Local is the IPv4 address to probe from. Invalid: the system chooses.
	Local netip.Addr

	// Lifetime, if not zero, asks how long an idle connection keeps its
	// mapping, up to this; Run takes that much longer. Only servers of ours
	// can tell. It is about IPv4, if there is Server.
	Lifetime time.Duration

	// OnMapping, if not nil, is called with what is known of IPv4 as soon as
	// the mapping and the port assignment are, two round trips from the start
	// with Other and four without, and as soon as it is known what an unsolicited
	// SYN gets, three from the start; once more if that turns out to be something
	// else, as an error that comes late. What takes longer is unknown in these. The
	// calls are made one after the other, and the reports are the callee's; Run
	// waits for it to return.
	OnMapping func(*Report)

	// Logger gets a line per test at Debug. Nil is silent.
	Logger *slog.Logger

	foundOther func(netip.AddrPort) // called with the OTHER-ADDRESS of each server, for RunCached; maybe at once
}

// runTimeout bounds a Run whose ctx does not: the tests take a dozen round
// trips and, where silence is an answer, the 3 s that the server waits for it;
// on a path that loses packets their timeouts come on top.
const runTimeout = 15 * time.Second

// Run measures the NAT or firewall in front of this host. It opens some
// fifteen connections to the server, forty where ports are drawn at random,
// from ports of its own, and closes them before it returns; the tests run
// beside each other, and take less than 5 s. It fails only if the server could
// not be reached over any family, with the first connection's error, or if ctx
// ends; tests that fail on their own leave their fields unknown.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	if !cfg.Server.IsValid() && !cfg.Server6.IsValid() {
		return nil, errors.New("probe: Config.Server is not set")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	whole := ctx // of the caller
	ctx, cancel := context.WithTimeout(ctx, runTimeout+max(cfg.Lifetime, 0))
	defer cancel()

	r := &Report{Version: ReportVersion, Time: time.Now()}
	var wg sync.WaitGroup
	var f4, f6 facts
	var err4, err6 error
	wg.Go(func() { f4, err4 = run4(ctx, cfg, *r) })
	wg.Go(func() { f6, err6 = run6(ctx, cfg) })
	wg.Wait()
	if whole.Err() != nil { // what was cut off looks as if it could not be told
		return nil, fmt.Errorf("probe: %w", context.Cause(whole))
	}
	if err4 != nil && err6 != nil {
		return nil, fmt.Errorf("probe: %w", errors.Join(err4, err6))
	}
	if err4 == nil {
		r.fill(f4)
	}
	r.IPv6.Global = tri(hasGlobal6(cfg.Net))
	if err6 == nil {
		r.fill6(f6)
	}
	return r, nil
}

var errNoServer = errors.New("no server of this family")

// run4 measures IPv4, and tells early on, in a copy of r.
func run4(ctx context.Context, cfg Config, r Report) (facts, error) {
	if !cfg.Server.IsValid() {
		return facts{}, errNoServer
	}
	p := newProber(cfg, cfg.Server, cfg.Local)
	p.expect(cfg.Other)
	p.tell = func(f facts) {
		if cfg.OnMapping != nil {
			early := r
			early.fill(f)
			cfg.OnMapping(&early)
		}
	}
	f, err := p.run(ctx)
	return f, p.found(cfg, err)
}

// found tells whose endpoints were found, if the run came that far.
func (p *prober) found(cfg Config, err error) error {
	if err == nil && cfg.foundOther != nil {
		cfg.foundOther(p.other)
	}
	return err
}

// run6 measures the IPv6 firewall.
func run6(ctx context.Context, cfg Config) (facts, error) {
	if !cfg.Server6.IsValid() {
		return facts{}, errNoServer
	}
	if !hasGlobal6(cfg.Net) && !cfg.Server6.Addr().IsLoopback() {
		return facts{}, errors.New("no global IPv6 address")
	}
	p := newProber(cfg, cfg.Server6, netip.Addr{})
	p.expect(cfg.Other6)
	if cfg.Server.IsValid() {
		p.lifetime = 0
	}
	f, err := p.run(ctx)
	return f, p.found(cfg, err)
}

// fill sets the fields of IPv4.
func (r *Report) fill(f facts) {
	r.Public, r.Local = f.public(), []netip.Addr{f.local.Addr()}
	m := predict.Infer(f.samples)
	r.Samples = m.Samples
	switch {
	case m.Kind == predict.Preserving:
		r.PortPreserving = Yes
	case m.Kind != predict.Unknown:
		r.PortPreserving = No
	}
	r.Delta = m.Delta
	var note1, note2, note3 string
	if f.compared {
		r.Mapping, note1 = f.judge(m.Kind == predict.Preserving)
	}
	r.Filtering, note2 = f.filtering()
	r.Path, note3 = f.path(r.Mapping)
	r.Ambiguous = notes("", note1, note2, note3)
	if r.Mapping != NoNAT {
		r.Ports = ports(m, f.samples)
	}
	r.Unsolicited, r.UnsolicitedMS = f.unsolicited()
	if f.shut() {
		r.OnRST, r.OnICMP = f.effect(RST), f.effect(ICMP)
	}
	r.Hairpin = f.hairpin
	r.LifetimeS = int(f.lifetime.Seconds())
}

// fill6 sets those of IPv6.
func (r *Report) fill6(f facts) {
	var note1, note2 string
	v6 := &r.IPv6
	v6.Public = f.first.Addr()
	v6.Mapping, note1 = f.judge(predict.Infer(f.samples).Kind == predict.Preserving)
	v6.Filtering, note2 = f.filtering()
	v6.Unsolicited, v6.UnsolicitedMS = f.unsolicited()
	r.LifetimeS = max(r.LifetimeS, int(f.lifetime.Seconds())) // only one family's is not 0
	r.Ambiguous = append(r.Ambiguous, notes("ipv6 ", note1, note2)...)
}

// unsolicited is what the knocks say, or the silence so far.
func (f *facts) unsolicited() (Reply, int) {
	r, ms := f.knocks.unsolicited()
	if r == ReplyUnknown && f.silent > 0 {
		return Silence, int(f.silent.Milliseconds())
	}
	return r, ms
}

// path judges what the walk and the holes say of the way to the server.
func (f *facts) path(m Mapping) (p Path, note string) {
	p = Path{Hops: f.hops, SeqPreserved: f.seq}
	if f.shut() {
		p.TTL, p.LastNAT = f.leastTTL(), f.lastNAT()
	}
	if m == NoNAT || m == MappingUnknown {
		return p, ""
	}
	sure := false
	if p.NATs, sure = nats(p.LastNAT, f.local.Addr(), f.walk); p.LastNAT > 0 && !sure {
		note = fmt.Sprintf("NATs: up to %d, the routers on the way to the last may be some", p.LastNAT)
	}
	return p, note
}

// notes returns those that say something, with the family in front.
func notes(family string, all ...string) (said []string) {
	for _, s := range all {
		if s != "" {
			said = append(said, family+s)
		}
	}
	return said
}

// hasGlobal6 reports whether an interface has an address of 2000::/3, the
// only global unicast addresses that are assigned; fc00::/7 are the private
// ones of IPv6.
func hasGlobal6(n *sock.Net) bool {
	prefixes, err := n.Prefixes()
	return err == nil && slices.ContainsFunc(prefixes, func(p netip.Prefix) bool {
		return p.Addr().Is6() && p.Addr().As16()[0]>>5 == 1
	})
}
