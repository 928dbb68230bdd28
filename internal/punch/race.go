// Package punch gets a TCP connection between two hosts that both know the
// other's addresses and were told to start at the same moment: which attempts
// to make is the [Plan], making them is the [Race].
package punch

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gostunt/stunt/internal/secure"
	"github.com/gostunt/stunt/internal/sock"
)

const (
	// DefaultWindow is how long a race tries. Linux sends a SYN again after 1,
	// 3 and 7 s (or 1, 2, 3, 4 s since 6.5): the second retransmission counts.
	DefaultWindow = 5 * time.Second
	// courtesy is how much longer the listener's window is: a path that the
	// dialer selects at the end of its own must not be given up meanwhile.
	courtesy = 2 * time.Second
	// hopelessWindow is for a plan that can't succeed if the reports are right:
	// one retransmission.
	hopelessWindow = 1500 * time.Millisecond
	// linger is how long sockets that did not win stay open. Closed at once,
	// the RST of a loser has killed the winner of the same tuple (30 ms was too
	// early in the field, 4 s was not).
	linger = 4 * time.Second
	// maxRelays bounds the relays of one dial: the answer may show that another
	// one is nearer than it seemed at first.
	maxRelays = 2
	// maxArrived bounds connections that arrive for one dial.
	maxArrived = 8
)

// ErrNoPath is the end of a race that nothing won in its window.
var ErrNoPath = errors.New("no path in time")

// Config is one end of one dial.
type Config struct {
	Door   *Door
	Port   *Port
	ID     [16]byte // the dial's, from the dialer
	Dialer bool     // the dialer chooses the path
	// Moves says that the connection can go on over another path: then the
	// dialer takes a relay as soon as it is there, and the race goes on for
	// Upgrade. Both ends have it alike.
	Moves bool
	// Again says that the dialer would begin again, from another port: then Wait
	// may end with ErrSpoiled.
	Again  bool
	Window time.Duration
	Budget *Budget // of guessing; nil: none is done
	// Prepaid is how many sockets of Budget the caller has taken for this race,
	// which gives back what it does not use.
	Prepaid int
	Log     *slog.Logger // may be nil
	Event   func(Event)  // may be nil; called from several goroutines
}

// Race runs attempts and hears arrivals until a path has proved itself.
type Race struct {
	cfg    Config
	ctx    context.Context // of every attempt: ends with the race, not with the caller's dial
	cancel context.CancelFunc
	hunt   context.Context // of attempts at many addresses: ends when a path is chosen for good
	caught context.CancelFunc
	detour context.Context // of attempts at relays: ends when any path is chosen
	taken  context.CancelFunc
	wg     sync.WaitGroup // attempts and arrivals
	done   chan struct{}  // closed when all of these are gone

	chosen   atomic.Bool     // a path has won for good: what fails from then on is no news
	keyed    chan struct{}   // closed by Keys
	session  *secure.Session // before keyed is closed nobody reads it
	verified chan *Path      // capacity: every path that can be
	moves    chan *Path      // listener: that the dialer wants to move to; capacity 1

	mu      sync.Mutex // guards following
	stopped bool
	prepaid int   // what is left of Config.Prepaid
	busy    error // a *BusyError, if the budget had too little left
	tries   []*Try
	arrive  int
	relayAt time.Time // from when on a relay may be chosen
	relayed bool      // one is in the plan
	final   bool      // nothing but a relay is to be expected
	expiry  *time.Timer
	expired chan struct{} // closed at the end of the window

	spoilOnce sync.Once     // of spoil
	spoiled   chan struct{} // closed by spoil
}

// Path is a connection whose other end has proved to be the peer.
type Path struct {
	Conn      *net.TCPConn
	Session   *secure.Session
	Remote    netip.AddrPort
	Method    Method
	Accepted  bool      // it arrived on the listener; false: one of our attempts
	Connected time.Time // when TCP stood

	mine, theirs secure.Nonce
	move         bool // the dialer wants the connection to go on here
}

// Try is what became of an attempt.
type Try struct {
	Attempt
	SYNs      int       // connects made
	Fired     time.Time // first of them
	Connected time.Time // zero: never
	Err       error     // of the last connect; nil while it runs
}

