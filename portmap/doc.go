// Package portmap asks the router in front of this host for a public port, and
// keeps it: by PCP (RFC 6887), NAT-PMP (RFC 6886) and UPnP (Internet Gateway
// Device 1 and 2), for TCP.
//
//	m, err := portmap.Map(ctx, portmap.Config{}, netip.MustParseAddrPort("0.0.0.0:40000"))
//	defer m.Close()
//	m.External() // what the router says
//
// [Map] asks by all three at once, and uses the first that answers and then
// gives a port; where nobody answers it takes some 2.5 s. First it only asks
// who is there, so that no router is left with mappings that nobody wants. The
// [Mapping] is renewed after half its lifetime, found anew if the router has
// forgotten it or become another, and removed by Close.
//
// For IPv4 the local address is unspecified, for IPv6 that of the host: there
// nothing is translated, and what PCP opens is a hole in the router's firewall.
// UPnP's way of doing that is not used.
//
// # A router is not trusted
//
// The gateway is that of the kernel's default route. Only its own address is
// heard, and only where the system does not tell it are routers of the networks
// that this host is in. A datagram counts if it answers what was asked, with
// our nonce where the protocol has one; everything else is passed over, and so
// cannot end the wait for the right one. A device's description is fetched from
// the address that it answered from, and nowhere else, whatever it refers to:
// redirects, names and other hosts are errors. Bytes, answers, tries and time
// are bounded. A lease that is absurd (a port below 1024, an address that no
// host has, a life of seconds) is given back.
//
// What is left is that the router may say what it likes of a port that leads
// nowhere. [Mapping.External] is its word only: whoever uses it has somebody on
// the Internet try it first, as package stunt does.
//
// The lease that is asked for is ten minutes, not the two hours that RFC 6886
// recommends. Routers that know only permanent mappings get one; it stays if
// the process is killed.
package portmap
