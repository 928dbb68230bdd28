package cluster

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"golang.org/x/time/rate"
)

// startTime bounds the start of the server in the program, which takes some
// milliseconds.
const startTime = 10 * time.Second

// embed starts a NATS server in the program. Clients of it need the token.
func embed(cfg *Config, log *slog.Logger) (_ *server.Server, token string, err error) {
	listen := cfg.Listen
	if listen == "" {
		listen = DefaultListen
	}
	host, port, err := splitListen(listen)
	if err != nil {
		return nil, "", err
	}
	tlsConfig, err := cfg.tls()
	if err != nil {
		return nil, "", err
	}
	token = rand.Text()
	opts := &server.Options{
		// With DontListen the routes would never start. So it listens where nobody
		// but this machine can come, and nobody knows the token.
		Host: "127.0.0.1", Port: server.RANDOM_PORT, Authorization: token,
		NoSigs: true,
		Cluster: server.ClusterOpts{
			Name: cfg.Name, Host: host, Port: port, TLSConfig: tlsConfig, TLSTimeout: 5,
			// A server that has gone without a word costs each other a timeout until
			// its route is given up: after three pings.
			PingInterval: silence, MaxPingsOut: 2,
		},
	}
	for _, r := range cfg.Routes {
		opts.Routes = append(opts.Routes, &url.URL{Scheme: "nats", Host: r})
	}
	s, err := server.NewServer(opts)
	if err != nil {
		return nil, "", fmt.Errorf("cluster: %w", err)
	}
	l := &logger{log: log, warn: rate.Sometimes{Interval: 10 * time.Second}}
	s.SetLoggerV2(l, false, false, false)
	s.Start()
	if err := ready(s, l); err != nil {
		s.Shutdown()
		s.WaitForShutdown()
		return nil, "", fmt.Errorf("cluster: %w", err)
	}
	return s, token, nil
}

// ready waits until a server listens. That it can't it only logs.
func ready(s *server.Server, l *logger) error {
	for begin := time.Now(); time.Since(begin) < startTime; {
		up := s.ReadyForConnections(startTime / 100)
		if err := l.fatal(); err != nil {
			return err
		}
		if up {
			return nil
		}
	}
	return errors.New("the NATS server does not start")
}

// splitListen returns host and port as NATS takes them: port 0, any, is -1 there.
func splitListen(listen string) (string, int, error) {
	host, text, err := net.SplitHostPort(listen)
	if err != nil {
		return "", 0, fmt.Errorf("cluster: %w", err)
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("cluster: the port of %q is not a number", listen)
	}
	if host == "" {
		host = server.DEFAULT_HOST
	}
	if port == 0 {
		return host, server.RANDOM_PORT, nil
	}
	return host, int(port), nil
}

// Addr returns where other servers reach this one, or nil if it uses a NATS server
// of somebody else's.
func (b *Bus) Addr() net.Addr {
	if b.server == nil {
		return nil
	}
	return b.server.ClusterAddr()
}

// A logger takes what a NATS server has to say. Its warnings and errors are about
// routes, and come again and again while one does not stand; that servers come
// and go is logged elsewhere.
type logger struct {
	log  *slog.Logger
	warn rate.Sometimes

	mu  sync.Mutex // guards following
	err error      // the first fatal one
}

func (l *logger) fatal() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// Fatalf keeps the error: the program is not NATS's to end.
func (l *logger) Fatalf(format string, v ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err = fmt.Errorf(format, v...)
	}
}

func (l *logger) Errorf(format string, v ...any) {
	l.warn.Do(func() { l.log.Warn("cluster", "err", fmt.Sprintf(format, v...)) })
}

func (l *logger) Warnf(format string, v ...any) {
	l.log.Debug("cluster", "err", fmt.Sprintf(format, v...))
}

func (l *logger) Noticef(format string, v ...any) {
	l.log.Debug("cluster: " + fmt.Sprintf(format, v...))
}

func (l *logger) Debugf(string, ...any) {}
func (l *logger) Tracef(string, ...any) {}
