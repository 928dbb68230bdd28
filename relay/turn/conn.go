package turn

import (
	"context"
	"net"
	"net/netip"
	"time"

	"github.com/pion/stun/v3"
)

// A Conn is a connection to a peer through the server. It has no CloseWrite,
// because there is no half-close on the way.
type Conn struct {
	net.Conn // to the server
	local    netip.AddrPort
	remote   netip.AddrPort
}

// LocalAddr returns the relayed address, from which the peer sees us come.
func (c *Conn) LocalAddr() net.Addr { return tcpAddr(c.local) }

// RemoteAddr returns the address of the peer.
func (c *Conn) RemoteAddr() net.Addr { return tcpAddr(c.remote) }

// NetConn returns the connection to the server, a *net.TCPConn or *tls.Conn. Its
// half-close is not the peer's.
func (c *Conn) NetConn() net.Conn { return c.Conn }

// DialContext connects to a peer from the relayed address. The network is tcp,
// tcp4 or tcp6, the address an IP and a port. The peer is permitted first. ctx
// bounds the establishment of the connection, not its life.
func (a *Allocation) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	switch network {
	case "tcp", "tcp4", "tcp6":
	default:
		return nil, opError("dial", net.UnknownNetworkError(network), a.Addr(), nil)
	}
	peer, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, opError("dial", &net.AddrError{Err: "not an IP and a port", Addr: address}, a.Addr(), nil)
	}
	peer = netip.AddrPortFrom(peer.Addr().Unmap(), peer.Port())
	var c *Conn
	if err = a.allow(ctx, []netip.Addr{peer.Addr()}); err == nil {
		c, err = a.dial(ctx, peer)
	}
	if err != nil {
		return nil, opError("dial", a.because(err), a.Addr(), tcpAddr(peer))
	}
	return c, nil
}

func (a *Allocation) dial(ctx context.Context, peer netip.AddrPort) (*Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, peerTime)
	defer cancel()
	defer context.AfterFunc(a.control.life, cancel)()
	m, err := ask(ctx, a.control.exchange, a.auth, stun.MethodConnect, peerAddr(peer))
	if err != nil {
		return nil, err
	}
	id, err := numberIn(m, stun.AttrConnectionID)
	if err != nil {
		return nil, err
	}
	return a.bind(ctx, attempt{peer, id})
}

// attempted takes in a peer that has connected. One too many is left to the
// server, which drops it.
func (a *Allocation) attempted(m *stun.Message) {
	id, err := numberIn(m, stun.AttrConnectionID)
	if err != nil {
		return
	}
	peer, err := addressIn(m, stun.AttrXORPeerAddress)
	if err != nil {
		return
	}
	select {
	case a.attempts <- attempt{peer, id}:
	default:
		a.log.Debug("not accepted", "remote", peer, "err", "too many wait")
	}
}

// Accept waits for a peer that is permitted and has connected to the relayed
// address. It returns an error only when the allocation has ended:
// net.ErrClosed after Close, or why the server ended it.
func (a *Allocation) Accept() (net.Conn, error) {
	life := a.control.life
	for life.Err() == nil {
		select {
		case <-life.Done():
		case at := <-a.attempts:
			c, err := a.bind(life, at)
			if err == nil {
				return c, nil
			}
			a.log.Debug("not accepted", "remote", at.peer, "err", err)
		}
	}
	return nil, opError("accept", context.Cause(life), a.Addr(), nil)
}

// bind makes a data connection to the server and binds it to a connection
// between it and a peer.
func (a *Allocation) bind(ctx context.Context, at attempt) (*Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, a.cfg.timeout())
	defer cancel()
	conn, err := a.cfg.connect(ctx, a.server)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	_, err = ask(ctx, over(conn), a.auth.forConn(), stun.MethodConnectionBind, number{stun.AttrConnectionID, at.id})
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		conn.Close()
		if ctx.Err() != nil {
			err = ctx.Err() // the deadline in the past was ours
		}
		return nil, err
	}
	return &Conn{Conn: conn, local: a.relayed, remote: at.peer}, nil
}
