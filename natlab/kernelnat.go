package natlab

import (
	"fmt"
	"net/netip"
	"os"
)

// The devices of a router in a namespace.
const (
	outsideTUN = "wan0"
	insideTUN  = "lan0"
)

// MappingTable is the table of nftables' family inet that a program on a
// [KernelNAT] may fill with port mappings. It has the chains that miniupnpd
// wants, under the names that are its default, where its rules have an effect:
// miniupnpd, prerouting_miniupnpd and postrouting_miniupnpd.
const MappingTable = "stunt"

// KernelNAT is a router that is none of ours: a namespace in which the kernel
// forwards, masquerades IPv4 (nftables) and, as home routers do, drops what is
// new from the outside or invalid, in both families. The simulated NATs are
// held against it. Its inside is a [Place].
type KernelNAT struct {
	lab    *Lab
	name   string
	wire   *wire
	inside *network
	ns     *namespace
	public netip.Addr
	wan    *os.File
	lan    *os.File
}

// KernelNAT makes a router of the kernel attached at a place, nil being the
// Internet.
func (l *Lab) KernelNAT(name string, at Place, m Masquerade, link Link) *KernelNAT {
	outer := l.place(name, at)
	k := &KernelNAT{lab: l, name: name}
	k.wire = l.newWire(name, link, k.fromOutside, outer.fromBelow)
	k.inside = outer.inner(name, k.wire, k.fromInside)
	k.public, _ = outer.address(true)

	inner := k.inside.router()
	outside := []netip.Prefix{netip.PrefixFrom(k.public, 32)}
	inside := []netip.Prefix{netip.PrefixFrom(inner.v4, k.inside.prefix4.Bits())}
	if k.inside.has6 {
		// The outside shares the router's IPv6 address, and needs one for the
		// default route to be made.
		inside = append(inside, netip.PrefixFrom(inner.v6, k.inside.prefix6.Bits()))
		outside = append(outside, netip.PrefixFrom(inner.v6, 128))
	}
	ns := l.namespace(name)
	k.ns = ns
	if err := ns.masquerade(m); err != nil {
		panic(fmt.Sprintf("natlab: %s: %v", name, err))
	}
	k.wan = l.open(name, ns, tunConfig{name: outsideTUN, mtu: link.mtu(), addrs: outside, gateway: true}, k.send)
	k.lan = l.open(name, ns, tunConfig{name: insideTUN, mtu: Link{}.mtu(), addrs: inside}, k.receive)
	outer.attach(k.public, k.wire)
	l.ages(k)
	l.log.Debug("kernel NAT", "name", name, "at", outer.String(), "public", k.public, "inside", k.inside.String(), "ports", m.String())
	return k
}

func (k *KernelNAT) network() *network { return k.inside }

// Name returns the name that the router was made with.
func (k *KernelNAT) Name() string { return k.name }

// Public returns the router's address on its outside.
func (k *KernelNAT) Public() []netip.Addr { return []netip.Addr{k.public} }

// Inside returns the router's addresses on its inside, which are the gateway of
// the hosts there.
func (k *KernelNAT) Inside() []netip.Addr {
	inner := k.inside.router()
	if !k.inside.has6 {
		return []netip.Addr{inner.v4}
	}
	return []netip.Addr{inner.v4, inner.v6}
}

// Command returns a command that is not yet started. The process runs on the
// router, whose devices are wan0 and lan0, and may map ports: see [MappingTable].
func (k *KernelNAT) Command(path string, args ...string) *Cmd {
	return k.lab.command(k.ns, path, args)
}

// Do is [Host.Do] on the router.
func (k *KernelNAT) Do(open func() error) error { return k.ns.do(open) }

// Age is [NAT.Age] for the kernel's connection tracking.
func (k *KernelNAT) Age() error { return k.ns.age() }

// SetLink changes the router's link while packets are on it.
func (k *KernelNAT) SetLink(link Link) { k.wire.set(k.lab, link) }

func (k *KernelNAT) fromInside(p *packet) {
	k.lan.Write(p.b)
	p.free()
}

func (k *KernelNAT) fromOutside(p *packet) {
	k.wan.Write(p.b)
	p.free()
}

// send takes what the router's kernel sends to the outside.
func (k *KernelNAT) send(p *packet) {
	k.lab.trace.record(k.name, "out", p.b)
	k.wire.up.send(p)
}

// receive takes what the router's kernel sends to the inside.
func (k *KernelNAT) receive(p *packet) {
	k.lab.trace.record(k.name, "in", p.b)
	k.inside.fromGateway(p)
}
