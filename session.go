package stunt

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/gostunt/stunt/internal/netwatch"
	"github.com/gostunt/stunt/internal/punch"
	"github.com/gostunt/stunt/internal/sock"
	"github.com/gostunt/stunt/probe"
	"github.com/gostunt/stunt/rendezvous"
)

// deregisterTimeout bounds the farewell to a server that may be gone.
const deregisterTimeout = time.Second

var errPortTaken = errors.New("another listener of this node has that port")

// serverConn is the connection of a session.
type serverConn struct {
	*net.TCPConn
	server6 netip.AddrPort   // where the same server is over IPv6, if it has such an address
	other   others           // where else it answers STUN, by its address
	rtt     time.Duration    // how long the connect took
	routes  []netwatch.Route // to both, just before
}

// dialServer opens the connection of a session, from the port that the node
// punches from, so that the server sees the public end of exactly that port.
// While a session stands it is also asked for another one, with a server that is preferred.
func (n *Node) dialServer(ctx context.Context, address string, other others) (net.Conn, error) {
	addrs, err := resolve(ctx, address)
	if err != nil {
		return nil, err
	}
	server6 := firstIPv6(addrs)
	var errs []error
	for _, server := range addrs {
		to := []netip.Addr{server.Addr()}
		if server6.IsValid() && server6 != server {
			to = append(to, server6.Addr())
		}
		before, _ := netwatch.Look(n.ports.net, to...)
		n.meet(ctx, server, server6, other)
		c, rtt, err := n.dialFromSession(ctx, server)
		if err == nil {
			n.met(server, server6, other)
			return &serverConn{c, server6, other, rtt, before.Routes}, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// dialFromSession returns also how long the connect took.
func (n *Node) dialFromSession(ctx context.Context, server netip.AddrPort) (*net.TCPConn, time.Duration, error) {
	for again := true; ; again = false {
		port, err := n.ports.sessionPort(ctx)
		if err != nil {
			return nil, 0, err
		}
		began := time.Now()
		c, err := port.Dial(ctx, server)
		if err == nil {
			return c, time.Since(began), nil
		}
		if !again || sock.Classify(err) != sock.AddrNotAvail || n.hasSession() {
			return nil, 0, err
		}
		n.ports.renewSession()
	}
}

// resolve returns the addresses of a server, IPv4 first: the session shows
// what the NAT does, and IPv6 has none.
func resolve(ctx context.Context, address string) ([]netip.AddrPort, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	p, err := net.DefaultResolver.LookupPort(ctx, "tcp", port)
	if err != nil {
		return nil, err
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	var out []netip.AddrPort
	for _, ip := range ips {
		out = append(out, netip.AddrPortFrom(ip.Unmap(), uint16(p)))
	}
	slices.SortStableFunc(out, func(a, b netip.AddrPort) int { return a.Addr().BitLen() - b.Addr().BitLen() })
	return out, nil
}

// firstIPv6 returns the first IPv6 address of a server, or none.
func firstIPv6(addrs []netip.AddrPort) netip.AddrPort {
	if i := slices.IndexFunc(addrs, func(a netip.AddrPort) bool { return a.Addr().Is6() }); i >= 0 {
		return addrs[i]
	}
	return netip.AddrPort{}
}

// onSession is called for each new session. It tells the server where this
// node's port is, and has the NAT probed again where that is not what the last
// probe saw.
func (n *Node) onSession(w rendezvous.Welcome, over net.Conn) {
	c := over.(*serverConn)
	server := sock.AddrPort(c.RemoteAddr())
	n.mu.Lock()
	n.st.up, n.st.public, n.st.server, n.st.server6, n.st.other = true, w.Observed, server, c.server6, c.other
	n.st.local = sock.AddrPort(c.LocalAddr()).Addr()
	again := n.probesAgain()
	n.mu.Unlock()
	n.host.began(c.routes)
	n.log.Debug("session stands", "phase", "session", "remote", server, "local", w.Observed)
	n.Config.Trace.session(server, w.Observed)
	n.meetRelays(w.Relays, c)
	n.update()
	n.remap()
	if again {
		n.wg.Go(n.probe)
	}
	n.ports.refill()
	n.host.resume(nil, true) // what the last one ended of may have ended their paths, too
}

// onDown is called when a session has ended, or none came about.
func (n *Node) onDown(error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.st.up = false
}

func (n *Node) hasSession() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.st.up
}

// probesAgain reports whether the NAT is to be probed once more, by the caller,
// and not by another: from another address the world may look different, and a
// server with which there never was a session may have said anything. The
// caller holds n.mu.
func (n *Node) probesAgain() bool {
	st := &n.st
	at := st.public.Addr()
	if st.probing || !at.IsValid() {
		return false
	}
	st.vouched = st.vouched || st.probedBy == st.server
	if st.vouched && (st.probedFrom == at || st.report != nil && st.report.Saw(at)) {
		return false
	}
	st.probing, st.probedBy, st.vouched, st.probedFrom = true, st.server, true, at // once, whatever comes of it
	return true
}

// forgetNAT drops what is known of a NAT that is not in front of the node any
// more; those who wait for a report wait for the next. The caller holds n.mu.
func (n *Node) forgetNAT() {
	old := n.st.knowledge
	if old.stop != nil {
		old.stop()
	}
	n.st.knowledge = knowledge{probed: old.probed, probing: old.probing}
	if old.probedOnce {
		n.st.probed = make(chan struct{})
	}
}

// probe learns what the NAT does; ends by itself, with the node, or when the NAT
// is another one.
func (n *Node) probe() {
	var over bool // else one that the session has made will be
	for again := true; again; {
		ctx, cancel := context.WithCancel(n.life)
		n.mu.Lock()
		n.st.stop = cancel
		server, server6, other := n.st.server, n.st.server6, n.st.other
		n.mu.Unlock()
		learn := func(r *probe.Report) { n.learn(ctx, r) }
		c := probe.Config{Net: n.ports.net, Server: server, Server6: server6, Logger: n.log, OnMapping: learn}
		c.Other, c.Other6 = other.of(server), other.of(server6)
		if server.Addr().Is6() { // the server has no IPv4
			c.Server = netip.AddrPort{}
		}
		r, err := probe.RunCached(ctx, c, probe.CacheConfig{Dir: n.Config.CacheDir, Identity: Fingerprint(n.Key())})
		if err != nil {
			n.log.Debug("probe", "phase", "probe", "remote", server, "err", err)
		} else {
			learn(r)
		}
		n.mu.Lock()
		over = ctx.Err() == nil && (n.st.report != nil || n.st.public.IsValid())
		cancel()
		n.st.probing = false
		again = n.probesAgain() // the session may have moved meanwhile
		n.mu.Unlock()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.st.probedOnce && over {
		n.st.probedOnce = true
		close(n.st.probed)
	}
}

// learn takes the report of a probe that was not stopped.
func (n *Node) learn(ctx context.Context, r *probe.Report) {
	n.mu.Lock()
	if ctx.Err() != nil {
		n.mu.Unlock()
		return
	}
	n.st.report = r
	n.mu.Unlock()
	n.Config.Trace.probed(r)
	n.update()
}

// update gives the server what it hands to those who dial this node.
func (n *Node) update() {
	n.mu.Lock()
	public, report := n.st.public, n.st.report
	n.mu.Unlock()
	if !public.IsValid() {
		return // the first session is not there yet
	}
	info := rendezvous.Info{Report: encodeReport(report), Kind: report.Kind(), Ask: n.Config.Allow != nil || n.counted(), Hidden: n.Config.Relay == RelayOnly}
	if port, err := n.ports.sessionPort(n.life); err == nil {
		mine := n.side(&slot{port: port, public: public, session: true})
		info.Candidates = punch.AppendCandidates(nil, mine)
		// Who is reached through the router needs no fresh port.
		info.Ask = n.Config.Allow != nil || n.counted() && !mine.OpenToAll()
	}
	n.client.Update(info)
}

// Report waits until the NAT in front of this node was probed, and returns
// what was found.
func (n *Node) Report(ctx context.Context) (*probe.Report, error) {
	if err := n.Up(ctx); err != nil {
		return nil, err
	}
	n.mu.Lock()
	probed := n.st.probed
	n.mu.Unlock()
	select {
	case <-probed:
		if r := n.known(); r != nil {
			return r, nil
		}
		return nil, errors.New("the server did not answer the probe")
	case <-n.life.Done():
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// known returns what is known of the NAT by now; nil: nothing.
func (n *Node) known() *probe.Report {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.st.report
}

// bind gives a fresh port a public address: it asks the server through a
// connection that then holds the mapping, or, where there is no NAT, knows it.
func (n *Node) bind(ctx context.Context, port *punch.Port) (*slot, error) {
	n.mu.Lock()
	server, public, r := n.st.server, n.st.public, n.st.report
	n.mu.Unlock()
	if r != nil && r.Mapping == probe.NoNAT {
		return &slot{port: port, public: netip.AddrPortFrom(public.Addr(), port.Number())}, nil
	}
	b, err := probe.Bind(ctx, probe.BindConfig{Net: n.ports.net, Local: port.Local(server.Addr()), Server: server, Logger: n.log})
	if err != nil {
		return nil, unbound(err)
	}
	if b.Public().Addr() != public.Addr() && server.Addr().BitLen() == public.Addr().BitLen() {
		n.client.Check() // the NAT has other addresses now, or always several
	}
	return &slot{port: port, public: b.Public(), binding: b}, nil
}

func encodeReport(r *probe.Report) []byte {
	if r == nil {
		return nil
	}
	return r.Encode()
}
