package probe

import (
	"context"
	"net/netip"
	"slices"

	"golang.org/x/time/rate"

	"github.com/gostunt/stunt/internal/sock"
)

// A Lender is another server, at an address that this one does not have: it
// answers STUN there, and dials back from there for our clients.
type Lender struct {
	// Endpoints are all at which it answers, as clients know them.
	Endpoints []netip.AddrPort

	// Ask has the other server's [Server.Lend] do an order, and returns its
	// answer. The error says that there is none in the time that ctx has.
	Ask func(ctx context.Context, order []byte) (answer []byte, err error)
}

// around is where a server is besides one of its endpoints. What there is not
// is invalid.
type around struct {
	ip, port, both netip.AddrPort // with another address, another port, and both
	lender         *Lender        // has ip and both, as clients know them; nil: they are ours, as our sockets have them
}

// around returns what there is besides an endpoint: of our own, and where we
// have no second address that a client could be told of, of a lender.
func (s *Server) around(local netip.AddrPort) (r around) {
	r.ip, r.port, r.both = s.others(local)
	if !r.ip.IsValid() && s.Lenders != nil {
		r.borrow(s.Lenders(), s.public(local))
	}
	return r
}

// borrow takes the address of the first lender that has all that a client
// could be sent to from here, or else of the first that has something. The
// client derives two endpoints from OTHER-ADDRESS, of which the lender has to
// have the one with its address and our port.
func (r *around) borrow(from []Lender, here netip.AddrPort) {
	for _, l := range from {
		for _, e := range l.Endpoints {
			if e.Port() != here.Port() || e.Addr() == here.Addr() || !alike(e.Addr(), here.Addr()) {
				continue
			}
			var both netip.AddrPort
			if r.port.IsValid() {
				both = netip.AddrPortFrom(e.Addr(), r.port.Port())
			}
			whole := !both.IsValid() || slices.Contains(l.Endpoints, both)
			if whole || r.lender == nil {
				r.ip, r.both, r.lender = e, both, &l
			}
			if whole {
				return
			}
		}
	}
}

// origin is where a dial back leaves from.
type origin struct {
	at     netip.AddrPort
	lender *Lender // has at, as clients know it; nil: it is ours, as our sockets have it
}

// borrowed has a lender dial back. It takes no longer than a dial back of our
// own.
func (s *Server) borrowed(ctx context.Context, l *Lender, o order) dialled {
	ctx, cancel := context.WithTimeout(ctx, o.patience+handOver)
	defer cancel()
	var d dialled
	b, err := l.Ask(ctx, o.encode())
	if err == nil {
		err = d.decode(b)
	}
	if err != nil {
		d = dialled{outcome: failed}
	}
	s.logger().Debug("dialled back by another", "remote", o.to, "local", o.from, "outcome", d.outcome.String(), "err", err)
	return d
}

// lending bounds what is done for the clients of other servers. Whoever may
// ask for it is trusted with their addresses, and no further.
type lending struct {
	slots chan struct{} // capacity: half of DialBacks
	rate  *rate.Limiter // of a node's dial backs few take a second, so as many a second as may be under way at once
}

func newLending(dialBacks int) lending {
	n := dialBacks / 2
	return lending{make(chan struct{}, n), rate.NewLimiter(rate.Limit(n), n)}
}

// Lend does what another server was asked for by a client of its own, and
// passes on to us with [Lender].Ask: it dials back to that client from one of
// our endpoints. It returns what to answer, and takes no longer than a dial back;
// ctx ends it.
//
// What we can't know is whether the client has asked. So it goes only where a
// client of ours could be: not to a private address if ours is public, nor to
// ourselves, nor to a port below 1024, and it counts for the address that it
// goes to as if that had asked us.
func (s *Server) Lend(ctx context.Context, b []byte) []byte {
	s.once.Do(s.init)
	d := dialled{outcome: declined}
	var o order
	if err := o.decode(b); err != nil {
		s.logger().Debug("not dialled back for another", "err", err)
		return d.encode()
	}
	select {
	case s.lending.slots <- struct{}{}:
		defer func() { <-s.lending.slots }()
	default:
		s.counts.metLent.Add(1)
		return d.encode()
	}
	if !s.lending.rate.Allow() {
		s.counts.metLent.Add(1)
		return d.encode()
	}
	local, ok := s.lends(o)
	if !ok {
		s.logger().Debug("not dialled back for another", "remote", o.to, "local", o.from)
		return d.encode()
	}
	d = s.within(o.to.Addr(), func() dialled { return s.reach(ctx, local, o.to, o.patience) })
	s.counts.dialBacks[d.outcome].Add(1)
	return d.encode()
}

// lends returns where an order's dial back leaves from: from where it says, if
// that is one of our endpoints, or another port of its address that no service
// has. It reports false if that is not ours, or nobody is to be dialled there.
func (s *Server) lends(o order) (local netip.AddrPort, ok bool) {
	prefixes, err := s.Net.Prefixes()
	if err != nil {
		return local, false
	}
	ours := func(a netip.Addr) bool {
		return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Addr() == a })
	}
	from, to := o.from.Addr(), o.to.Addr()
	if !alike(to, from) || shared.Contains(to) && !shared.Contains(from) || to == from || ours(to) || s.shown(to) {
		return local, false
	}
	for _, a := range s.Alternates {
		in := a.Addr().Unmap()
		switch {
		case !in.IsUnspecified():
			ok = s.public(netip.AddrPortFrom(in, 0)).Addr() == from
		case ours(from):
			in, ok = from, true
		default: // a NAT shows it for an address of ours, which the system knows best
			in, ok = sock.Unspecified(from, 0).Addr(), s.shown(from)
		}
		if p := o.from.Port(); ok && (p == 0 || p == a.Port() || p >= minDialFrom) {
			return netip.AddrPortFrom(in, p), true
		}
	}
	return local, false
}

// shown reports whether clients know an address of ours by that name.
func (s *Server) shown(a netip.Addr) bool {
	for _, out := range s.Public {
		if out == a {
			return true
		}
	}
	return false
}
