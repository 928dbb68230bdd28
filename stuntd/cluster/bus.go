// Package cluster connects the servers of one cluster over NATS: it implements
// [rendezvous.Bus]. The NATS server is part of the program ([Config.Routes]), or
// one that runs already ([Config.URLs]); the code is the same.
//
// Core NATS only: nothing is stored, and a message to a server that is not there
// is lost. What servers have in common is package rendezvous's business.
package cluster

import (
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/gostunt/stunt/rendezvous"
)

const (
	// backlog is how many messages may wait for us to hear them; what comes on
	// top is lost. It is what another server says at once when it has a hundred
	// thousand nodes, several times over.
	backlog = 16 << 10

	// silence is what a connection to a NATS server may take to answer a ping;
	// two are sent before it is given up.
	silence = 2 * time.Second
)

// A Bus is a server's connection to the others. Its methods may be called from
// any goroutine.
type Bus struct {
	log    *slog.Logger
	prefix string // of all subjects
	inbox  string // subject of the answers to us, and a dot
	server *server.Server
	conn   *nats.Conn
	heard  chan *nats.Msg // capacity backlog; never closed
	stop   chan struct{}  // closed by Close
	ended  chan struct{}  // closed by run
	closed sync.Once

	mu    sync.Mutex        // guards following
	hears map[string]hearer // by subject
	asked map[uint64]*question
	last  uint64
}

// A hearer is called with a message, and with what answers it.
type hearer = func(message []byte, reply func([]byte))

// A question waits for an answer.
type question struct {
	done  func([]byte, error)
	timer *time.Timer
}

// errUnanswered ends an Ask.
var errUnanswered = errors.New("another server does not answer")

// Start connects. With a NATS server of its own it does not wait for the others;
// nor for another one's that is not there: both are tried until Close. logger
// may be nil.
func Start(cfg Config, logger *slog.Logger) (_ *Bus, err error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	b := &Bus{log: logger, prefix: "stunt." + cfg.Name + ".", heard: make(chan *nats.Msg, backlog), stop: make(chan struct{}), ended: make(chan struct{}),
		hears: make(map[string]hearer), asked: make(map[uint64]*question)}
	opts := nats.GetDefaultOptions()
	opts.Name = "stuntd"
	opts.NoEcho = true
	opts.PingInterval, opts.MaxPingsOut = silence, 2
	opts.MaxReconnect, opts.ReconnectWait = -1, silence/8
	opts.ReconnectBufSize = -1 // what can't be sent now is not worth sending later
	opts.FlusherTimeout = silence
	opts.AsyncErrorCB = func(_ *nats.Conn, _ *nats.Subscription, err error) { logger.Warn("cluster", "err", err) }
	opts.DisconnectedErrCB = func(_ *nats.Conn, err error) {
		if err != nil { // nil: Close
			logger.Warn("cluster: disconnected", "err", err)
		}
	}
	opts.ReconnectedCB = func(c *nats.Conn) { logger.Info("cluster: connected", "remote", c.ConnectedUrlRedacted()) }
	if len(cfg.URLs) > 0 {
		opts.Servers = cfg.URLs
		opts.RetryOnFailedConnect = true
		if err := cfg.files(&opts); err != nil {
			return nil, err
		}
	} else if b.server, opts.Token, err = embed(&cfg, logger); err != nil {
		return nil, err
	} else {
		opts.InProcessServer = b.server
		opts.Servers = []string{b.server.ClientURL()}
	}
	if b.conn, err = opts.Connect(); err == nil {
		inbox := nats.NewInbox()
		b.inbox = inbox + "."
		_, err = b.conn.ChanSubscribe(inbox+".*", b.heard)
	}
	go b.run()
	if err != nil {
		b.Close()
		return nil, fmt.Errorf("cluster: %w", err)
	}
	return b, nil
}

