package turn

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/pion/stun/v3"
)

// exchange sends a request over some connection and returns its answer.
type exchange func(ctx context.Context, req *stun.Message) (*stun.Message, error)

// maxTries bounds how often a request is signed anew: once for the server's
// first word, and once if its nonce has just become stale.
const maxTries = 3

// ask makes a request and returns the answer if it is a success.
func ask(ctx context.Context, via exchange, c *credentials, method stun.Method, attrs ...stun.Setter) (*stun.Message, error) {
	for try := 1; ; try++ {
		req, key, err := c.request(method, attrs)
		if err != nil {
			return nil, err
		}
		m, err := via(ctx, req)
		switch {
		case err != nil:
			return nil, err
		case m.Type == stun.NewType(method, stun.ClassSuccessResponse):
			return m, verified(m, key)
		case m.Type != stun.NewType(method, stun.ClassErrorResponse):
			return nil, errBadMessage
		}
		refused := refusal(m)
		stale := refused.Code == int(stun.CodeUnauthorized) || refused.Code == int(stun.CodeStaleNonce)
		if !stale || !c.challenged(m) || try == maxTries {
			return nil, refused
		}
	}
}

// control is the connection that an allocation lives and dies with.
type control struct {
	conn    net.Conn
	timeout time.Duration
	attempt func(*stun.Message) // gets every ConnectionAttempt; must not block
	life    context.Context     // ends with the connection, for a cause
	end     context.CancelCauseFunc
	writing chan struct{} // capacity 1: full while somebody writes

	mu      sync.Mutex // guards following
	waiting map[[stun.TransactionIDSize]byte]chan *stun.Message
}

func newControl(conn net.Conn, timeout time.Duration, attempt func(*stun.Message)) *control {
	c := &control{conn: conn, timeout: timeout, attempt: attempt, writing: make(chan struct{}, 1),
		waiting: make(map[[stun.TransactionIDSize]byte]chan *stun.Message)}
	c.life, c.end = context.WithCancelCause(context.Background())
	return c
}

// lost ends the connection; the first cause stays.
func (c *control) lost(cause error) {
	c.end(cause)
	c.conn.Close()
}

// run reads until the connection ends.
func (c *control) run() {
	for {
		m, err := readMessage(c.conn)
		if err != nil {
			c.lost(fmt.Errorf("%w: %w", errLost, err))
			return
		}
		if m.Type == stun.NewType(stun.MethodConnectionAttempt, stun.ClassIndication) {
			c.attempt(m)
			continue
		}
		c.mu.Lock()
		answer := c.waiting[m.TransactionID]
		delete(c.waiting, m.TransactionID) // a second answer is for nobody
		c.mu.Unlock()
		if answer != nil {
			answer <- m // has room for one
		}
	}
}

// exchange is one over this connection, of several at a time.
func (c *control) exchange(ctx context.Context, req *stun.Message) (*stun.Message, error) {
	answer := make(chan *stun.Message, 1)
	c.mu.Lock()
	c.waiting[req.TransactionID] = answer
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.waiting, req.TransactionID)
	}()
	if err := c.write(ctx, req.Raw); err != nil {
		return nil, err
	}
	select {
	case m := <-answer:
		return m, nil
	case <-c.life.Done():
		return nil, context.Cause(c.life)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// write writes a message, whole or else the connection is lost.
func (c *control) write(ctx context.Context, raw []byte) error {
	select {
	case c.writing <- struct{}{}:
	case <-c.life.Done():
		return context.Cause(c.life)
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-c.writing }()
	c.conn.SetWriteDeadline(time.Now().Add(c.timeout))
	if _, err := c.conn.Write(raw); err != nil {
		c.lost(fmt.Errorf("%w: %w", errLost, err))
		return context.Cause(c.life)
	}
	return nil
}

// over is an exchange over a connection that nobody else uses yet. The
// connection's deadline bounds it.
func over(conn net.Conn) exchange {
	return func(_ context.Context, req *stun.Message) (*stun.Message, error) {
		if _, err := conn.Write(req.Raw); err != nil {
			return nil, err
		}
		m, err := readMessage(conn)
		if err == nil && m.TransactionID != req.TransactionID {
			err = errBadMessage
		}
		return m, err
	}
}
