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

	// Other is the OTHER-ADDRESS of Server, if known from before: it saves two
	// round trips. Invalid: Server is asked.
	Other netip.AddrPort

	// Local is the IPv4 address to probe from. Invalid: the system chooses.
	Local netip.Addr

	// OnMapping, if not nil, is called once, with what is known when the
	// mapping and the port assignment of IPv4 are: four round trips from the
	// start, two with Other, two more where each connection is mapped anew. The
	// filtering follows seconds later. It is not called if IPv4 cannot be
	// measured. The report is the callee's; Run waits for it to return.
	OnMapping func(*Report)

	// Logger gets a line per test at Debug. Nil is silent.
	Logger *slog.Logger
}

// runTimeout bounds a Run whose ctx does not: the tests take four round trips
// and, where silence is an answer, the 3 s that the server waits for it; on a
// path that loses packets their timeouts come on top.
const runTimeout = 15 * time.Second

// Run measures the NAT or firewall in front of this host. It opens about eight
// connections to the server, from ports of its own, and closes them before it
// returns; the tests run beside each other. It fails only if the server could
// not be reached over any family, with the first connection's error; tests
// that fail on their own leave their fields unknown.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	if !cfg.Server.IsValid() && !cfg.Server6.IsValid() {
		return nil, errors.New("probe: Config.Server is not set")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := context.WithTimeout(ctx, runTimeout)
	defer cancel()

	r := &Report{Version: ReportVersion, Time: time.Now()}
	var wg sync.WaitGroup
	var v6 IPv6
	var notes6 []string
	var err4, err6 error
	if cfg.Server.IsValid() {
		wg.Go(func() { err4 = run4(ctx, cfg, r) })
	}
	wg.Go(func() { v6, notes6, err6 = run6(ctx, cfg) })
	wg.Wait()
	r.IPv6, r.Ambiguous = v6, append(r.Ambiguous, notes6...)

	measured4 := cfg.Server.IsValid() && err4 == nil
	measured6 := cfg.Server6.IsValid() && err6 == nil
	if !measured4 && !measured6 {
		return nil, fmt.Errorf("probe: %w", errors.Join(err4, err6))
	}
	return r, nil
}

// run4 measures IPv4 into r.
func run4(ctx context.Context, cfg Config, r *Report) error {
	p := newProber(cfg, cfg.Server, cfg.Local)
	p.other = cfg.Other
	f, err := p.run(ctx, func(f facts) {
		if cfg.OnMapping == nil {
			return
		}
		early := *r
		early.fill(f)
		cfg.OnMapping(&early)
	})
	if err == nil {
		r.fill(f)
	}
	return err
}

// fill sets the fields of IPv4 from facts.
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
	var note1, note2 string
	r.Mapping, note1 = f.judge(m.Kind == predict.Preserving)
	r.Filtering, note2 = f.knocks.filtering()
	r.Ambiguous = notes("", note1, note2)
	r.Unsolicited, r.UnsolicitedMS = f.knocks.unsolicited()
	r.Hairpin = f.hairpin
	if r.Hairpin == No && r.Mapping != EIM {
		r.Hairpin = Unknown // the two ports of the test could not know each other's mapping
	}
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

// run6 measures the IPv6 firewall, and returns what it could not tell apart.
func run6(ctx context.Context, cfg Config) (v6 IPv6, ambiguous []string, err error) {
	v6.Global = tri(hasGlobal6(cfg.Net))
	if !cfg.Server6.IsValid() {
		return v6, nil, nil
	}
	if v6.Global == No && !cfg.Server6.Addr().IsLoopback() {
		return v6, nil, errors.New("no global IPv6 address")
	}
	p := newProber(cfg, cfg.Server6, netip.Addr{})
	f, err := p.run(ctx, func(facts) {})
	if err != nil {
		return v6, nil, err
	}
	var note1, note2 string
	v6.Public = f.first.Addr()
	v6.Mapping, note1 = f.judge(predict.Infer(f.samples).Kind == predict.Preserving)
	v6.Filtering, note2 = f.knocks.filtering()
	v6.Unsolicited, v6.UnsolicitedMS = f.knocks.unsolicited()
	return v6, notes("ipv6 ", note1, note2), nil
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
