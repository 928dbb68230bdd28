package probe

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"

	"github.com/gostunt/stunt/internal/sock"
)

// VisitConfig says which port Visit tries.
type VisitConfig struct {
	// Net opens the socket. Nil is the process's own network.
	Net *sock.Net

	// Server is one of our STUN servers. It must be set.
	Server netip.AddrPort

	// Local is the address to ask from. Invalid: the system chooses.
	Local netip.Addr

	// Port of the public address that the server sees is tried; 1024 or above.
	Port uint16
}

// ErrNotTried is in the error of [Visit] when the server did not try: it has
// too much to do, or is none of ours.
var ErrNotTried = errors.New("the server did not try to connect")

// Visit has the server connect to a port of this host's public address, as a
// stranger would: from its other address, if it has one, or else from a port of
// its own that nobody here has sent to. It returns the public endpoint that was
// tried and the eight bytes that the connection has begun with. They were sent
// and somebody hung up on them: who, only the listener behind that port knows.
// ctx bounds it; without a deadline of its own it takes some seconds.
func Visit(ctx context.Context, cfg VisitConfig) (public netip.AddrPort, token [8]byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout+dialBackTimeout+handOver)
	defer cancel()
	local := netip.AddrPort{}
	if cfg.Local.IsValid() {
		local = netip.AddrPortFrom(cfg.Local, 0)
	}
	conn, err := cfg.Net.Dial(ctx, local, cfg.Server, 0)
	if err != nil {
		return netip.AddrPort{}, token, errors.Join(ErrNotTried, err)
	}
	defer sock.Abort(conn)
	a, err := exchange(ctx, conn, ask{})
	if err != nil {
		return netip.AddrPort{}, token, errors.Join(ErrNotTried, err)
	}
	public = netip.AddrPortFrom(a.mapped.Addr(), cfg.Port)
	here := ask{port: cfg.Port, from: uint16(minDialFrom + rand.N(1<<16-minDialFrom))}
	if a.other.IsValid() && a.other.Addr() != cfg.Server.Addr() {
		a, err = exchange(ctx, conn, ask{port: cfg.Port, change: changeIP})
	} else {
		a, err = exchange(ctx, conn, here)
	}
	if err == nil && a.dialled.outcome == failed { // as where another server has that address, and is gone
		a, err = exchange(ctx, conn, here)
	}
	if err != nil {
		return public, token, errors.Join(ErrNotTried, err)
	}
	switch d := a.dialled; d.outcome {
	case connected:
		return public, d.token, nil
	case untried, declined, failed:
		return public, token, ErrNotTried
	default:
		return public, token, fmt.Errorf("the server's SYN to %v: %v", public, d.outcome)
	}
}