// files has a client of NATS use the files that are named for it.
func (c *Config) files(opts *nats.Options) (err error) {
	if c.Credentials != "" {
		err = nats.UserCredentials(c.Credentials)(opts)
	}
	if err == nil && c.CAFile != "" {
		err = nats.RootCAs(c.CAFile)(opts)
	}
	if err == nil && c.CertFile != "" {
		err = nats.ClientCert(c.CertFile, c.KeyFile)(opts)
	}
	return err
}

// Close ends the connection. Nothing of it runs when it returns, and nobody is
// called any more.
func (b *Bus) Close() {
	b.closed.Do(func() {
		if b.conn != nil {
			b.conn.Close()
		}
		if b.server != nil {
			b.server.Shutdown()
			b.server.WaitForShutdown()
		}
		b.mu.Lock()
		for _, q := range b.asked {
			q.timer.Stop()
		}
		b.asked = nil
		b.mu.Unlock()
		close(b.stop)
		<-b.ended
	})
}

// Listen implements [rendezvous.Bus].
func (b *Bus) Listen(subject string, hear func(message []byte, reply func([]byte))) (stop func(), err error) {
	subject = b.prefix + subject
	b.mu.Lock()
	b.hears[subject] = hear
	b.mu.Unlock()
	forget := func() {
		b.mu.Lock()
		delete(b.hears, subject)
		b.mu.Unlock()
	}
	sub, err := b.conn.ChanSubscribe(subject, b.heard)
	if err != nil {
		forget()
		return nil, err
	}
	return func() {
		forget()
		sub.Unsubscribe() // fails if the connection is closed
	}, nil
}

// Send implements [rendezvous.Bus].
func (b *Bus) Send(subject string, message []byte) error {
	return b.conn.Publish(b.prefix+subject, message)
}

// Ask implements [rendezvous.Bus].
func (b *Bus) Ask(subject string, message []byte, patience time.Duration, done func([]byte, error)) {
	b.mu.Lock()
	if b.asked == nil {
		b.mu.Unlock()
		return // closed
	}
	b.last++
	number := b.last
	b.asked[number] = &question{done: done, timer: time.AfterFunc(patience, func() { b.answer(number, nil, errUnanswered) })}
	b.mu.Unlock()
	if err := b.conn.PublishRequest(b.prefix+subject, b.inbox+strconv.FormatUint(number, 36), message); err != nil {
		b.answer(number, nil, err)
	}
}

// answer ends an Ask, once.
func (b *Bus) answer(number uint64, message []byte, err error) {
	b.mu.Lock()
	q := b.asked[number]
	delete(b.asked, number)
	b.mu.Unlock()
	if q != nil {
		q.timer.Stop()
		q.done(message, err)
	}
}

// run hears all messages, one after the other. Close ends it and waits.
func (b *Bus) run() {
	defer close(b.ended)
	for {
		select {
		case <-b.stop:
			return
		case m := <-b.heard:
			b.hear(m)
		}
	}
}

func (b *Bus) hear(m *nats.Msg) {
	if text, ok := strings.CutPrefix(m.Subject, b.inbox); ok {
		if number, err := strconv.ParseUint(text, 36, 64); err == nil {
			b.answer(number, m.Data, status(m))
		}
		return
	}
	b.mu.Lock()
	hear := b.hears[m.Subject]
	b.mu.Unlock()
	switch {
	case hear == nil: // not any more
	case m.Reply == "":
		hear(m.Data, nil)
	default:
		hear(m.Data, func(answer []byte) { b.conn.Publish(m.Reply, answer) }) // fails if the connection is closed
	}
}

// status returns the error that a NATS server has answered with, or nil.
func status(m *nats.Msg) error {
	const noResponders = "503" // of ADR-4
	switch s := m.Header.Get("Status"); {
	case s == noResponders && len(m.Data) == 0:
		return rendezvous.ErrNobody
	case s != "":
		return fmt.Errorf("cluster: status %s", s)
	}
	return nil
}
