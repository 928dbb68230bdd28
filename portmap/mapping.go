package portmap

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/gostunt/stunt/internal/sock"
)

// Mapping is a port of a gateway that leads to a port of this host. It costs a
// goroutine. Its methods are safe for concurrent use.
type Mapping struct {
	cfg     Config
	local   netip.AddrPort
	life    context.Context // ends with Close
	end     context.CancelFunc
	changed chan struct{}      // capacity 1, never closed
	refresh chan chan struct{} // unbuffered, never closed; what it carries keep closes
	done    chan struct{}      // closed by keep

	// Owned by Map and then by keep.
	gateway netip.Addr
	askers  []asker
	chosen  asker
	until   time.Time // the lease's end

	mu       sync.Mutex // guards following
	external netip.AddrPort
	protocol Protocol
}

func newMapping(cfg Config, local netip.AddrPort) *Mapping {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	m := &Mapping{
		cfg: cfg, local: local, gateway: cfg.gateway(local.Addr()),
		changed: make(chan struct{}, 1), refresh: make(chan chan struct{}), done: make(chan struct{}),
	}
	m.askers = cfg.askers(local.Addr(), m.gateway)
	return m
}

// start makes the mapping and has it kept.
func (m *Mapping) start(ctx context.Context) (*Mapping, error) {
	if err := m.establish(ctx); err != nil {
		return nil, fmt.Errorf("portmap: %w", err)
	}
	m.life, m.end = context.WithCancel(context.Background())
	go m.keep()
	return m, nil
}

// External returns the public endpoint as the gateway says. It may lie or sit
// behind another NAT: nothing shows that somebody comes in there but trying.
// It is invalid while the mapping is lost.
func (m *Mapping) External() netip.AddrPort {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.external
}

// Protocol returns how the gateway was asked.
func (m *Mapping) Protocol() Protocol {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.protocol
}

// Changed receives a value when External is another, or the gateway has
// restarted and made the mapping anew.
func (m *Mapping) Changed() <-chan struct{} { return m.changed }

