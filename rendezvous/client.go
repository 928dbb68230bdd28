package rendezvous

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"
)

// A ClientConfig says who a client is, where its servers are, and who hears
// of what happens. The hooks are called from the session's goroutine, one at
// a time, and must not block: neither Register nor another call that waits for
// the server may be made from them. All may be nil.
type ClientConfig struct {
	// Servers are those to choose from, at least one. Nodes meet only at the
	// same server, so all prefer the same: the first of the list that is there.
	Servers []ServerAddr
	Key     ed25519.PrivateKey // required
	// Dial connects to a server; nil is net.Dialer. It may bind the port that
	// holes will be punched from. The client owns the connection and, if it
	// has SetLinger, closes it with a RST so that the port is free at once.
	Dial    func(ctx context.Context, network, addr string) (net.Conn, error)
	RootCAs *x509.CertPool // for servers without a pin; nil: the system's
	Agent   string         // told to servers; may be empty
	// Token is asked for what lets the node in, before each session anew, so that
	// it may be another one by then. It may read a file. Its error ends the attempt;
	// another follows. Nil, or empty: there is none.
	Token   func() (string, error)
	Timeout time.Duration // for connecting with TLS and for a Welcome; half of it for a pong; 0: 10 s
	Return  time.Duration // how often a server is looked for that is listed before the one we are with; 0: 30 s
	Logger  *slog.Logger  // nil is silent

	// A session stands, over a connection that Dial returned. Nobody else is told
	// before it returns, so it must not wait for the session.
	OnSession func(Welcome, net.Conn)
	OnDown    func(error)                // a session ended, or none came about; the next attempt follows
	OnLost    func(id string, err error) // an ID that stood was given to someone else, and is not asked for again
	OnOffer   func(*Offer)               // somebody dials us; nil refuses all with CodePortClosed
}

func (cfg *ClientConfig) timeout() time.Duration { return span(cfg.Timeout, 10*time.Second) }

// patience is the time for a reply on a session that stands: TCP has sent the
// ping four or five times by then. A wrong guess costs no more than a handshake.
func (cfg *ClientConfig) patience() time.Duration { return cfg.timeout() / 2 }

// token returns what to show to a server, in a form that can be sent.
func (cfg *ClientConfig) token() (string, error) {
	if cfg.Token == nil {
		return "", nil
	}
	token, err := cfg.Token()
	if err != nil {
		return "", err
	}
	return token, (&hello{Token: token}).check()
}

// A Client keeps one session with one of its servers for as long as Run runs.
// All its methods are safe for concurrent use.
type Client struct {
	cfg ClientConfig

	mu      sync.Mutex               // guards following; taken before a session's mu
	info    *Info                    // nil: nothing to say
	ids     map[string]*registration // what is registered, or to be
	turn    context.CancelCauseFunc  // ends the present visit, or the wait after it; nil before Run
	current *clientSession           // has sent its Hello; nil if there is none
	welcome *Welcome                 // of current, when it stands
	changed chan struct{}            // closed when welcome or final is set; then a new one
	last    error                    // why the last attempt failed
	final   error                    // why there will be no more sessions
}

// NewClient returns a client, which does nothing before Run.
func NewClient(cfg ClientConfig) *Client {
	return &Client{cfg: cfg, ids: make(map[string]*registration), changed: make(chan struct{})}
}

