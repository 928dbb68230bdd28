package turn

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/pion/stun/v3"
)

const (
	maxPermits  = 1024 // of an allocation
	permitBatch = 64   // addresses in one request

	// permitEvery is how often permissions are renewed: a server forgets one
	// after five minutes (RFC 8656 section 9).
	permitEvery = 4 * time.Minute

	// maxAttempts is how many peers may wait to be accepted. A server drops one
	// after half a minute anyway.
	maxAttempts = 64

	// leastLifetime is what an allocation is taken to have at least, so that no
	// server keeps us busy refreshing it.
	leastLifetime = 10 * time.Second

	// peerTime is how long a server may take to reach a peer (RFC 6062 section
	// 5.2: at least thirty seconds), and a little more.
	peerTime = 35 * time.Second
)

// An Allocation is a TCP address on a server. It is refreshed until it is
// closed. All methods may be called from any goroutine.
type Allocation struct {
	cfg      Config
	log      *slog.Logger
	relayed  netip.AddrPort
	mapped   netip.AddrPort
	server   string // where the data connections go: where the allocation is
	auth     *credentials
	control  *control
	attempts chan attempt // capacity maxAttempts; never closed
	closing  sync.Once
	wg       sync.WaitGroup

	mu      sync.Mutex // guards following
	permits map[netip.Addr]bool
}

// attempt is a peer that has connected to the relayed address.
type attempt struct {
	peer netip.AddrPort
	id   uint32
}

// Allocate gets an address. ctx bounds no more than that.
func Allocate(ctx context.Context, cfg Config) (*Allocation, error) {
	addr, host := cfg.hostPort()
	if host == "" {
		return nil, opError("allocate", errors.New("Config.Server is not set"), nil, nil)
	}
	conn, err := cfg.connect(ctx, addr)
	if err != nil {
		return nil, opError("allocate", err, nil, nil)
	}
	a := &Allocation{cfg: cfg, log: cfg.logger(), server: conn.RemoteAddr().String(),
		auth:     &credentials{username: cfg.Username, password: cfg.Password},
		attempts: make(chan attempt, maxAttempts), permits: make(map[netip.Addr]bool)}
	a.control = newControl(conn, cfg.timeout(), a.attempted)
	a.wg.Go(a.control.run) // ends with the connection; Close waits
	lifetime, err := a.allocate(ctx)
	if err != nil {
		a.end(err)
		return nil, opError("allocate", err, nil, conn.RemoteAddr())
	}
	a.wg.Go(func() { a.keep(lifetime) }) // ends with the connection; Close waits
	return a, nil
}

func (a *Allocation) allocate(ctx context.Context) (time.Duration, error) {
	m, err := a.ask(ctx, stun.MethodAllocate, transportTCP())
	if err != nil {
		return 0, err
	}
	if a.relayed, err = addressIn(m, stun.AttrXORRelayedAddress); err != nil {
		return 0, err
	}
	a.mapped, _ = addressIn(m, stun.AttrXORMappedAddress) // not needed
	return lifetimeIn(m)
}

// ask makes a request over the connection of the allocation, in time.
func (a *Allocation) ask(ctx context.Context, method stun.Method, attrs ...stun.Setter) (*stun.Message, error) {
	ctx, cancel := context.WithTimeout(ctx, a.cfg.timeout())
	defer cancel()
	return ask(ctx, a.control.exchange, a.auth, method, attrs...)
}

// keep refreshes the allocation and its permissions until it ends, or cannot be
// refreshed, which ends it.
func (a *Allocation) keep(lifetime time.Duration) {
	refresh := time.NewTimer(max(lifetime, leastLifetime) / 2)
	defer refresh.Stop()
	permits := time.NewTicker(permitEvery)
	defer permits.Stop()
	for {
		var err error
		select {
		case <-a.control.life.Done():
			return
		case <-refresh.C:
			var m *stun.Message
			if m, err = a.ask(a.control.life, stun.MethodRefresh); err == nil {
				lifetime, err = lifetimeIn(m)
			}
			refresh.Reset(max(lifetime, leastLifetime) / 2)
		case <-permits.C:
			a.mu.Lock()
			all := slices.Collect(maps.Keys(a.permits))
			a.mu.Unlock()
			err = a.permit(a.control.life, all)
		}
		if err != nil {
			a.control.lost(fmt.Errorf("%w: %w", errLost, err))
			return
		}
	}
}

// Addr returns the relayed address, which peers connect to.
func (a *Allocation) Addr() net.Addr { return tcpAddr(a.relayed) }

// Public returns the address that the server sees this host at; invalid if it
// does not say.
func (a *Allocation) Public() netip.AddrPort { return a.mapped }

// Permit lets peers connect to the relayed address, from any port of theirs, for
// as long as the allocation lives.
func (a *Allocation) Permit(ctx context.Context, peers ...netip.Addr) error {
	if err := a.allow(ctx, peers); err != nil {
		return opError("permit", a.because(err), a.Addr(), nil)
	}
	return nil
}

// allow permits the peers that are not permitted yet.
func (a *Allocation) allow(ctx context.Context, peers []netip.Addr) error {
	a.mu.Lock()
	var news []netip.Addr
	for _, p := range peers {
		if p = p.Unmap(); !a.permits[p] && !slices.Contains(news, p) {
			news = append(news, p)
		}
	}
	full := len(a.permits)+len(news) > maxPermits
	a.mu.Unlock()
	if full {
		return errPermits
	}
	if err := a.permit(ctx, news); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, p := range news {
		a.permits[p] = true
	}
	return nil
}

// permit asks for permissions, new ones or again.
func (a *Allocation) permit(ctx context.Context, peers []netip.Addr) error {
	for batch := range slices.Chunk(peers, permitBatch) {
		var attrs []stun.Setter
		for _, p := range batch {
			attrs = append(attrs, peerAddr(netip.AddrPortFrom(p, 0)))
		}
		if _, err := a.ask(ctx, stun.MethodCreatePermission, attrs...); err != nil {
			return err
		}
	}
	return nil
}

// because tells why the allocation ended, if it has: what failed then failed
// for that.
func (a *Allocation) because(err error) error {
	if cause := context.Cause(a.control.life); cause != nil {
		return cause
	}
	return err
}

// Close gives the address up. Its connections end, too: the server closes them.
// It returns when nothing of the allocation runs any more. The error is nil.
func (a *Allocation) Close() error {
	a.closing.Do(func() {
		// Without waiting for the answer: the end of the connection says the same.
		if req, _, err := a.auth.request(stun.MethodRefresh, []stun.Setter{number{stun.AttrLifetime, 0}}); err == nil {
			ctx, cancel := context.WithTimeout(context.Background(), a.cfg.timeout())
			defer cancel()
			a.control.write(ctx, req.Raw)
		}
		a.end(net.ErrClosed)
	})
	return nil
}

func (a *Allocation) end(cause error) {
	a.control.lost(cause)
	a.wg.Wait()
}
