package stunt

import (
	"context"
	"net/netip"

	"github.com/gostunt/stunt/rendezvous"
)

// What a node needs to know of its NAT before it dials takes three round trips
// to the server, as does a session. So both begin with the same SYN.

// others are where a server answers STUN besides the endpoint of its sessions,
// over IPv4 and IPv6, as its address says; an unspecified address is that of
// the endpoint. Invalid: it does not say.
type others struct{ v4, v6 netip.AddrPort }

// othersOf finds those of the server that is dialled at host:port.
func othersOf(servers []rendezvous.ServerAddr, hostPort string) others {
	for _, s := range servers {
		if s.HostPort() == hostPort {
			return others{s.Other, s.Other6}
		}
	}
	return others{}
}

// of returns the other endpoint for who goes to the server at that one.
func (o others) of(server netip.AddrPort) netip.AddrPort {
	other := o.v4
	if server.Addr().Is6() {
		other = o.v6
	}
	if other.Addr().IsUnspecified() {
		return netip.AddrPortFrom(server.Addr(), other.Port())
	}
	return other
}

// meet is called before a session's SYN leaves. The first time in a network the
// NAT is probed at once. The session's port is open then, so that its SYN is the
// first: a NAT that counts its ports would show it between those of the probe.
func (n *Node) meet(ctx context.Context, server, server6 netip.AddrPort, other others) {
	if _, err := n.ports.sessionPort(ctx); err != nil {
		return // as it will be for the session
	}
	n.mu.Lock()
	first := !n.st.probedBy.IsValid() && !n.st.probing
	if first {
		n.aim(server, server6, other)
	}
	n.mu.Unlock()
	if first {
		n.wg.Go(n.probe)
	}
}

// met is called when a server has answered the session's SYN. The first one in a
// network has the NAT probed, if nothing came of the probe that began before.
func (n *Node) met(server, server6 netip.AddrPort, other others) {
	n.mu.Lock()
	first := !n.st.answered && !n.st.probing && n.st.report == nil
	n.st.answered = true
	if first {
		n.aim(server, server6, other)
	}
	n.mu.Unlock()
	if first {
		n.wg.Go(n.probe)
	}
}

// aim says what the next probe is made with; its caller holds n.mu, and begins it.
func (n *Node) aim(server, server6 netip.AddrPort, other others) {
	n.st.server, n.st.server6, n.st.other = server, server6, other
	n.st.probing, n.st.probedBy = true, server
}
