package sock

import (
	"net"
	"net/netip"
)

// DialUDP returns a socket that sends to remote and hears from nobody else,
// but ICMP errors about what it sent. An invalid local address leaves the
// choice to the kernel.
func (n *Net) DialUDP(local netip.Addr, remote netip.AddrPort) (c *net.UDPConn, err error) {
	var from *net.UDPAddr
	if local.IsValid() {
		from = net.UDPAddrFromAddrPort(netip.AddrPortFrom(local, 0))
	}
	err = n.Do(func() (err error) {
		c, err = net.DialUDP("udp", from, net.UDPAddrFromAddrPort(remote))
		return err
	})
	return c, err
}

// ListenUDP returns a socket that hears from everybody, at a port of the
// kernel's choice for IPv4.
func (n *Net) ListenUDP() (c *net.UDPConn, err error) {
	err = n.Do(func() (err error) {
		c, err = net.ListenUDP("udp4", nil)
		return err
	})
	return c, err
}

// Source returns the address that the system gives to what it sends to a host,
// invalid where there is no way to it. Nothing is sent.
func (n *Net) Source(to netip.Addr) netip.Addr {
	if !to.IsValid() {
		return netip.Addr{}
	}
	c, err := n.DialUDP(netip.Addr{}, netip.AddrPortFrom(to, 9)) // any port will do
	if err != nil {
		return netip.Addr{}
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap().WithZone("")
}
