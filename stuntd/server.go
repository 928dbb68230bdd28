// Package stuntd is the server that stunt nodes meet at, as a program ([Main])
// and for use in another ([Start]). On one TCP port it speaks STUN, to nodes
// that ask what their NAT does, TLS: sessions of nodes (ALPN "stunt/1",
// package rendezvous) and HTTP (/healthz), and relays for those that can't
// reach each other (package relay).
//
// This package is flags, limits and wiring; the protocols are in packages
// rendezvous, probe and relay.
package stuntd

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/time/rate"

	"github.com/gostunt/stunt/internal/sock"
	"github.com/gostunt/stunt/probe"
	"github.com/gostunt/stunt/relay"
	"github.com/gostunt/stunt/rendezvous"
	"github.com/gostunt/stunt/stuntd/cluster"
	"github.com/gostunt/stunt/stuntd/status"
)

// A Server is a running server. All methods may be called from any goroutine.
type Server struct {
	log       *slog.Logger
	address   string
	listeners []*net.TCPListener
	mux       *mux
	meet      *rendezvous.Server
	stun      *probe.Server
	relay     *relay.Server // nil: it does not
	board     *status.Board
	health    *health
	admin     *webServer // nil: none
	adminAddr netip.AddrPort
	acme      *acmeCert // that answers an authority over HTTP; nil: none does
	reload    *reloader
	bus       *cluster.Bus       // to the other servers; nil: it is alone
	leave     func()             // them; nil: it has not joined them
	stop      context.CancelFunc // ends everything that is not asked to leave first
	drain     time.Duration
}

// Start starts a server. Its listeners are open when Start returns, and were
// opened on the calling goroutine. The caller ends it with [Server.Shutdown]
// or [Server.Close].
func Start(cfg Config) (*Server, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	s := &Server{log: cfg.logger(), stop: stop, drain: cfg.drain()}
	if err := s.open(ctx, &cfg); err != nil {
		s.abandon()
		return nil, err
	}
	if len(s.reload.files) > 0 {
		s.mux.wg.Go(func() { s.reload.run(ctx) })
	}
	s.mux.wg.Go(s.health.web.run)
	for _, ln := range s.listeners {
		s.mux.run(ctx, ln)
		s.log.Info("listening", "local", ln.Addr())
	}
	return s, nil
}

// open takes all that a server needs of the machine, and of the other servers.
func (s *Server) open(ctx context.Context, cfg *Config) error {
	network := &sock.Net{Open: cfg.Open}
	if err := s.listen(ctx, network, cfg.listen()); err != nil {
		return err
	}
	// After listening, so that of two servers that were started with the same
	// state only the one that runs makes a key.
	cert, err := cfg.certificate(s.log)
	if err != nil {
		return err
	}
	pub, err := s.name(cfg, cert, network)
	if err != nil {
		return err
	}
	gate, rules, err := cfg.gate()
	if err != nil {
		return err
	}
	secret, together, err := cfg.secrets()
	if err != nil {
		return err
	}
	limits, _ := cfg.Limits.withDefaults() // checked
	s.wire(network, pub, fitFiles(limits, s.log), cfg)
	s.mux.tls = serverTLS(cert.get, !cfg.Relay.Only)
	s.reload = newReloader(s.log, cert.file, rules)
	if err := s.keepRecords(ctx, cfg); err != nil {
		return err
	}
	s.meet.Admit = s.admission(gate) // which goes through the names that were kept
	s.wireRelay(&cfg.Relay, secret)
	if cfg.Cluster.Name != "" {
		if err := s.lend(ctx, pub, network); err != nil {
			return err
		}
	}
	s.newBoard(cert)
	if err := s.join(&cfg.Cluster, together); err != nil {
		return err
	}
	if err := s.openAdmin(ctx, network, &cfg.Admin, cert.get); err != nil {
		return err
	}
	if cert.acme != nil {
		return s.startACME(ctx, network, cert.acme)
	}
	return nil
}

// abandon ends a server that open has not brought about.
func (s *Server) abandon() {
	s.stop()
	s.closeListeners()
	s.closeAdmin()
	s.closeACME()
	if s.meet != nil {
		s.meet.Close()
	}
	s.leaveCluster()
}

// name finds out what clients call the server, and sets its address.
func (s *Server) name(cfg *Config, cert *certSource, network *sock.Net) (public, error) {
	own, err := network.Prefixes()
	if err != nil {
		return public{}, err
	}
	pub, err := parsePublic(cfg.Public, own)
	if err != nil {
		return public{}, err
	}
	var first *tls.Certificate // none by acme yet; an authority's needs no pin
	if cert.acme == nil {
		if first, err = cert.get(nil); err != nil {
			return public{}, err
		}
	} else if pub.host == "" {
		pub.host = cert.acme.Hosts[0]
	}
	s.address, err = pub.address(s.Addrs(), first, own)
	return pub, err
}

