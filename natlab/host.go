package natlab

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
)

// hostTUN is the only device of a host but lo, as its own processes see it.
const hostTUN = "tun0"

// Host is a machine with a TCP stack of its own: a network namespace with a
// loopback device and one link. Its methods may be used concurrently.
type Host struct {
	lab  *Lab
	name string
	at   *network
	wire *wire
	ns   *namespace
	tun  *os.File
	v6   netip.Addr

	mu sync.Mutex   // guards following
	v4 []netip.Addr // the first, and those of AddAddr
}

// Host makes a host attached at a place, nil being the Internet. Its default
// route leads to the link.
func (l *Lab) Host(name string, at Place, link Link) *Host {
	h := &Host{lab: l, name: name, at: l.place(name, at)}
	h.wire = l.newWire(name, link, h.receive, h.at.fromBelow)
	v4, number := h.at.address(false)
	h.v4 = []netip.Addr{v4}
	addrs := []netip.Prefix{h.prefix(v4)}
	if h.at.has6 && !link.NoIPv6 {
		b := h.at.prefix6.Addr().As16()
		b[14], b[15] = byte(number>>8), byte(number)
		h.v6 = netip.AddrFrom16(b)
		addrs = append(addrs, h.prefix(h.v6))
	}
	h.ns = l.namespace(name)
	h.tun = l.open(name, h.ns, tunConfig{name: hostTUN, mtu: link.mtu(), addrs: addrs, gateway: true}, h.send)
	for _, a := range addrs {
		h.at.attach(a.Addr(), h.wire)
	}
	l.log.Debug("host", "name", name, "at", h.at.String(), "addr", v4, "addr6", h.v6)
	return h
}

// prefix is an address as it stands on the host's device: a public one alone,
// a private one in its network.
func (h *Host) prefix(a netip.Addr) netip.Prefix {
	bits := a.BitLen()
	if h.at.parent != nil {
		bits = h.at.prefix4.Bits()
		if a.Is6() {
			bits = h.at.prefix6.Bits()
		}
	}
	return netip.PrefixFrom(a, bits)
}

// send takes what the host's kernel sends.
func (h *Host) send(p *packet) {
	h.lab.trace.record(h.name, "send", p.b)
	h.wire.up.send(p)
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
func (h *Host) Addr6() netip.Addr { return h.v6 }

// AddrPort returns the host's first IPv4 address with a port.
func (h *Host) AddrPort(port uint16) netip.AddrPort { return netip.AddrPortFrom(h.Addr(), port) }

// AddAddr gives the host one more IPv4 address.
func (h *Host) AddAddr() netip.Addr {
	a, _ := h.at.address(false)
	if err := h.ns.addAddr(hostTUN, h.prefix(a)); err != nil {
		panic(fmt.Sprintf("natlab: an address for %s: %v", h.name, err))
	}
	h.at.attach(a, h.wire)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.v4 = append(h.v4, a)
	return a
}

// SetLink changes the host's link while packets are on it. MTU and NoIPv6 of
// the host itself stay what they were.
func (h *Host) SetLink(link Link) { h.wire.set(h.lab, link) }

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
