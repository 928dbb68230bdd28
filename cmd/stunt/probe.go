package main

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/gostunt/stunt"
	"github.com/gostunt/stunt/probe"
)

// runProbe prints the NAT report: facts, one a line, then a verdict.
func runProbe(ctx context.Context, e *env, args []string) error {
	f := newFlags(e, "probe")
	nf := f.node()
	nf.portmap(f)
	asJSON := f.Bool("json", false, "print the report as JSON")
	fresh := f.Bool("fresh", false, "measure all again, even where an earlier run has, and keep that")
	lifetime := f.Duration("lifetime", 0, "also find out for how long an idle connection keeps its mapping, up to this `time`, which it takes")
	timeout := f.Duration("timeout", 20*time.Second, "give up after this `time`")
	if _, err := f.parse(args, 0, 0); err != nil {
		return err
	}
	c, err := nf.config(f)
	if err != nil {
		return err
	}
	if *fresh {
		kept := probe.CacheConfig{Dir: c.CacheDir, Identity: stunt.Fingerprint(c.Key.Public().(ed25519.PublicKey))}
		if err := kept.Forget(); err != nil {
			return err
		}
	}
	var server atomic.Pointer[netip.AddrPort]
	c.Trace = &stunt.Trace{Session: func(s, _ netip.AddrPort) { server.Store(&s) }}
	ctx, cancel := context.WithTimeout(ctx, *timeout+*lifetime)
	defer cancel()
	n := &stunt.Node{Config: c}
	defer n.Close()
	if err := n.Up(ctx); err != nil {
		return fmt.Errorf("no session with %s: %w", c.Server, err)
	}
	r, err := n.Report(ctx)
	if err != nil {
		return err
	}
	v4, v6, err := n.PortMappings(ctx)
	if err != nil {
		return err
	}
	if *lifetime > 0 {
		fmt.Fprintf(e.err, "waiting to see for how long an idle connection keeps its mapping: up to %v\n", *lifetime)
		if r, err = withLifetime(ctx, *r, *server.Load(), *lifetime); err != nil {
			return err
		}
	}
	full := *r // the node's own stays as it is
	full.PortMapping, full.IPv6.PortMapping = v4, v6
	if *asJSON {
		enc := json.NewEncoder(e.out)
		enc.SetIndent("", "  ")
		return enc.Encode(&full)
	}
	return full.WriteText(e.out)
}

// withLifetime adds to a report for how long an idle connection to a server
// keeps its mapping.
func withLifetime(ctx context.Context, r probe.Report, server netip.AddrPort, up time.Duration) (*probe.Report, error) {
	c := probe.Config{Server: server, Lifetime: up}
	if server.Addr().Is6() {
		c.Server, c.Server6 = c.Server6, c.Server
	}
	idle, err := probe.Run(ctx, c)
	if err != nil {
		return nil, err
	}
	r.LifetimeS = idle.LifetimeS
	return &r, nil
}