// listen opens the listeners, all or an error.
func (s *Server) listen(ctx context.Context, network *sock.Net, addrs []string) error {
	for _, addr := range addrs {
		ln, err := network.ListenExclusive(ctx, addr)
		if err != nil {
			if sock.Classify(err) == sock.AddrInUse {
				err = fmt.Errorf("%w (is another stuntd or STUN server running?)", err)
			}
			return err
		}
		s.listeners = append(s.listeners, ln)
	}
	return nil
}

// wire connects the protocols with the port.
func (s *Server) wire(network *sock.Net, pub public, l Limits, cfg *Config) {
	turns := newTurns()
	s.meet = &rendezvous.Server{
		Logger:     s.log,
		Agent:      "stuntd " + version(),
		Drain:      cfg.drain(),
		Keepalive:  cfg.Keepalive,
		Hold:       cfg.NameHold,
		ReturnRate: cmp.Or(cfg.ReturnRate, DefaultReturnRate*cap(turns)),
		Limits: rendezvous.Limits{
			Handshakes:           -1, // ours are done before theirs begin
			SessionsPerSource:    max(1, l.ConnsPerSource*3/4),
			IDsPerKey:            l.IDsPerKey,
			SessionsPerKey:       l.SessionsPerKey,
			DialRate:             l.DialRate,
			PendingDials:         l.PendingDials,
			MessageRate:          l.MessageRate,
			MessageRatePerSource: l.MessageRatePerSource,
		},
	}
	s.stun = &probe.Server{
		Alternates: s.Addrs(),
		Public:     pub.outside,
		Software:   "stuntd",
		Net:        network,
		Logger:     s.log,
	}
	s.health = newHealth(s.Addrs()[0], s.log)
	s.mux = &mux{
		door:    newDoor(l, newMemory(l.memory(), s.log)),
		quota:   newQuota(l),
		turns:   turns,
		log:     s.log,
		warn:    rate.Sometimes{Interval: quiet},
		stun:    s.stun.ServeConn,
		session: func(ctx context.Context, c *tls.Conn) { s.meet.ServeConn(ctx, c) }, // logs why not; Shutdown ends it
		web:     s.health.serve,
	}
}

// Addrs returns what the server listens on, in the order of Config.Listen.
func (s *Server) Addrs() []netip.AddrPort {
	addrs := make([]netip.AddrPort, len(s.listeners))
	for i, ln := range s.listeners {
		addrs[i] = sock.AddrPort(ln.Addr())
	}
	return addrs
}

// Address returns the server's address as nodes take it, with the pin of its
// certificate unless that can be verified by name.
func (s *Server) Address() string { return s.address }

// Shutdown stops listening, asks the sessions to leave and ends when all have,
// and all relayed connections have ended, or when Config.Drain or ctx is over.
// Nothing of the server runs when it returns; the error is that of ctx if it
// came first. It may be called again.
func (s *Server) Shutdown(ctx context.Context) error {
	s.closeListeners()
	s.log.Info("stopping", "sessions", s.meet.Sessions())
	// STUN connections live until the sessions have left: they hold the
	// mappings of dials that are under way.
	drained := s.drainRelay(ctx)
	err := s.meet.Shutdown(ctx)
	s.leaveCluster()
	<-drained
	s.stop()
	s.health.close()
	s.closeAdmin()
	s.closeACME()
	s.mux.wg.Wait()
	s.log.Info("stopped")
	return err
}

// Close ends the server at once. The error is nil.
func (s *Server) Close() error {
	s.stop()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	s.Shutdown(ctx) // fails only because ctx is over
	return nil
}

func (s *Server) closeListeners() {
	for _, ln := range s.listeners {
		ln.Close()
	}
}

// serverTLS returns the TLS of the port: sessions show a client certificate,
// others are not asked for one. Without sessions, who wants one learns in the
// handshake that there is no such protocol here.
func serverTLS(cert getCertificate, sessions bool) *tls.Config {
	session := rendezvous.ServerTLS(tls.Certificate{})
	session.Certificates, session.GetCertificate = nil, cert
	web := session.Clone()
	web.ClientAuth, web.NextProtos = tls.NoClientCert, []string{protoHTTP}
	both := web.Clone()
	question := web.Clone() // of an authority: asksACME
	question.MinVersion, question.NextProtos = tls.VersionTLS12, []string{protoACME}
	both.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if asksACME(hello) {
			return question, nil
		}
		if sessions && slices.Contains(hello.SupportedProtos, protoSession) {
			return session, nil
		}
		return web, nil
	}
	return both
}
