package stunt

import (
	"context"
	"time"

	"github.com/gostunt/stunt/internal/punch"
	"github.com/gostunt/stunt/internal/secure"
	"github.com/gostunt/stunt/internal/sock"
	"github.com/gostunt/stunt/rendezvous"
)

// upgrade is a connection that began over a relay, and whose race goes on for a
// direct path: one end's part in it.
type upgrade struct {
	node     *Node
	conn     *Conn // on the path that it has now: one that it is given later is not ours to move
	race     *punch.Race
	slot     *slot // dialer: to be released
	began    time.Time
	step     func(Step)
	conclude func(rendezvous.Outcome) // of the dial, whose method is known now
}

// start has the connection followed until it has moved or can't any more, it is
// closed, or the node is, which ends its races. The program has it meanwhile.
func (u upgrade) start() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	u.conn.mu.Lock()
	u.conn.settle = func() {
		cancel()
		<-done
	}
	records := u.conn.records
	u.conn.mu.Unlock()
	u.node.wg.Go(func() { // as above
		defer cancel()
		u.run(ctx, records, done)
	})
}

// run closes done when the connection stays where it is.
func (u upgrade) run(ctx context.Context, records *secure.Conn, done chan<- struct{}) {
	p, err := u.race.Upgrade(ctx)
	if err == nil {
		if err = u.conn.move(records, p, attempts(u.race.Tries(), u.began), time.Since(u.began)); err != nil {
			p.Conn.Close() // the connection has ended
		}
	}
	close(done)
	kept, method := u.conn, punch.Relay
	switch {
	case err == nil:
		method = u.race.Cheapest(p)
		u.node.log.Debug("goes on directly", "phase", "move", "peer", u.conn.peer, "remote", p.Remote, "method", p.Method)
		u.step(Step{Phase: PhaseMoved, Remote: p.Remote, Method: p.Method})
	case ctx.Err() != nil, u.node.life.Err() != nil: // it was too short to tell what such a pair needs
		kept, method = nil, ""
	default:
		kept = nil
		u.node.log.Debug("stays on the relay", "phase", "move", "peer", u.conn.peer, "err", err)
	}
	u.conclude(rendezvous.Outcome{OK: true, Method: string(method), Elapsed: time.Since(u.began)})
	if u.slot != nil {
		u.node.keep(u.race, u.slot, kept)
	}
}

// move takes the connection to another path, on which the peer has agreed.
func (c *Conn) move(records *secure.Conn, p *punch.Path, tried []Attempt, after time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	keepAlive(p.Conn)
	if err := records.Move(p.Conn); err != nil {
		return err
	}
	c.path.Method, c.path.Relay, c.path.NoDirect = p.Method, "", ""
	c.path.Local, c.path.Remote, c.path.Accepted = sock.AddrPort(p.Conn.LocalAddr()), p.Remote, p.Accepted
	c.path.Attempts, c.path.Timing.Moved = tried, after
	return nil
}
