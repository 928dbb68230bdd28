package stunt

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/gostunt/stunt/internal/punch"
	"github.com/gostunt/stunt/internal/sock"
	"github.com/gostunt/stunt/probe"
)

const (
	// warmIdle is how long a node that stopped dialling keeps its warm ports.
	warmIdle = 2 * time.Minute
	// maxOpening bounds the ports that are being opened at once: each asks the
	// server for its public address.
	maxOpening = 16
	// timeWait is how long a pair of ports can't be used again after a
	// connection between them; Linux says 60 s, the rest is for the timers.
	timeWait = 65 * time.Second
)

// ports are the local ports that a node punches from: that of its session,
// and for more connections than one to the same peer a fresh one each.
type ports struct {
	net    *sock.Net
	accept func(*net.TCPConn)
	bind   func(context.Context, *punch.Port) (*slot, error)
	want   int             // warm slots while dialling
	life   context.Context // of the node

	opening *semaphore.Weighted
	taken   chan struct{}  // capacity 1; wakes fill
	wg      sync.WaitGroup // fill

	mu      sync.Mutex // guards following
	closed  bool
	session *punch.Port
	used    map[string]time.Time // peers that the session's port serves; when it ended, or zero
	warm    []*slot
	network int // counts the networks that the host was in
	filling bool
}

// newPorts makes the ports of a node; life ends with the node.
func newPorts(life context.Context, n *sock.Net, want int) *ports {
	return &ports{
		net:     n,
		want:    want,
		life:    life,
		opening: semaphore.NewWeighted(maxOpening),
		taken:   make(chan struct{}, 1),
		used:    make(map[string]time.Time),
	}
}

// slot is a port for one dial.
type slot struct {
	port    *punch.Port
	public  netip.AddrPort // where the server sees it; invalid: nowhere
	binding *probe.Binding // holds public; nil for the session's port or without a NAT
	session bool           // it is the session's port, which outlives the dial
	peer    string         // whom the session's port serves with this slot; empty on the listener's side
	network int            // that it was opened in
}

func (s *slot) alive() bool {
	if s.binding == nil {
		return true
	}
	select {
	case <-s.binding.Done():
		return false
	default:
		return true
	}
}

// publicTo returns the public endpoint of a path to remote: invalid over the
// family over which the server has not seen the port.
func (s *slot) publicTo(remote netip.Addr) netip.AddrPort {
	if remote.Is4() != s.public.Addr().Is4() {
		return netip.AddrPort{}
	}
	return s.public
}

func (s *slot) candidates() []punch.Candidate {
	var cs []punch.Candidate
	if s.public.IsValid() {
		cs = append(cs, punch.Candidate{Kind: punch.Public, Addr: s.public})
	}
	return append(cs, s.port.HostCandidates()...)
}

// sessionPort returns the port that the session with the server comes from,
// and opens it at the first call.
func (p *ports) sessionPort(ctx context.Context) (*punch.Port, error) {
	p.mu.Lock()
	port, closed := p.session, p.closed
	p.mu.Unlock()
	if closed {
		return nil, net.ErrClosed
	}
	if port != nil {
		return port, nil
	}
	port, err := punch.OpenPort(ctx, p.net, p.accept)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		go port.Close() // waits for its accept loops, which don't wait for us
		return nil, net.ErrClosed
	}
	if p.session != nil { // two came at once
		go port.Close()
		return p.session, nil
	}
	p.session = port
	clear(p.used)
	return port, nil
}

// sessionNow is sessionPort that opens nothing: nil if there is none.
func (p *ports) sessionNow() *punch.Port {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.session
}

// renewSession gives up the session's port: its tuple with the server is in
// TIME_WAIT, so it can't be used for a minute.
func (p *ports) renewSession() {
	p.mu.Lock()
	port := p.session
	p.session = nil
	p.mu.Unlock()
	if port != nil {
		port.Close()
	}
}

// borrowSession returns the session's port for a dial to peer, or nil if it
// has a connection to that peer, or had one a moment ago.
func (p *ports) borrowSession(peer string, public netip.AddrPort) *slot {
	p.mu.Lock()
	defer p.mu.Unlock()
	for who, at := range p.used {
		if !at.IsZero() && time.Since(at) > timeWait {
			delete(p.used, who)
		}
	}
	if _, busy := p.used[peer]; busy || p.session == nil {
		return nil
	}
	p.used[peer] = time.Time{}
	return &slot{port: p.session, public: public, session: true, peer: peer}
}

