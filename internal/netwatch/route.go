package netwatch

import (
	"net"
	"net/netip"

	"github.com/gostunt/stunt/internal/sock"
)

// routeOfSocket finds the interface by which a destination is reached: that of
// the address which a UDP socket gets that is connected to it. Nothing is sent.
func routeOfSocket(n *sock.Net, to netip.Addr) Route {
	r := Route{To: to}
	err := n.Do(func() error {
		c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(to, 9))) // 9: discard
		if err != nil {
			return err
		}
		defer c.Close()
		from := c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap().WithZone("")
		r.Link = linkOf(from)
		return nil
	})
	if err != nil {
		return Route{To: to} // there is no way
	}
	return r
}

// linkOf returns the index of the interface that has an address; 0: none.
func linkOf(a netip.Addr) int {
	links, err := net.Interfaces()
	if err != nil {
		return 0
	}
	for _, l := range links {
		addrs, _ := l.Addrs() // of an interface that has just gone: none
		for _, has := range addrs {
			if p, err := netip.ParsePrefix(has.String()); err == nil && p.Addr().Unmap().WithZone("") == a {
				return l.Index
			}
		}
	}
	return 0
}
