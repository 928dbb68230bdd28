//go:build !linux

package sock

import "net/netip"

// Gateway returns the router of the IPv4 default route, invalid where there is
// none or the system does not tell: only Linux does.
func (n *Net) Gateway() netip.Addr { return netip.Addr{} }

// Gateway6 is Gateway for IPv6.
func (n *Net) Gateway6() netip.Addr { return netip.Addr{} }