// Refresh renews the mapping now, and waits until that is over. The error says
// that there is none at present.
func (m *Mapping) Refresh(ctx context.Context) error {
	over := make(chan struct{})
	select {
	case m.refresh <- over:
	case <-m.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-over:
	case <-m.done:
		return net.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	if !m.External().IsValid() {
		return ErrNone
	}
	return nil
}

// Close has the gateway remove the mapping, for which it waits a second at
// most. It may be repeated.
func (m *Mapping) Close() error {
	m.end()
	<-m.done
	return nil
}

// keep renews the mapping until Close, and then removes it.
func (m *Mapping) keep() {
	defer close(m.done)
	t := time.NewTimer(m.pause())
	defer t.Stop()
	for {
		var over chan struct{}
		select {
		case <-t.C:
		case over = <-m.refresh:
		case <-m.life.Done():
			m.forget()
			return
		}
		m.renew()
		if over != nil {
			close(over)
		}
		t.Reset(m.pause())
	}
}

// pause is how long the mapping needs no attention: half of what is left, and a
// while if it is lost.
func (m *Mapping) pause() time.Duration {
	if m.chosen == nil {
		return m.cfg.lifetime() / 2
	}
	return renewal(time.Until(m.until))
}

// renewal is half of what a lease has left, but not less than a second, which
// is what a gateway's clock counts in.
func renewal(left time.Duration) time.Duration { return max(left/2, time.Second) }

// renew asks for the same again, or if that fails for whatever is to be had.
func (m *Mapping) renew() {
	err := errSilence
	if m.chosen != nil && m.gateway == m.cfg.gateway(m.local.Addr()) {
		ctx, cancel := context.WithTimeout(m.life, askTimeout)
		err = m.obtain(ctx, m.chosen)
		cancel()
	}
	if err == nil {
		return
	}
	m.cfg.Logger.Debug("mapping not renewed", "phase", "portmap", "remote", m.gateway, "err", err)
	if m.establish(m.life) == nil || m.life.Err() != nil || time.Now().Before(m.until) {
		return
	}
	m.chosen = nil
	m.set(lease{})
}

// establish asks all protocols at once and obtains a mapping by the first that
// has one to give.
func (m *Mapping) establish(ctx context.Context) error {
	if g := m.cfg.gateway(m.local.Addr()); g != m.gateway {
		m.gateway, m.askers = g, m.cfg.askers(m.local.Addr(), g)
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	type answer struct {
		from asker
		err  error
	}
	answers := make(chan answer, len(m.askers)) // one of each
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	for _, a := range m.askers {
		wg.Go(func() { answers <- answer{a, a.find(ctx)} })
	}
	errs := []error{ErrNone}
	for range m.askers {
		a := <-answers
		if a.err == nil {
			a.err = m.obtain(ctx, a.from)
		}
		if a.err == nil {
			return nil
		}
		m.cfg.Logger.Debug("no mapping", "phase", "portmap", "remote", m.gateway, "method", a.from.protocol().String(), "err", a.err)
		errs = append(errs, fmt.Errorf("%v: %w", a.from.protocol(), a.err))
	}
	return errors.Join(errs...)
}

// obtain asks one gateway for the mapping, and takes it if it is of use.
func (m *Mapping) obtain(ctx context.Context, a asker) error {
	w := m.wish()
	l, err := a.add(ctx, w)
	if err != nil {
		return err
	}
	if err := m.usable(l); err != nil {
		w.external = l.external
		a.remove(ctx, w) // it is of no use to anybody
		return err
	}
	m.chosen = a
	m.until = time.Now().Add(min(l.lifetime, w.lifetime)) // a router that promises more forgets as easily
	m.set(l)
	return nil
}

// wish is what we ask for: what we have, or the same number as inside.
func (m *Mapping) wish() wish {
	external := m.External()
	if !external.IsValid() {
		external = netip.AddrPortFrom(sock.Unspecified(m.local.Addr(), 0).Addr(), m.local.Port())
		if m.local.Addr().Is6() {
			external = m.local
		}
	}
	return wish{internal: m.local.Port(), external: external, lifetime: m.cfg.lifetime()}
}

// usable reports why a lease is none. The port has to be one that strangers may
// be sent to, and the address one that a host can have; whether that is where
// the world sees us is for those to find out who can ask the world.
func (m *Mapping) usable(l lease) error {
	ip := l.external.Addr()
	switch {
	case l.external.Port() < 1024:
		return fmt.Errorf("the gateway gave port %d", l.external.Port())
	case !ip.IsGlobalUnicast() || ip.Is4() != m.local.Addr().Is4():
		return fmt.Errorf("the gateway says that it is at %v", ip)
	case ip.Is6() && l.external != m.local:
		return fmt.Errorf("the gateway opens %v for %v", l.external, m.local)
	case l.lifetime < m.cfg.lifetime()/leastShare:
		return fmt.Errorf("the gateway keeps a mapping for %v only", l.lifetime)
	}
	return nil
}

// set notes what there is now, and tells if it is news.
func (m *Mapping) set(l lease) {
	m.mu.Lock()
	news := m.external.IsValid() && l.external != m.external || l.restarted || m.life != nil && !m.external.IsValid() && l.external.IsValid()
	m.external = l.external
	if m.chosen != nil {
		m.protocol = m.chosen.protocol()
	}
	m.mu.Unlock()
	if !news {
		return
	}
	m.cfg.Logger.Debug("mapping changed", "phase", "portmap", "local", m.local, "remote", l.external)
	select {
	case m.changed <- struct{}{}:
	default:
	}
}

// forget has the gateway remove the mapping.
func (m *Mapping) forget() {
	if m.chosen == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), removeTimeout)
	defer cancel()
	w := m.wish()
	if err := m.chosen.remove(ctx, w); err != nil && !errors.Is(err, net.ErrClosed) {
		m.cfg.Logger.Debug("mapping not removed", "phase", "portmap", "remote", m.gateway, "err", err)
	}
}
