package punch

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/gostunt/stunt/internal/secure"
	"github.com/gostunt/stunt/internal/sock"
	"github.com/gostunt/stunt/relay"
)

// errHungUp is an end that closed before it proved anything: the peer was not
// yet listening for us, or is not our peer.
var errHungUp = errors.New("closed before it proved to be the peer")

// arrived takes a connection whose first bytes named this dial. It reports
// false if the race has no room or is over; then the caller drops it.
func (r *Race) arrived(c *net.TCPConn, h secure.Header) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped || r.arrive >= maxArrived {
		return false
	}
	r.arrive++
	remote := sock.AddrPort(c.RemoteAddr())
	p := &Path{Conn: c, Remote: remote, Accepted: true, Connected: time.Now()}
	r.wg.Go(func() {
		r.event(Arrived, remote, p.Method, nil)
		if err := r.prove(p, &h); err != nil {
			r.failed(remote, p.Method, err)
		}
	})
	return true
}

// methodOf names the method of an arrival: that of the attempt at the address
// it came from, or Reversed where it comes from a port that we did not know,
// as through a NAT that maps per destination.
func (r *Race) methodOf(remote netip.AddrPort) Method {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range r.tries {
		switch {
		case t.To.Addr() != remote.Addr(), t.To.Port() != remote.Port() && !slices.Contains(t.Ports, remote.Port()):
			continue
		case t.Method == Direct:
			return Reversed
		case t.Method == Reversed:
			return Direct
		}
		return t.Method
	}
	return Reversed
}

// prove exchanges prefaces on a connection and offers the path if the other
// end is the peer: to Wait on the dialer's side at once, on the listener's
// when the dialer has selected it. h is the other end's preface where it has
// been read already. On an error the connection is closed.
func (r *Race) prove(p *Path, h *secure.Header) error {
	// Whatever blocks below ends with the race.
	ctx := r.life(p)
	stop := context.AfterFunc(ctx, func() { p.Conn.SetDeadline(time.Unix(1, 0)) })
	err := r.exchange(ctx, p, h)
	stop()
	if err == nil {
		err = r.offer(p)
	}
	if err != nil {
		sock.Abort(p.Conn)
	}
	return err
}

func (r *Race) exchange(ctx context.Context, p *Path, h *secure.Header) error {
	select {
	case <-r.keyed:
		p.Session = r.session
	case <-ctx.Done():
		return net.ErrClosed
	}
	rand.Read(p.mine[:])
	// A listener waits for the dialer's choice here, which may come at the end of
	// the window.
	p.Conn.SetDeadline(time.Now().Add(r.cfg.Window + courtesy))
	if ctx.Err() != nil {
		return net.ErrClosed // the deadline above undid the one that ends us
	}
	if h != nil { // an arrival: not a byte of ours before it has proved itself
		if err := p.Session.Check(*h); err != nil {
			return err
		}
	}
	if _, err := p.Conn.Write(p.Session.Preface(p.mine)); err != nil {
		return hungUp(err)
	}
	if p.Method == Relay {
		if err := relay.ReadStatus(p.Conn); err != nil {
			return hungUp(err)
		}
	}
	if h == nil {
		read, err := secure.ReadHeader(p.Conn)
		if err != nil {
			return hungUp(err)
		}
		if err := p.Session.Check(read); err != nil {
			return err
		}
		h = &read
	}
	if p.Accepted { // it may have come before we fired
		p.Method = r.methodOf(p.Remote)
	}
	p.theirs = h.Nonce
	r.cfg.Budget.proved(p.Remote.Addr())
	r.event(Verified, p.Remote, p.Method, nil)
	if r.cfg.Dialer {
		return nil
	}
	var sel [secure.SelectSize]byte
	if _, err := io.ReadFull(p.Conn, sel[:]); err != nil {
		return hungUp(err)
	}
	if r.cfg.Moves && p.Method != Relay && p.Session.CheckMove(sel[:], p.mine, p.theirs) == nil {
		p.move = true
		return nil
	}
	return p.Session.CheckSelect(sel[:], p.mine, p.theirs)
}

// offer hands a proved path to Wait or Upgrade, or keeps it until the race is
// over.
func (r *Race) offer(p *Path) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped {
		return net.ErrClosed
	}
	to := r.verified
	if p.move {
		to = r.moves
	}
	select {
	case to <- p:
	default: // cannot be, but for a peer that moves twice: capacity covers every path
		return ErrNoPath
	}
	return nil
}

func hungUp(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errHungUp
	}
	return err
}
