package stuntd

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/gostunt/stunt/internal/sock"
	"github.com/gostunt/stunt/probe"
	"github.com/gostunt/stunt/rendezvous"
)

// lend has the servers of the cluster lend each other what they listen on, so
// that the nodes of one that has a single address can learn as much about their
// NATs as those of one that has two. It comes before join; ctx ends what is done
// for the others.
func (s *Server) lend(ctx context.Context, pub public, network *sock.Net) error {
	own, err := network.Prefixes()
	if err != nil {
		return err
	}
	if s.meet.Lends = pub.lends(s.Addrs(), own); s.meet.Lends == nil {
		return nil
	}
	s.log.Debug("lending", "local", fmt.Sprint(s.meet.Lends))
	s.meet.DoErrand = func(order []byte, answer func([]byte)) {
		s.mux.wg.Go(func() { answer(s.stun.Lend(ctx, order)) }) // for as long as a dial back
	}
	s.stun.Lenders = func() (all []probe.Lender) {
		for _, l := range s.meet.Lenders() {
			all = append(all, probe.Lender{Endpoints: l.Endpoints, Ask: func(ctx context.Context, order []byte) ([]byte, error) {
				return s.meet.Errand(ctx, l.Name, order)
			}})
		}
		return all
	}
	return nil
}

// lends returns where nodes reach what we listen on, as far as that can be
// known; none where it is at another port, as that of a proxy. Of the addresses
// of a listener on all there is one of each family, the one that nodes are told of.
func (p public) lends(listen []netip.AddrPort, own []netip.Prefix) (at []netip.AddrPort) {
	if p.port != "" && !slices.ContainsFunc(listen, func(l netip.AddrPort) bool { return fmt.Sprint(l.Port()) == p.port }) {
		return nil
	}
	for _, l := range listen {
		var ins []netip.Addr
		switch in := l.Addr().Unmap(); in {
		case netip.IPv6Unspecified(): // for both
			ins = []netip.Addr{p.best(own, netip.Addr.Is4), p.best(own, netip.Addr.Is6)}
		case netip.IPv4Unspecified():
			ins = []netip.Addr{p.best(own, netip.Addr.Is4)}
		default:
			ins = []netip.Addr{in}
		}
		for _, in := range ins {
			if out, ok := p.outside[in]; ok {
				in = out
			}
			if in.IsValid() && !in.IsLinkLocalUnicast() && len(at) < rendezvous.MaxLends {
				at = append(at, netip.AddrPortFrom(in, l.Port()))
			}
		}
	}
	return at
}

// best returns the address of ours, of one family, that is good for most
// clients: the one that was said to be public, if it is ours. Invalid: there is none.
func (p public) best(own []netip.Prefix, family func(netip.Addr) bool) (best netip.Addr) {
	said, _ := netip.ParseAddr(p.host) // or is a name
	for _, o := range own {
		switch a := o.Addr(); {
		case !family(a):
		case a == said:
			return a
		case !best.IsValid(), rank(a) > rank(best):
			best = a
		}
	}
	return best
}