// Run connects, keeps the session alive, and connects again when it is lost:
// at once and then ever more slowly, at random times, so that a server that
// comes back is not met by everybody together. A session with a server that is
// not the first one ends when one before it is there again. Run returns the error of ctx, or
// a *FinalError when no server is left that would ever have us; several are
// joined. It can be called once.
func (c *Client) Run(ctx context.Context) error {
	err := c.run(ctx)
	end := err
	if ctx.Err() != nil {
		end = fmt.Errorf("rendezvous: client stopped: %w", net.ErrClosed)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.final = end
	if c.turn != nil {
		c.turn(nil)
	}
	for _, r := range c.ids {
		r.settle(end)
	}
	close(c.changed)
	return err
}

func (c *Client) run(ctx context.Context) error {
	if len(c.cfg.Servers) == 0 {
		return &FinalError{Err: errors.New("no server is configured")}
	}
	cert, err := Certificate(c.cfg.Key)
	if err != nil {
		return &FinalError{Err: err}
	}
	r := round{servers: c.cfg.Servers}
	var refusals []error
	var ready *tls.Conn // to the server whose turn it is; nil: none yet
	for {
		turn := c.newTurn(ctx)
		v := c.visit(turn, &r, cert, ready)
		if ctx.Err() != nil {
			v.earlier.close()
			return ctx.Err()
		}
		c.down(r.server(), v.err)
		if final := asFinal(r.server(), v.err); final != nil && !v.outlived() {
			refusals = append(refusals, final)
			if !r.strike() {
				v.earlier.close()
				return joined(refusals)
			}
		}
		ready = nil
		switch {
		case turn.Err() != nil: // Reconnect
			v.earlier.close()
			r.restart()
		case v.earlier != nil:
			r.back(v.earlier.at, v)
			ready = v.earlier.conn
		case !sleep(turn, r.next(v)):
			r.restart()
		}
		if ctx.Err() != nil {
			if ready != nil {
				ready.NetConn().Close()
			}
			return ctx.Err()
		}
	}
}

// joined is errors.Join without a wrapper around a single error.
func joined(errs []error) error {
	if len(errs) == 1 {
		return errs[0]
	}
	return errors.Join(errs...)
}

// down records and reports the end of a visit.
func (c *Client) down(server ServerAddr, err error) {
	c.mu.Lock()
	c.last = err
	c.mu.Unlock()
	orSilent(c.cfg.Logger).Debug("session down", "remote", server.HostPort(), "err", err)
	if c.cfg.OnDown != nil {
		c.cfg.OnDown(err)
	}
}

// asFinal returns err as a *FinalError if trying again cannot help: the server
// is not the one we want, or does not want us.
func asFinal(server ServerAddr, err error) error {
	final := errors.Is(err, ErrPin) || errors.Is(err, ErrProtocol)
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		final = true
	}
	for _, code := range []Code{CodeVersion, CodeNotAllowed, CodeBadKey, CodeTokenRequired, CodeBadToken, CodeTokenExpired} {
		final = final || errors.Is(err, code)
	}
	// An alert has its number only in its text. Those of RFC 8446 section 6
	// that say that this client and this server will never agree:
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "remote error" {
		for _, alert := range []tls.AlertError{42, 43, 70, 116, 120} {
			final = final || op.Err.Error() == alert.Error()
		}
	}
	if !final {
		return nil
	}
	return &FinalError{Server: server, Err: err}
}

// Update sets what the node says about itself, now and on every later session.
// The client keeps info's slices; do not change them.
func (c *Client) Update(info Info) error {
	frame, err := encode(&info)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.info = &info
	if c.current != nil {
		c.current.link.send(frame) // queues, never waits
	}
	return nil
}

// Ready waits until a session stands and returns its Welcome. It returns the
// final error once there is one, and that of ctx together with ErrDisconnected
// and the reason for which there is no session yet.
func (c *Client) Ready(ctx context.Context) (Welcome, error) {
	s, err := c.session(ctx)
	if err != nil {
		return Welcome{}, err
	}
	return s.welcome, nil
}

// session waits for a session that stands.
func (c *Client) session(ctx context.Context) (*clientSession, error) {
	for {
		c.mu.Lock()
		s, final, changed := c.current, c.final, c.changed
		stands := c.welcome != nil
		c.mu.Unlock()
		switch {
		case final != nil:
			return nil, final
		case stands:
			return s, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, c.because(ctx.Err())
		}
	}
}

// because adds to a caller's own error what kept the client from a session.
func (c *Client) because(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.welcome != nil:
		return fmt.Errorf("rendezvous: the server does not answer: %w", err)
	case c.last == nil:
		return lost(err)
	}
	return fmt.Errorf("%w (%w)", lost(err), c.last)
}