// NewRace makes the race known to its door, so that connections which arrive
// before the plan is there are heard. The caller ends it with Stop, or by a
// Wait that succeeds.
func NewRace(cfg Config) (*Race, error) {
	if cfg.Window <= 0 {
		cfg.Window = DefaultWindow
	}
	r := &Race{
		cfg:      cfg,
		done:     make(chan struct{}),
		keyed:    make(chan struct{}),
		verified: make(chan *Path, MaxCandidates+maxRelays+maxArrived),
		moves:    make(chan *Path, 1),
		expired:  make(chan struct{}),
		spoiled:  make(chan struct{}),
		prepaid:  cfg.Prepaid,
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.hunt, r.caught = context.WithCancel(r.ctx)
	r.detour, r.taken = context.WithCancel(r.hunt)
	if !cfg.Door.add(r) {
		r.cancel()
		return nil, net.ErrClosed
	}
	r.wg.Add(1) // released by Stop, so that Done waits for it
	go r.finish()
	return r, nil
}

// finish closes done once the race was stopped and its goroutines are gone.
func (r *Race) finish() {
	r.wg.Wait()
	if r.prepaid > 0 {
		r.cfg.Budget.Return(r.prepaid)
	}
	r.cfg.Door.remove(r)
	close(r.done)
}

// Fire starts the attempts, now. It may be called again with more; addresses
// that are being tried already are left alone. The window runs from the last
// call.
func (r *Race) Fire(plan []Attempt) { r.fire(plan, r.cfg.Window, r.cfg.Window) }

// Meet fires the plan of a meeting. One that is hopeless is given up sooner, or
// takes the relay as soon as it is there.
func (r *Race) Meet(m Meeting) {
	plan, direct := m.Plan(), r.cfg.Window
	hopeless := m.hopeless(plan)
	relayed := len(plan) > 0 && plan[len(plan)-1].Method == Relay
	switch {
	case hopeless && relayed:
		direct = 0
	case hopeless, relayed && m.unlikely(plan):
		direct = min(direct, hopelessWindow)
	}
	r.mu.Lock()
	r.relayed, r.final = relayed, hopeless
	r.mu.Unlock()
	window := direct
	if relayed { // it gets a window of its own, from its start
		window = r.cfg.Window + plan[len(plan)-1].Start
	}
	r.fire(plan, direct, window)
}

// fire starts a plan. It waits so long for a direct path, and in all.
func (r *Race) fire(plan []Attempt, direct, window time.Duration) {
	if !r.cfg.Dialer {
		window += courtesy
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped {
		return
	}
	r.relayAt = time.Now().Add(direct)
	if r.expiry == nil {
		r.expiry = time.AfterFunc(window, sync.OnceFunc(func() { close(r.expired) }))
	} else if r.expiry.Stop() {
		r.expiry.Reset(window)
	}
	for _, a := range plan {
		if r.tried(a) || !r.room(a) {
			continue
		}
		t := &Try{Attempt: a}
		r.tries = append(r.tries, t)
		r.wg.Go(func() { r.attempt(t) })
	}
}

// room reports whether an attempt is within the bounds of a race. The caller
// holds mu.
func (r *Race) room(a Attempt) bool {
	relays := 0
	for _, t := range r.tries {
		if t.Method == Relay {
			relays++
		}
	}
	if a.Method == Relay {
		return relays < maxRelays
	}
	return len(r.tries)-relays < MaxCandidates && r.acquainted(a)
}

// tried reports whether there is such an attempt already. The caller holds mu.
func (r *Race) tried(a Attempt) bool {
	return slices.ContainsFunc(r.tries, func(t *Try) bool { return t.same(a) })
}

// Keys gives the race what paths prove themselves with. Call it once.
func (r *Race) Keys(s *secure.Session) {
	r.session = s
	close(r.keyed)
}

// Wait returns the path that the dialer chose, or ErrNoPath at the end of the
// window, or ErrSpoiled before it, or ctx's error. The dialer keeps a relay in
// hand until direct paths have had their time, unless the connection can move to
// one later. After a path is returned the race ends by itself, when its losers
// have lingered, or if GoesOn says so, with Upgrade.
func (r *Race) Wait(ctx context.Context) (*Path, error) {
	var inHand *Path
	defer func() {
		if inHand != nil {
			sock.Abort(inHand.Conn)
		}
	}()
	spoiled := r.spoiled
	for {
		var p *Path
		select {
		case p = <-r.verified:
			if r.cfg.Dialer && p.Method == Relay && inHand == nil {
				p, inHand, spoiled = nil, p, nil // better than another race
			}
		case <-r.ripe(ctx, inHand):
			p, inHand = inHand, nil
		case <-r.expired:
			return nil, r.why()
		case <-spoiled:
			return nil, ErrSpoiled
		case <-r.ctx.Done():
			return nil, net.ErrClosed
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if p == nil || r.choose(p) != nil {
			continue // it died between its proof and our choice
		}
		if !r.GoesOn(p) {
			time.AfterFunc(linger, r.Stop)
		}
		return p, nil
	}
}

// why returns what a race without a path ended with.
func (r *Race) why() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.busy != nil {
		return r.busy
	}
	return ErrNoPath
}

// choose says select on a path, if that is ours to say, and makes it a plain
// connection.
func (r *Race) choose(p *Path) error {
	if r.cfg.Dialer {
		p.Conn.SetWriteDeadline(time.Now().Add(time.Second))
		if _, err := p.Conn.Write(p.Session.Select(p.mine, p.theirs)); err != nil {
			sock.Abort(p.Conn)
			return err
		}
	}
	r.taken()
	if !r.GoesOn(p) {
		r.chosen.Store(true)
		r.caught()
	}
	r.event(Selected, p.Remote, p.Method, nil)
	return p.Conn.SetDeadline(time.Time{})
}

// Stop ends every attempt and closes everything that did not win. It does not
// wait; Done tells when all is gone.
func (r *Race) Stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped {
		return
	}
	r.stopped = true
	r.cancel()
	if r.expiry != nil {
		r.expiry.Stop()
	}
	for len(r.verified) > 0 { // under mu nobody adds another
		(<-r.verified).Conn.Close()
	}
	for len(r.moves) > 0 {
		(<-r.moves).Conn.Close()
	}
	r.wg.Done()
}

// ID returns the dial's.
func (r *Race) ID() [16]byte { return r.cfg.ID }

// Done is closed when the race is stopped and holds no socket any more.
func (r *Race) Done() <-chan struct{} { return r.done }

// Tries returns what became of the attempts so far.
func (r *Race) Tries() []Try {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]Try, 0, len(r.tries))
	for _, t := range r.tries {
		out = append(out, *t)
	}
	return out
}

func (r *Race) note(t *Try, change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
}

// sleep reports false if the race ended first.
func (r *Race) sleep(d time.Duration) bool {
	if d <= 0 {
		return r.ctx.Err() == nil
	}
	select {
	case <-time.After(d):
		return true
	case <-r.ctx.Done():
		return false
	}
}
