package turn

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"time"
)

// Config says which server to use, and as whom.
type Config struct {
	Server string      // host or host:port; the port is 3478, or 5349 with TLS. Required
	TLS    *tls.Config // nil: plain TCP. ServerName is the host of Server unless it is set

	// Username and Password are long-term credentials. Empty: the server is
	// expected to ask for none.
	Username, Password string

	// Dial makes the TCP connections to the server; nil is net.Dialer.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)

	// Timeout bounds each connect to the server and each answer of it, but for
	// that on a peer, which may take half a minute; 0: 10 s. A server that does
	// not answer in time has ended the allocation.
	Timeout time.Duration

	Logger *slog.Logger // Debug only; nil is silent
}

func (c *Config) timeout() time.Duration {
	if c.Timeout == 0 {
		return 10 * time.Second
	}
	return c.Timeout
}

func (c *Config) logger() *slog.Logger {
	if c.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return c.Logger
}

// hostPort returns the server's address with its port, and its host.
func (c *Config) hostPort() (addr, host string) {
	if host, _, err := net.SplitHostPort(c.Server); err == nil {
		return c.Server, host
	}
	port := "3478"
	if c.TLS != nil {
		port = "5349"
	}
	return net.JoinHostPort(c.Server, port), c.Server
}

// connect makes a connection to the server at addr, in time.
func (c *Config) connect(ctx context.Context, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout())
	defer cancel()
	dial := c.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	conn, err := dial(ctx, "tcp", addr)
	if err != nil || c.TLS == nil {
		return conn, err
	}
	cfg := c.TLS.Clone()
	if cfg.ServerName == "" {
		_, cfg.ServerName = c.hostPort()
	}
	secured := tls.Client(conn, cfg)
	if err := secured.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, err
	}
	return secured, nil
}
