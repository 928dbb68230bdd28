package portmap

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/gostunt/stunt/internal/sock"
)

// Protocol is how a gateway was asked.
type Protocol uint8

const (
	Unknown Protocol = iota
	PCP              // RFC 6887
	NATPMP           // RFC 6886
	UPnP             // Internet Gateway Device, versions 1 and 2
)

var protocolNames = [...]string{"unknown", "pcp", "nat-pmp", "upnp"}

// String returns the protocol in lower case.
func (p Protocol) String() string {
	if int(p) < len(protocolNames) {
		return protocolNames[p]
	}
	return protocolNames[Unknown]
}

// Config says whom to ask and for how long. The zero value asks the gateway of
// the default route.
type Config struct {
	// Net opens the sockets. Nil is the process's own network.
	Net *sock.Net

	// Gateway is the router to ask. Invalid: that of the default route. Where
	// the system does not tell that one, a router is searched for by UPnP
	// alone, among the hosts of the networks that this host is in.
	Gateway netip.Addr

	// Lifetime is how long a mapping lasts that is not renewed, which it is
	// after half of that. Zero: 10 minutes. In full seconds.
	Lifetime time.Duration

	// Logger gets a line per protocol that did not do, and per change, at
	// Debug. Nil is silent.
	Logger *slog.Logger
}

const (
	// defaultLifetime is less than the two hours that RFC 6886 section 3.3
	// recommends: it is how long a port stays open that a killed process had
	// mapped, and twice as long as a gateway that restarted unseen goes unnoticed.
	defaultLifetime = 10 * time.Minute

	// askTimeout bounds one round of asking: the search for UPnP devices takes
	// two seconds where none answers, their XML some exchanges.
	askTimeout = 6 * time.Second

	// removeTimeout bounds the farewell. A gateway that was there a moment ago
	// answers at once or has gone.
	removeTimeout = time.Second

	// leastShare is the part of the asked lifetime that a lease must have:
	// a shorter one would be traffic rather than a mapping.
	leastShare = 10
)

func (c *Config) lifetime() time.Duration {
	if c.Lifetime <= 0 {
		return defaultLifetime
	}
	return c.Lifetime
}

// wish is a mapping that is asked for.
type wish struct {
	internal uint16
	external netip.AddrPort // that we would like; zero: any
	lifetime time.Duration
}

// lease is a mapping that a gateway says it has made.
type lease struct {
	external  netip.AddrPort
	lifetime  time.Duration
	restarted bool // the gateway has lost what it had before
}

// asker speaks one protocol with one gateway. It is used by one goroutine at a
// time.
type asker interface {
	protocol() Protocol
	find(ctx context.Context) error // reports whether somebody speaks it; changes nothing
	add(ctx context.Context, w wish) (lease, error)
	remove(ctx context.Context, w wish) error
}

// askers are all protocols that may do for a local endpoint.
func (c *Config) askers(internal, gateway netip.Addr) []asker {
	if internal.Is6() {
		if !gateway.IsValid() {
			return nil
		}
		return []asker{newPCP(c.Net, gateway, internal)}
	}
	all := []asker{&igd{net: c.Net, gateway: gateway}}
	if gateway.IsValid() {
		all = append(all, newPCP(c.Net, gateway, netip.Addr{}), &pmp{net: c.Net, gateway: gateway})
	}
	return all
}

// gateway is whom to ask for a local endpoint.
func (c *Config) gateway(internal netip.Addr) netip.Addr {
	switch {
	case c.Gateway.IsValid():
		return c.Gateway
	case internal.Is6():
		return c.Net.Gateway6()
	}
	return c.Net.Gateway()
}

// ErrNone is in the error of [Map] when no gateway spoke any of the protocols.
var ErrNone = errors.New("no gateway maps ports")

// Map asks for a public port that leads to a local one, and keeps it until
// Close. The local address is 0.0.0.0 for IPv4, and for IPv6 the one that shall
// be reached, as there nothing is translated. All protocols are tried at once,
// and the first whose gateway answers, and then does it, is used.
//
// ctx bounds the asking only; without a deadline of its own that takes up to 6
// s. The error has what became of each protocol.
func Map(ctx context.Context, cfg Config, local netip.AddrPort) (*Mapping, error) {
	if local.Port() == 0 || !local.Addr().Is4() && !local.Addr().IsGlobalUnicast() {
		return nil, fmt.Errorf("portmap: no mapping for %v", local)
	}
	return newMapping(cfg, local).start(ctx)
}
