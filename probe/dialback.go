package probe

import (
	"context"
	"crypto/rand"
	"net"
	"net/netip"
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
// the right address. It reports false if there is no other address.
func (s *Server) source(f flow, change byte) (netip.AddrPort, bool) {
	ip, port, both := s.others(f.local)
	switch change {
	case changePort:
		if port.IsValid() {
			return port, true
		}
		return netip.AddrPortFrom(f.local.Addr(), 0), true
	case changeIP:
		if ip.IsValid() {
			return ip, true
		}
		return netip.AddrPortFrom(both.Addr(), 0), both.IsValid()
	}
	if both.IsValid() {
		return both, true
	}
	return netip.AddrPortFrom(ip.Addr(), 0), ip.IsValid()
}

// dialBack connects from local to the asker, at the port of its own connection
// or at another, and returns how that went. It takes no longer than
// dialBackTimeout and handOver together, and is bounded in number for one
// source and for all.
func (s *Server) dialBack(ctx context.Context, f flow, local netip.AddrPort, port uint16) dialled {
	if !s.sources.allow(f.remote.Addr(), time.Now()) {
		return dialled{outcome: declined}
	}
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	default:
		return dialled{outcome: declined}
	}
	to := f.remote
	if port != 0 {
		to = netip.AddrPortFrom(to.Addr(), port)
	}
	var d dialled
	rand.Read(d.token[:])

	ctx, cancel := context.WithTimeout(ctx, dialBackTimeout)
	defer cancel()
	start := time.Now()
	conn, err := s.Net.Dial(ctx, local, to, 0)
	d.after = time.Since(start)
	if err == nil {
		err = deliver(conn, d.token)
	}
	d.outcome = outcomeOf(err)
	s.logger().Debug("dialled back", "remote", f.remote, "local", local, "outcome", d.outcome.String(), "err", err)
	return d
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
