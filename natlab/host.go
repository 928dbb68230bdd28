package natlab

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
)

// hostTUN is the only device of a host but lo, as its own processes see it.
const hostTUN = "tun0"

// Host is a machine with a TCP stack of its own: a network namespace with a
// loopback device and one link. Its methods may be used concurrently.
type Host struct {
	lab  *Lab
	name string
	ns   *namespace
	tun  *os.File
	spot atomic.Pointer[spot]

	mu sync.Mutex   // guards following
	v4 []netip.Addr // the first, and those of AddAddr
	v6 netip.Addr
}

// spot is where a host is attached.
type spot struct {
	at   *network
	wire *wire
}

// Host makes a host attached at a place, nil being the Internet. Its default
// route leads to the link, and behind a NAT names that as the gateway.
func (l *Lab) Host(name string, at Place, link Link) *Host {
	h := &Host{lab: l, name: name}
	s := h.settle(l.place(name, at), link)
	h.ns = l.namespace(name)
	h.tun = l.open(name, h.ns, tunConfig{name: hostTUN, mtu: link.mtu(), addrs: h.prefixes(s.at), gateway: true, via: s.at.via()}, h.send)
	h.attach(s)
	l.log.Debug("host", "name", name, "at", s.at.String(), "addr", h.v4[0], "addr6", h.v6)
	return h
}

// settle gives the host a link at a network and addresses of it.
func (h *Host) settle(at *network, link Link) *spot {
	s := &spot{at: at, wire: h.lab.newWire(h.name, link, h.receive, at.fromBelow)}
	v4, number := at.address(false)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.v4, h.v6 = []netip.Addr{v4}, netip.Addr{}
	if at.has6 && !link.NoIPv6 {
		b := at.prefix6.Addr().As16()
		b[14], b[15] = byte(number>>8), byte(number)
		h.v6 = netip.AddrFrom16(b)
	}
	h.spot.Store(s)
	return s
}

// prefixes are the host's addresses as they stand on its device.
func (h *Host) prefixes(at *network) (ps []netip.Prefix) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, a := range h.v4 {
		ps = append(ps, at.prefix(a))
	}
	if h.v6.IsValid() {
		ps = append(ps, at.prefix(h.v6))
	}
	return ps
}

// attach has packets for the host come to it.
func (h *Host) attach(s *spot) {
	for _, p := range h.prefixes(s.at) {
		s.at.attach(p.Addr(), s.wire)
	}
}

// send takes what the host's kernel sends.
func (h *Host) send(p *packet) {
	h.lab.trace.record(h.name, "send", p.b)
	h.spot.Load().wire.up.send(p)
}

// receive gives the host's kernel a packet.
func (h *Host) receive(p *packet) {
	h.lab.trace.record(h.name, "receive", p.b)
	h.tun.Write(p.b) // an error is a packet lost: the device is full or gone
	p.free()
}

// Name returns the name that the host was made with.
func (h *Host) Name() string { return h.name }

// Addr returns the host's first IPv4 address.
func (h *Host) Addr() netip.Addr {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.v4[0]
}

// Addr6 returns the host's IPv6 address, invalid where it has none.
func (h *Host) Addr6() netip.Addr {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.v6
}

// AddrPort returns the host's first IPv4 address with a port.
func (h *Host) AddrPort(port uint16) netip.AddrPort { return netip.AddrPortFrom(h.Addr(), port) }

// AddAddr gives the host one more IPv4 address.
func (h *Host) AddAddr() netip.Addr {
	s := h.spot.Load()
	a, _ := s.at.address(false)
	if err := h.ns.addAddr(hostTUN, s.at.prefix(a)); err != nil {
		panic(fmt.Sprintf("natlab: an address for %s: %v", h.name, err))
	}
	s.at.attach(a, s.wire)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.v4 = append(h.v4, a)
	return a
}

// SetLink changes the host's link while packets are on it. MTU and NoIPv6 of
// the host itself stay what they were.
func (h *Host) SetLink(link Link) { h.spot.Load().wire.set(h.lab, link) }

// Move takes the host to another place, nil being the Internet, or gives it
// other addresses where it is. As when a laptop changes networks, the old
// addresses and routes go first. Sockets are left as they are, and what is on
// its way to the old addresses is lost. The MTU stays.
func (h *Host) Move(to Place, link Link) {
	at := h.lab.internet
	if to != nil {
		at = to.network()
	}
	old := h.spot.Load()
	gone := h.prefixes(old.at)
	for _, p := range gone {
		old.at.detach(p.Addr())
	}
	s := h.settle(at, link)
	if err := h.ns.renumber(hostTUN, gone, h.prefixes(at), at.via()); err != nil {
		panic(fmt.Sprintf("natlab: moving %s: %v", h.name, err))
	}
	h.attach(s)
	h.lab.log.Debug("moved", "name", h.name, "at", at.String(), "addr", h.Addr(), "addr6", h.Addr6())
}

// SetGateway makes the IPv4 default route name another router. The lab carries packets all the same.
func (h *Host) SetGateway(router netip.Addr) {
	if err := h.ns.setGateway(hostTUN, router); err != nil {
		panic(fmt.Sprintf("natlab: the gateway of %s: %v", h.name, err))
	}
}

// Do runs open on the calling goroutine with its thread in the host's
// namespace and returns its error. Sockets that open makes belong to the host
// for good and may be used from anywhere; goroutines that it starts are not in
// the namespace. open may block, and many may run at once, each on a thread
// of its own. Do does not nest.
func (h *Host) Do(open func() error) error { return h.ns.do(open) }

// Listen is net.Listen on the host, without Multipath TCP.
func (h *Host) Listen(ctx context.Context, network, address string) (ln net.Listener, err error) {
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	err = h.Do(func() (err error) {
		ln, err = lc.Listen(ctx, network, address)
		return err
	})
	return ln, err
}

// Dial is net.Dial on the host, bounded by ctx. The address is a literal one.
func (h *Host) Dial(ctx context.Context, network, address string) (c net.Conn, err error) {
	d := net.Dialer{FallbackDelay: -1} // one attempt, on this goroutine's thread
	err = h.Do(func() (err error) {
		c, err = d.DialContext(ctx, network, address)
		return err
	})
	return c, err
}

// Veth joins two hosts by a direct link of the kernel, beside the lab and much
// faster, for measuring throughput. It returns their addresses on it.
func (l *Lab) Veth(a, b *Host) (netip.Addr, netip.Addr, error) {
	i := l.next(&l.used.veths)
	base := netip.AddrFrom4([4]byte{172, 16, byte(i >> 6), byte(i << 2)}) // a /30 each
	addrA, addrB := addr4(base, 1), addr4(base, 2)
	name := fmt.Sprintf("veth%d", i)
	err := a.ns.veth(name, b.ns, netip.PrefixFrom(addrA, 30), netip.PrefixFrom(addrB, 30))
	if err != nil {
		return netip.Addr{}, netip.Addr{}, fmt.Errorf("natlab: a link between %s and %s: %w", a.name, b.name, err)
	}
	return addrA, addrB, nil
}
