package probe

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/gostunt/stunt/internal/sock"
)

// ErrMappingChanged is why a [Binding] ended whose public endpoint is no
// longer the one that it was made with: the NAT restarted or reassigned it.
var ErrMappingChanged = errors.New("the NAT changed the mapping")

const (
	// NATs drop idle TCP sessions after 2 h 4 min if they follow RFC 5382, and
	// within a minute if they are cheap or carrier-grade (field reports).
	refreshInterval = 25 * time.Second

	// A refresh that takes longer is a lost connection.
	refreshTimeout = 10 * time.Second

	bindTimeout = 5 * time.Second // with two repeated SYNs
)

// BindConfig says where a binding is made.
type BindConfig struct {
	// Net opens the socket. Nil is the process's own network.
	Net *sock.Net

	// Local is the endpoint to bind. Invalid, or with port 0, the system picks
	// a port; the socket shares it (SO_REUSEPORT) either way.
	Local netip.AddrPort

	// Server is the STUN server. It must be set.
	Server netip.AddrPort

	// Logger gets a line when the binding ends by itself, at Debug. Nil is silent.
	Logger *slog.Logger
}

// A Binding is a local port whose public endpoint is known, and whose mapping
// in the NAT is kept by an open STUN connection that speaks every 25 s. It
// costs one goroutine and one socket until it is closed or lost. All methods
// are safe for concurrent use.
type Binding struct {
	conn   net.Conn
	local  netip.AddrPort
	public netip.AddrPort
	log    *slog.Logger

	closing atomic.Bool   // Close was called
	done    chan struct{} // closed by hold
	err     error         // written by hold before done is closed
}

// Bind connects to the STUN server and learns the public endpoint. ctx bounds
// the making only; without a deadline of its own it takes at most 5 s. The
// caller closes the Binding, but not before the punch from its port is over: a
// closed connection releases the mapping on real NATs.
func Bind(ctx context.Context, cfg BindConfig) (*Binding, error) {
	if !cfg.Server.IsValid() {
		return nil, errors.New("probe: BindConfig.Server is not set")
	}
	if !cfg.Local.IsValid() {
		cfg.Local = sock.Unspecified(cfg.Server.Addr(), 0)
	}
	ctx, cancel := context.WithTimeout(ctx, bindTimeout)
	defer cancel()
	conn, err := cfg.Net.Dial(ctx, cfg.Local, cfg.Server, 0)
	if err != nil {
		return nil, fmt.Errorf("stun %v: %w", cfg.Server, err)
	}
	b, err := bind(ctx, conn, cfg.Logger)
	if err != nil {
		sock.Abort(conn)
		return nil, fmt.Errorf("stun %v: %w", cfg.Server, err)
	}
	return b, nil
}

// bind makes a Binding of a connection to a STUN server.
func bind(ctx context.Context, conn net.Conn, log *slog.Logger) (*Binding, error) {
	a, err := exchange(ctx, conn, ask{})
	if err != nil {
		return nil, err
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	b := &Binding{
		conn:   conn,
		local:  sock.AddrPort(conn.LocalAddr()),
		public: a.mapped,
		log:    log,
		done:   make(chan struct{}),
	}
	go b.hold()
	return b, nil
}

// Local is the endpoint that the socket is bound to.
func (b *Binding) Local() netip.AddrPort { return b.local }

// Public is the endpoint that the server saw when the binding was made.
func (b *Binding) Public() netip.AddrPort { return b.public }

// Done is closed when the binding has ended: by Close, or because the
// connection was lost or the mapping changed.
func (b *Binding) Done() <-chan struct{} { return b.done }

// Err is nil until Done is closed, then why: [net.ErrClosed] after Close,
// [ErrMappingChanged], or the error of the connection.
func (b *Binding) Err() error {
	select {
	case <-b.done:
		return b.err
	default:
		return nil
	}
}

// Close ends the binding with a RST, so that its port can connect to the same
// server again at once, and waits for its goroutine. It may be repeated.
func (b *Binding) Close() error {
	b.closing.Store(true)
	b.abort()
	<-b.done
	return nil
}

// abort may be repeated.
func (b *Binding) abort() {
	if tc, ok := b.conn.(*net.TCPConn); ok {
		sock.Abort(tc)
		return
	}
	b.conn.Close()
}

// hold keeps the mapping until the connection ends, which Close brings about.
func (b *Binding) hold() {
	defer close(b.done)
	err := b.refresh()
	b.abort()
	if b.closing.Load() {
		b.err = net.ErrClosed
		return
	}
	b.log.Debug("binding lost", "local", b.local, "err", err)
	b.err = err
}

// refresh watches the connection and asks for the mapping again and again. A
// server has nothing to say of its own accord, so whatever wakes the read
// before its time is the end of the connection.
func (b *Binding) refresh() error {
	var one [1]byte
	for {
		// Many bindings are made at once; spread their refreshes.
		wait := refreshInterval - rand.N(refreshInterval/10)
		b.conn.SetReadDeadline(time.Now().Add(wait))
		_, err := b.conn.Read(one[:])
		if err == nil {
			return errNotSTUN
		}
		if ne, ok := errors.AsType[net.Error](err); !ok || !ne.Timeout() {
			return err
		}
		b.conn.SetDeadline(time.Now().Add(refreshTimeout))
		r, err := send(b.conn, ask{})
		if err != nil {
			return err
		}
		a, err := r.read()
		if err != nil {
			return err
		}
		if a.mapped != b.public {
			return ErrMappingChanged
		}
	}
}
