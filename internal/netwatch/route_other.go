//go:build !linux

package netwatch

import (
	"net/netip"

	"github.com/gostunt/stunt/internal/sock"
)

func route(n *sock.Net, to netip.Addr) Route { return routeOfSocket(n, to) }