// take returns a port of its own for a dial: a warm one, or a fresh one.
func (p *ports) take(ctx context.Context) (*slot, error) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, net.ErrClosed
	}
	p.wake()
	dead := p.bury()
	var got *slot
	if len(p.warm) > 0 {
		got, p.warm = p.warm[0], p.warm[1:]
	}
	p.mu.Unlock()
	for _, s := range dead {
		p.release(s)
	}
	if got != nil {
		return got, nil
	}
	return p.open(ctx)
}

// bury takes out the warm slots that are not, because their server has gone. The
// caller holds mu, and releases them without it.
func (p *ports) bury() (dead []*slot) {
	p.warm = slices.DeleteFunc(p.warm, func(s *slot) bool {
		gone := !s.alive()
		if gone {
			dead = append(dead, s)
		}
		return gone
	})
	return dead
}

// wake starts fill or tells it that there is demand. The caller holds mu.
func (p *ports) wake() {
	if p.want == 0 || p.closed {
		return
	}
	select {
	case p.taken <- struct{}{}:
	default:
	}
	if !p.filling {
		p.filling = true
		p.wg.Go(p.fill)
	}
}

// warmUp makes the node keep ports ready from now on.
func (p *ports) warmUp() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wake()
}

// fill keeps want slots warm until there was no demand for warmIdle, or the
// node ends; close waits for it.
func (p *ports) fill() {
	idle := time.NewTimer(warmIdle)
	defer idle.Stop()
	for {
		select {
		case <-p.taken:
			p.topUp()
			idle.Reset(warmIdle)
		case <-idle.C:
			if p.rest(false) {
				return
			}
		case <-p.life.Done():
			p.rest(true)
			return
		}
	}
}

// rest lets the warm slots go and reports true, unless there is new demand.
func (p *ports) rest(always bool) bool {
	p.mu.Lock()
	if len(p.taken) > 0 && !always {
		p.mu.Unlock()
		return false
	}
	cold := p.warm
	p.warm, p.filling = nil, false
	p.mu.Unlock()
	for _, s := range cold {
		p.release(s)
	}
	return true
}

// topUp opens slots until enough are warm, or some can't be opened: the next
// demand tries again. All that are missing are opened at once, since each waits
// two round trips for the server, in which dials take more.
func (p *ports) topUp() {
	for p.life.Err() == nil {
		p.mu.Lock()
		dead := p.bury()
		missing := p.want - len(p.warm)
		p.mu.Unlock()
		for _, s := range dead {
			p.release(s)
		}
		if missing <= 0 {
			return
		}
		var opening errgroup.Group
		for range missing {
			opening.Go(p.warmOne)
		}
		if opening.Wait() != nil {
			return
		}
	}
}

// warmOne opens one slot and keeps it ready.
func (p *ports) warmOne() error {
	s, err := p.open(p.life)
	if err != nil {
		return err
	}
	p.mu.Lock()
	current := s.network == p.network
	if current {
		p.warm = append(p.warm, s)
	}
	p.mu.Unlock()
	if !current {
		p.release(s)
	}
	return nil
}

// renew drops what belongs to a network that the host has left: the warm
// ports, whose public addresses are another NAT's; and the session's, if the
// address that it has left from is gone.
func (p *ports) renew(session bool) {
	p.mu.Lock()
	cold := p.warm
	p.warm = nil
	p.network++
	p.mu.Unlock()
	for _, s := range cold {
		p.release(s)
	}
	if session {
		p.renewSession()
	}
}

// refill fills up what renew has emptied.
func (p *ports) refill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.filling && len(p.warm) == 0 {
		p.wake()
	}
}

// open binds a fresh port and learns its public address.
func (p *ports) open(ctx context.Context) (*slot, error) {
	if err := p.opening.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	defer p.opening.Release(1)
	p.mu.Lock()
	network := p.network
	p.mu.Unlock()
	port, err := punch.OpenPort(ctx, p.net, p.accept)
	if err != nil {
		return nil, err
	}
	s, err := p.bind(ctx, port)
	if err != nil {
		port.Close()
		return nil, err
	}
	s.network = network
	return s, nil
}

// release gives a slot back once its race holds no socket any more and, for
// the session's port, its connection is closed.
func (p *ports) release(s *slot) {
	if s.session {
		p.mu.Lock()
		defer p.mu.Unlock()
		if s.peer != "" && p.session == s.port {
			p.used[s.peer] = time.Now()
		}
		return
	}
	if s.binding != nil {
		s.binding.Close()
	}
	s.port.Close()
}

// close waits for fill and closes every port that no dial holds.
func (p *ports) close() {
	p.mu.Lock()
	p.closed = true
	session := p.session
	p.session = nil
	p.mu.Unlock()
	p.wg.Wait()
	if session != nil {
		session.Close()
	}
}
