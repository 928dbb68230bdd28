package probe

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/gostunt/stunt/internal/sock"
	"github.com/gostunt/stunt/predict"
)

var (
	errMoved       = errors.New("the NAT took another mapping")
	errUnknownPort = errors.New("the public port cannot be known")
	errAccepted    = errors.New("somebody accepted a SYN that was to be refused")
	errTooLate     = errors.New("the SYNs did not leave in time")
	errElsewhere   = errors.New("the server has another address than it had")
	errUntried     = errors.New("the server did not dial back")
)

const (
	// A kernel repeats a SYN a second after the first and then not before the
	// second second. The repetition must not arrive: around it the TTL is that
	// of the first one, not the one that the SYN-ACK needs.
	repeatsFrom, repeatsTo = 950 * time.Millisecond, 1150 * time.Millisecond
	holeTimeout            = 1950 * time.Millisecond

	// Other hosts come in between; a try succeeds in most cases even so.
	bracketTries = 3

	// A server's other address may be another server's, anywhere: halfway
	// around the world, if it was not measured.
	farthest = 300 * time.Millisecond
)

// half is a half-open mapping, or what is ready to become one.
type half struct {
	p         *prober
	ttl       int
	d         *door          // the port; its listener catches what the SYN's own socket does not
	local, to netip.AddrPort // of the SYN
	from      *stream        // asks the server to dial back
	query     ask
	more      []*stream      // to be closed
	reuses    netip.AddrPort // the mapping that the SYN should have; invalid: surely has

	sent    time.Time
	ended   chan error // capacity 1: what became of our SYN
	cancel  context.CancelFunc
	waiting sync.WaitGroup
}

// half makes a half-open mapping whose public endpoint is known. How depends
// on the NAT. If later, the SYN is left to the caller.
func (p *prober) half(ctx context.Context, ttl int, later bool) (*half, error) {
	switch {
	case p.keeps():
		return p.sharedHalf(ctx, ttl, later)
	case later, p.model.Pooling == predict.Arbitrary: // the server dials the address that asks, and no other
		return nil, errUnknownPort
	case p.model.Kind == predict.Sequential:
		for range bracketTries {
			x, err := p.countedHalf(ctx, ttl)
			if err != errMoved {
				return x, err
			}
		}
		return nil, errMoved
	case p.mapping == SessionDependent || ttl == 0:
		return nil, errUnknownPort
	}
	return p.reopenedHalf(ctx, ttl)
}

// keeps reports whether a SYN has the public endpoint that a connection from the
// same port has, if it goes to the same address.
func (p *prober) keeps() bool {
	return p.mapping == NoNAT || p.mapping == EIM || p.mapping == ADM || p.model.Kind == predict.Preserving
}

func (p *prober) newHalf(ctx context.Context, ttl int) (*half, error) {
	d, err := p.listen(ctx, 0)
	if err != nil {
		return nil, err
	}
	return &half{
		p: p, ttl: ttl, d: d, local: netip.AddrPortFrom(p.from, d.port),
		ended: make(chan error, 1), cancel: func() {},
	}, nil
}

// close ends everything.
func (x *half) close() {
	x.cancel()
	x.waiting.Wait()
	x.d.close()
	for _, s := range append(x.more, x.from) {
		if s != nil {
			sock.Abort(s.TCPConn)
		}
	}
}

// open is prober.open, for a connection that the half keeps.
func (x *half) open(ctx context.Context, c call) (*stream, error) {
	c.server = x.p.server
	s, err := x.p.open(ctx, c)
	if err == nil {
		x.more = append(x.more, s)
	}
	return s, err
}

