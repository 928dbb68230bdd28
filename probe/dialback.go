package probe

import (
	"context"
	"crypto/rand"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/gostunt/stunt/internal/sock"
)

const (
	// A SYN is repeated after 1 s, so three give a lost packet a second
	// chance, and a NAT that answers an unsolicited SYN late, as RFC 5382
	// REQ-4 asks, is as silent as punching needs.
	dialBackTimeout = 3 * time.Second

	// How long the asker may take to read the token and hang up.
	handOver = 2 * time.Second
)

// source is where a dial back leaves from: exactly the endpoint that RFC 5780
// would have the answer come from, if the server listens there, or any port of
// the right address, or the port that was asked for. It reports false if there
// is no other address.
func (s *Server) source(f flow, a ask) (o origin, ok bool) {
	anyPort := func(a, b netip.AddrPort) netip.AddrPort {
		if a.IsValid() {
			return a
		}
		return netip.AddrPortFrom(b.Addr(), 0)
	}
	r := f.around
	switch a.change {
	case 0:
		o.at = f.local
	case changePort:
		o.at = anyPort(r.port, f.local)
	case changeIP:
		o = origin{anyPort(r.ip, r.both), r.lender}
	default:
		o = origin{anyPort(r.both, r.ip), r.lender}
	}
	switch {
	case a.from != 0:
		o.at = netip.AddrPortFrom(o.at.Addr(), a.from)
	case o.lender != nil && !slices.Contains(o.lender.Endpoints, o.at):
		o.at = netip.AddrPortFrom(o.at.Addr(), 0)
	}
	return o, o.at.Addr().IsValid()
}

// dialBack connects to the asker, at the port of its own connection or at
// another, and returns how that went; a lender may do it for us. It takes no
// longer than dialBackTimeout and handOver together, and is bounded in number
// for one source and for all.
func (s *Server) dialBack(ctx context.Context, f flow, from origin, a ask) dialled {
	to := f.remote
	if a.port != 0 {
		to = netip.AddrPortFrom(to.Addr(), a.port)
	}
	patience := dialBackTimeout
	if a.patience != 0 {
		patience = min(patience, a.patience)
	}
	counts := &s.counts.dialBacks
	dial := func() dialled { return s.reach(ctx, from.at, to, patience) }
	if from.lender != nil {
		counts = &s.counts.borrowed
		dial = func() dialled { return s.borrowed(ctx, from.lender, order{patience, from.at, to}) }
	}
	d := s.within(to.Addr(), dial)
	counts[d.outcome].Add(1)
	return d
}

// within dials, unless that is too much for the source to or for all.
func (s *Server) within(to netip.Addr, dial func() dialled) dialled {
	if !s.sources.allow(to, time.Now()) {
		s.counts.metDialRate.Add(1)
		return dialled{outcome: declined}
	}
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	default:
		s.counts.metDialBacks.Add(1)
		return dialled{outcome: declined}
	}
	return dial()
}

// reach connects from one of our own endpoints and returns how that went.
func (s *Server) reach(ctx context.Context, local, to netip.AddrPort, patience time.Duration) (d dialled) {
	rand.Read(d.token[:])
	start := time.Now() // before the deadline, so that silence is never told to have been shorter
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := s.connect(ctx, local, to)
	d.after = time.Since(start)
	if err == nil {
		err = deliver(conn, d.token)
	}
	d.outcome = outcomeOf(err)
	s.logger().Debug("dialled back", "remote", to, "local", local, "outcome", d.outcome.String(), "err", err)
	return d
}

// connect is sock.Net.Dial with ICMP errors told apart from RSTs.
func (s *Server) connect(ctx context.Context, local, to netip.AddrPort) (*net.TCPConn, error) {
	p, err := s.Net.Begin(local, to, sock.Opening{Explains: true})
	if err != nil {
		return nil, err
	}
	return p.Wait(ctx)
}

// deliver sends the token and waits until the other end hangs up: only then
// has it been seen, and the answer that follows on the asking connection does
// not overtake it.
func deliver(conn *net.TCPConn, t token) error {
	defer sock.Abort(conn)
	conn.SetDeadline(time.Now().Add(handOver))
	if _, err := conn.Write(t[:]); err != nil {
		return err
	}
	conn.Read(make([]byte, 1)) // the end, or the deadline: either will do
	return nil
}
