//go:build !linux && !darwin && !freebsd

package sock

import (
	"context"
	"net"
	"net/netip"
	"syscall"

	"github.com/libp2p/go-reuseport"
)

// Start begins to connect from local to remote and returns without waiting for
// what comes of it. Here the SYN leaves a moment later, on a goroutine of its
// own, so that the order of several is likely, not certain.
func (n *Net) Start(local, remote netip.AddrPort, ttl int) (*Pending, error) {
	d := net.Dialer{
		FallbackDelay: -1, // one address, one attempt, on one goroutine
		Control: func(network, address string, c syscall.RawConn) error {
			if err := reuseport.Control(network, address, c); err != nil || ttl <= 0 {
				return err
			}
			return setTTL(c, remote.Addr().Is4(), ttl)
		},
	}
	d.SetMultipathTCP(false)
	if local.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(local)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &Pending{cancel: cancel, done: make(chan struct{})}
	go func() { // ends with the dial; Wait or Close
		defer close(p.done)
		p.err = n.do(func() (err error) {
			p.conn, err = d.DialContext(ctx, family(remote), remote.String())
			return err
		})
	}()
	return p, nil
}

// Pending is a connection that is being made.
type Pending struct {
	cancel context.CancelFunc
	done   chan struct{} // closed when the following are set
	conn   net.Conn
	err    error
}

// Close gives the connection up.
func (p *Pending) Close() error {
	p.cancel()
	<-p.done
	if p.conn != nil {
		return p.conn.Close()
	}
	return nil
}

// Wait returns the connection when it stands, or why it does not. It ends the
// Pending.
func (p *Pending) Wait(ctx context.Context) (*net.TCPConn, error) {
	select {
	case <-p.done:
		p.cancel()
		if p.err != nil {
			return nil, p.err
		}
		return notSelf(p.conn.(*net.TCPConn))
	case <-ctx.Done():
		p.Close()
		return nil, ctx.Err()
	}
}
