package rendezvous

import (
	"context"
	"crypto/tls"
	"errors"
	"math/rand/v2"
	"sync"
	"time"
)

var (
	errReconnect = errors.New("the network changed")
	errEarlier   = errors.New("a server that is preferred is there again")
)

// newTurn returns the context of one visit and the wait after it, which
// Reconnect ends.
func (c *Client) newTurn(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancelCause(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.turn != nil {
		c.turn(nil) // is over
	}
	c.turn = cancel
	return ctx
}

// Reconnect ends the session, or the attempt to make one, or the wait for the
// next attempt, and connects at once, to the first server first. It is for when
// the network is another one: a path that is gone would be noticed at the next
// keepalive. It does not wait.
func (c *Client) Reconnect() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.turn != nil {
		c.turn(errReconnect) // has others do the work
	}
}

// Check asks the server for a sign of life now, not at the next keepalive. If
// none comes the session ends, and another is made. It does not wait.
func (c *Client) Check() {
	c.mu.Lock()
	s, stands := c.current, c.welcome != nil
	c.mu.Unlock()
	if stands {
		s.await()
		s.send(&ping{})
	}
}

// A lookout looks for the servers that are listed before the one that a
// session is with, so that all nodes meet at the same one again.
type lookout struct {
	client  *Client
	servers []ServerAddr
	cert    tls.Certificate
	every   time.Duration
	found   func() // called when arrival is set

	cancel  context.CancelFunc
	running sync.WaitGroup
	arrival *arrival // set by run; nil: none was there
}

// arrival is a connection to a server to go on with.
type arrival struct {
	at   int // in the list
	conn *tls.Conn
}

func (a *arrival) close() {
	if a != nil {
		a.conn.NetConn().Close()
	}
}

// lookOut starts one for the round's server; nil if it is the first.
func (c *Client) lookOut(ctx context.Context, r *round, cert tls.Certificate, found func()) *lookout {
	if r.at == 0 {
		return nil
	}
	l := &lookout{client: c, servers: r.servers[:r.at], cert: cert, found: found,
		every: span(c.cfg.Return, 30*time.Second) << r.relapses}
	ctx, l.cancel = context.WithCancel(ctx)
	l.running.Go(func() { l.run(ctx) })
	return l
}

// run ends with end, or when it has found one.
func (l *lookout) run(ctx context.Context) {
	// At random times, so that a server that is back is not met by all at once.
	for sleep(ctx, l.every/2+rand.N(l.every/2+1)) {
		for i, server := range l.servers {
			conn, _, err := l.client.connect(ctx, server, l.cert)
			if err == nil {
				l.arrival = &arrival{i, conn}
				l.found()
				return
			}
		}
	}
}

// end stops looking and returns what was found.
func (l *lookout) end() *arrival {
	if l == nil {
		return nil
	}
	l.cancel()
	l.running.Wait()
	return l.arrival
}