// sharedHalf has a mapping that a connection to the server keeps, and whose
// public endpoint the SYN has as well. It goes to a port at random, from which
// the server can connect as well as from any; see elsewhere.
func (p *prober) sharedHalf(ctx context.Context, ttl int, later bool) (*half, error) {
	x, err := p.newHalf(ctx, ttl)
	if err != nil {
		return nil, err
	}
	if x.from, err = p.open(ctx, call{at: p.reserve(), local: x.local, server: p.server}); err != nil {
		x.close()
		return nil, err
	}
	x.query.from = uint16(minDialFrom + rand.N(1<<16-minDialFrom))
	x.to = netip.AddrPortFrom(p.server.Addr(), x.query.from)
	if p.known().holeAddr {
		if x.from.other.Addr() != p.other.Addr() { // of servers that lend theirs one has come or gone
			x.close()
			return nil, errElsewhere
		}
		x.query.change = changeIP
		x.to = netip.AddrPortFrom(p.other.Addr(), x.query.from)
	}
	if later {
		return x, nil
	}
	if err := x.fire(ctx); err != nil {
		x.close()
		return nil, err
	}
	return x, nil
}

// countedHalf puts the SYN between two connections, each of which shows its
// port: if these are two steps apart, the SYN has the one between.
func (p *prober) countedHalf(ctx context.Context, ttl int) (*half, error) {
	x, err := p.newHalf(ctx, ttl)
	if err != nil {
		return nil, err
	}
	x.query.from = uint16(minDialFrom + rand.N(1<<16-minDialFrom))
	x.to = netip.AddrPortFrom(p.server.Addr(), x.query.from)
	at := p.reserveRow(3)
	var around [2]*stream
	var errs [3]error
	var wg sync.WaitGroup
	for i, t := range []time.Duration{at, at + 2*pace} {
		wg.Go(func() {
			c := call{at: t, local: netip.AddrPortFrom(p.from, 0), server: p.server}
			around[i], errs[i] = p.open(ctx, c)
		})
	}
	if errs[2] = p.sleep(ctx, at+pace); errs[2] == nil {
		errs[2] = x.fire(ctx)
	}
	wg.Wait()
	x.more, x.from = around[:1], around[1]
	err = errors.Join(errs[:]...)
	if err == nil {
		a, b := around[0].mapped, around[1].mapped
		sent := x.sent.Sub(p.start)
		ordered := around[0].at < sent && sent < around[1].at
		if !ordered || a.Addr() != b.Addr() || int(int16(b.Port()-a.Port())) != 2*p.model.Delta {
			err = errMoved
		}
		x.query.port = a.Port() + uint16(p.model.Delta)
	}
	if err != nil {
		x.close()
		return nil, err
	}
	return x, nil
}

// reopenedHalf connects to the server to learn the port, ends the connection,
// and sends the SYN between the same two endpoints: a NAT that draws ports at
// random has the same mapping for it, if it keeps one for a while; see moved.
func (p *prober) reopenedHalf(ctx context.Context, ttl int) (*half, error) {
	x, err := p.newHalf(ctx, ttl)
	if err != nil {
		return nil, err
	}
	x.to = p.server
	var known *stream
	var errs [2]error
	var wg sync.WaitGroup
	wg.Go(func() { known, errs[0] = p.open(ctx, call{at: p.reserve(), local: x.local, server: p.server}) })
	wg.Go(func() {
		x.from, errs[1] = p.open(ctx, call{at: p.reserve(), local: netip.AddrPortFrom(p.from, 0), server: p.server})
	})
	wg.Wait()
	if known != nil {
		sock.Abort(known.TCPConn)
	}
	err = errors.Join(errs[:]...)
	if err == nil && known.mapped.Addr() != x.from.mapped.Addr() {
		err = errMoved
	}
	if err == nil {
		x.reuses, x.query.port = known.mapped, known.mapped.Port()
		err = x.fire(ctx)
	}
	if err != nil {
		x.close()
		return nil, err
	}
	return x, nil
}

// reserveRow is reserve for n connections that follow each other.
func (p *prober) reserveRow(n int) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := max(p.next, time.Since(p.start)+pace)
	p.next = at + time.Duration(n)*pace
	return at
}

