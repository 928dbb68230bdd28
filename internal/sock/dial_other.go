//go:build !linux && !darwin && !freebsd

package sock

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"syscall"

	"github.com/libp2p/go-reuseport"
)

// Start begins to connect from local to remote and returns without waiting for
// what comes of it. Here the SYN leaves a moment later, on a goroutine of its
// own, so that the order of several is likely, not certain.
func (n *Net) Start(local, remote netip.AddrPort, ttl int) (*Pending, error) {
	return n.Begin(local, remote, Opening{TTL: ttl})
}

// Begin is Start with more to say.
func (n *Net) Begin(local, remote netip.AddrPort, o Opening) (*Pending, error) {
	p := &Pending{v4: remote.Addr().Is4(), done: make(chan struct{})}
	d := net.Dialer{
		FallbackDelay: -1, // one address, one attempt, on one goroutine
		Control: func(network, address string, c syscall.RawConn) error {
			if err := reuseport.Control(network, address, c); err != nil {
				return err
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			p.raw = c
			if p.ttl > 0 { // SetTTL was faster
				o.TTL = p.ttl
			}
			if o.TTL <= 0 {
				return nil
			}
			return setTTL(c, p.v4, o.TTL)
		},
	}
	d.SetMultipathTCP(false)
	if local.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(local)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	go func() { // ends with the dial; Wait or Close
		defer close(p.done)
		p.err = n.Do(func() (err error) {
			p.conn, err = d.DialContext(ctx, family(remote), remote.String())
			return err
		})
		if p.err == nil && local.Port() == 0 {
			n.pickedNew(AddrPort(p.conn.LocalAddr()))
		}
	}()
	return p, nil
}

// Pending is a connection that is being made.
type Pending struct {
	cancel context.CancelFunc
	v4     bool

	mu  sync.Mutex      // guards following
	raw syscall.RawConn // once the socket is there
	ttl int             // of SetTTL

	done chan struct{} // closed when the following are set
	conn net.Conn
	err  error
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

// SetTTL changes the time to live of the packets that follow: repetitions of
// the SYN, and the SYN-ACK if the other end's SYN comes. It fails once the
// Pending has ended.
func (p *Pending) SetTTL(ttl int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ttl = ttl
	if p.raw == nil {
		return nil
	}
	return setTTL(p.raw, p.v4, ttl)
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
