package crowd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/gostunt/stunt/stuntd"
)

// hosts are the servers of a measurement: one, or several.
type hosts struct {
	dir     string // of all that they keep
	configs []HostConfig
	running []*process // as configs; none while they are away
	address []string   // of each, for nodes, once it has run
}

// newHosts prepares n servers with so many connections each: a cluster, if they
// are not apart.
func newHosts(n int, apart bool, each HostConfig) (_ *hosts, err error) {
	h := &hosts{}
	if h.dir, err = os.MkdirTemp("", "crowd"); err != nil {
		return nil, err
	}
	secret := filepath.Join(h.dir, "secret")
	if err := os.WriteFile(secret, []byte("a secret of servers on one machine that live for minutes\n"), 0o600); err != nil {
		return nil, errors.Join(err, h.remove())
	}
	ports, err := freePorts(2 * n)
	if err != nil {
		return nil, errors.Join(err, h.remove())
	}
	for i := range n {
		c := each
		c.Listen, c.State = ports[i], filepath.Join(h.dir, fmt.Sprint(i))
		if n > 1 && !apart {
			routes := slices.Delete(slices.Clone(ports[n:]), i, i+1)
			c.Cluster = stuntd.Cluster{Name: "crowd", SecretFile: secret, Listen: ports[n+i], Routes: routes}
		}
		h.configs = append(h.configs, c)
	}
	return h, nil
}

// freePorts returns addresses of the loopback that nobody listens at.
func freePorts(n int) (free []string, err error) {
	for range n {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer ln.Close() // after the last, so that none comes twice
		free = append(free, ln.Addr().String())
	}
	return free, nil
}

func (h *hosts) remove() error { return os.RemoveAll(h.dir) }

// start starts them where they were before.
func (h *hosts) start(ctx context.Context) error {
	h.address = make([]string, len(h.configs))
	for range h.configs {
		p, err := start(roleServer)
		if err != nil {
			return err
		}
		h.running = append(h.running, p)
	}
	return h.each(ctx, func(ctx context.Context, i int) error {
		return h.running[i].call(ctx, "Start", h.configs[i], &h.address[i])
	})
}

// each calls f for all that run, at once.
func (h *hosts) each(ctx context.Context, f func(ctx context.Context, i int) error) error {
	g, ctx := errgroup.WithContext(ctx)
	for i := range h.running {
		g.Go(func() error { return f(ctx, i) })
	}
	return g.Wait()
}

// stats adds up what all of them have.
func (h *hosts) stats(ctx context.Context) (all HostStats, err error) {
	each := make([]HostStats, len(h.running))
	err = h.each(ctx, func(ctx context.Context, i int) error {
		return h.running[i].call(ctx, "Stats", Nothing(0), &each[i])
	})
	for _, s := range each {
		all.add(s)
	}
	return all, err
}

// parts returns the servers' part of each dial since the last time.
func (h *hosts) parts(ctx context.Context) (all []time.Duration, err error) {
	each := make([][]time.Duration, len(h.running))
	err = h.each(ctx, func(ctx context.Context, i int) error {
		return h.running[i].call(ctx, "Parts", Nothing(0), &each[i])
	})
	return slices.Concat(each...), err
}

// cpu returns how much processor time they use while f runs.
func (h *hosts) cpu(ctx context.Context, f func() error) (time.Duration, error) {
	before, err := h.used(ctx)
	if err == nil {
		err = f()
	}
	if err != nil {
		return 0, err
	}
	after, err := h.used(ctx)
	return after - before, err
}

func (h *hosts) used(ctx context.Context) (sum time.Duration, err error) {
	each := make([]time.Duration, len(h.running))
	err = h.each(ctx, func(ctx context.Context, i int) error {
		return h.running[i].call(ctx, "CPU", Nothing(0), &each[i])
	})
	for _, d := range each {
		sum += d
	}
	return sum, err
}

// kill ends all as a crash would, and returns when that was: until they are gone
// the kernel has their connections to close.
func (h *hosts) kill() time.Time {
	now := time.Now()
	for _, p := range h.running {
		p.crash()
	}
	h.end()
	return now
}

// shutdown stops all as SIGTERM does, at the same time.
func (h *hosts) shutdown(ctx context.Context) error {
	err := h.each(ctx, func(ctx context.Context, i int) error {
		return h.running[i].call(ctx, "Shutdown", Nothing(0), new(Nothing))
	})
	h.end()
	return err
}

// end ends those that run.
func (h *hosts) end() {
	for _, p := range h.running {
		p.end()
	}
	h.running = nil
}