// fire sends the SYN and waits for the server's in the background, until the
// half is closed or the time is over.
func (x *half) fire(ctx context.Context) error {
	pending, err := x.p.net.Begin(x.local, x.to, sock.Opening{TTL: x.ttl, Endures: true, Explains: true})
	if err != nil {
		return err
	}
	x.sent = time.Now()
	timeout := repeatsFrom
	if x.ttl > 0 {
		pending.SetTTL(fullTTL) // for the SYN-ACK
		timeout = holeTimeout
	}
	ctx, x.cancel = context.WithTimeout(ctx, timeout)
	x.waiting.Go(func() {
		low := time.AfterFunc(repeatsFrom, func() { pending.SetTTL(max(x.ttl, 1)) })
		defer low.Stop()
		high := time.AfterFunc(repeatsTo, func() { pending.SetTTL(fullTTL) })
		defer high.Stop()
		conn, err := pending.Wait(ctx)
		x.ended <- err
		if err == nil {
			x.d.welcome(conn) // the two SYNs met
		}
	})
	return nil
}

// cross sends the SYN a while after the server was asked, so that it is past
// the NAT when the server's comes. A busy machine may miss the moment.
func (x *half) cross(ctx context.Context, after time.Duration) error {
	asked := time.Now()
	if err := x.p.sleep(ctx, asked.Add(after).Sub(x.p.start)); err != nil {
		return err
	}
	if time.Since(asked) > after*3/2 {
		return errTooLate
	}
	return x.fire(ctx)
}

// trip is how long a packet takes to where the SYN goes, and back, if that was
// measured, or more.
func (x *half) trip() time.Duration {
	f := x.p.known()
	switch {
	case x.query.change == 0:
		return f.rtt
	case f.far.rtt == 0:
		return max(f.rtt, farthest)
	}
	return max(f.rtt, f.far.rtt)
}

// answer waits for what the SYN gets, as long as that takes.
func (x *half) answer(ctx context.Context) (Reply, error) {
	f := x.p.known()
	silent, wait := Silence, 2*x.trip()+250*time.Millisecond // a closed port answers at once, but not every machine
	walk := f.walk
	if len(f.far.walk) > 0 {
		walk = f.far.walk
	}
	if i := slices.IndexFunc(walk, func(h hop) bool { return h.ttl == x.ttl }); i >= 0 && walk[i].expired {
		silent, wait = ICMP, walk[i].after*3/2+10*time.Millisecond // the socket endures it
	}
	t := time.NewTimer(wait - time.Since(x.sent))
	defer t.Stop()
	select {
	case err := <-x.ended:
		return answered(err)
	case <-t.C:
		return x.late(silent)
	case <-ctx.Done():
		return ReplyUnknown, context.Cause(ctx)
	}
}

// late is an answer that has come by now, or else the one that was had.
func (x *half) late(had Reply) (Reply, error) {
	select {
	case err := <-x.ended:
		if sock.Classify(err) == sock.Timeout { // ours
			return had, nil
		}
		return answered(err)
	default:
		return had, nil
	}
}

// answered says what the end of our SYN's socket means.
func answered(err error) (Reply, error) {
	switch sock.Classify(err) {
	case sock.Refused, sock.Reset:
		return RST, nil
	case sock.Unreachable:
		return ICMP, nil
	}
	if err == nil {
		err = errAccepted
	}
	return ReplyUnknown, err
}

// ask asks for the dial back. Its SYN must not come while ours is repeated.
func (x *half) ask(ctx context.Context) (request, error) {
	rtt := x.trip()
	if !x.sent.IsZero() && x.ttl > 0 && time.Since(x.sent)+rtt+100*time.Millisecond > repeatsFrom {
		if err := x.p.sleep(ctx, x.sent.Add(repeatsTo).Sub(x.p.start)); err != nil {
			return request{}, err
		}
	}
	// One round trip, and time for a slow machine: it is blocked or it is not,
	// and no peer's path is longer.
	q := x.query
	q.patience = rtt + rtt/2 + 300*time.Millisecond
	return send(x.from, q)
}

// moved reports whether the SYN may have had another mapping than was thought.
func (x *half) moved(ctx context.Context) bool {
	if !x.reuses.IsValid() {
		return false
	}
	x.cancel()
	x.waiting.Wait() // the SYN's socket is gone, and its tuple free
	s, err := x.open(ctx, call{at: x.p.reserve(), local: x.local})
	return err != nil || s.mapped != x.reuses
}
