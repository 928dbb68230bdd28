package stuntd

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/gostunt/stunt/relay"
	"github.com/gostunt/stunt/rendezvous"
)

// Relay says whether and how a server carries the bytes of peers that can't
// reach each other. The zero value does, for the dials that it introduces.
type Relay struct {
	// Off: it does not. Others may, see At.
	Off bool

	// Only: it does nothing else. Sessions are refused; tickets come from
	// servers with the same secret.
	Only bool

	// At holds the relays at other servers, host:port each, that nodes are
	// told of; they choose the one with the shortest way. They need to have
	// the same secret. At most [rendezvous.MaxRelays], with this one.
	At []string

	// SecretFile holds what servers sign tickets with, where several share it:
	// 32 characters or more, that nobody can guess. Their clocks must agree
	// within a minute. Empty: a random one, which ends with the process.
	SecretFile string

	// Limits bound what it carries; see there for the zero value.
	Limits relay.Limits
}

// check returns what is wrong with the configuration by itself.
func (r *Relay) check() error {
	_, err := r.Limits.WithDefaults()
	switch {
	case err != nil:
		return err
	case r.Only && r.Off:
		return errors.New("a server that only relays, and does not")
	case r.SecretFile == "" && (r.Only || len(r.At) > 0):
		return errors.New("relays at several servers need a secret that they share")
	case len(r.At) >= rendezvous.MaxRelays:
		return fmt.Errorf("%d other relays, at most %d are allowed", len(r.At), rendezvous.MaxRelays-1)
	}
	for _, a := range r.At {
		if _, port, err := net.SplitHostPort(a); err != nil || port == "" || len(a) > rendezvous.MaxText {
			return fmt.Errorf("relay %q is not host:port", a)
		}
	}
	return nil
}

// secret returns what tickets are signed with.
func (r *Relay) secret() (relay.Secret, error) {
	if r.SecretFile == "" {
		return relay.NewSecret(), nil
	}
	b, err := os.ReadFile(r.SecretFile)
	if err != nil {
		return relay.Secret{}, err
	}
	s, err := relay.ParseSecret(b)
	if err != nil {
		err = fmt.Errorf("%s: %w", r.SecretFile, err)
	}
	return s, err
}

// relays returns the relays that nodes are told of. This one is reached where they
// reach the server; its name is for other servers to name it by, too.
func (s *Server) relays(r *Relay) []string {
	if r.Off {
		return r.At
	}
	here, _, _ := strings.Cut(s.address, "#")
	if _, err := netip.ParseAddrPort(here); err != nil { // a name, which may go without its port
		as, err := rendezvous.ParseServers(here)
		if err == nil {
			here = as[0].HostPort()
		}
	}
	return append([]string{rendezvous.RelayHere + here}, r.At...)
}

// wireRelay makes the relay, and the tickets for it and those of others.
func (s *Server) wireRelay(r *Relay, secret relay.Secret) {
	if relays := s.relays(r); len(relays) > 0 && !r.Only {
		s.meet.Relays = relays
		s.meet.Tickets = func(id rendezvous.DialID, caller, callee ed25519.PublicKey) (a, b []byte) {
			return secret.Tickets(id, caller, callee, time.Now())
		}
	}
	if !r.Off {
		s.relay = &relay.Server{Secret: secret, Limits: r.Limits, Logger: s.log,
			Full: func() bool { return s.mux.door.memory.strain() >= noRelays }}
		s.mux.relay = s.relay
	}
}

// drainRelay lets nobody meet at the relay any more, and ends the pairs that
// are still there when Config.Drain or ctx is over. What it returns is closed
// when there are none.
func (s *Server) drainRelay(ctx context.Context) <-chan struct{} {
	done := make(chan struct{})
	if s.relay == nil {
		close(done)
		return done
	}
	ctx, cancel := context.WithTimeout(ctx, s.drain)
	go func() { // ends with ctx at the latest; Shutdown waits
		defer close(done)
		defer cancel()
		s.relay.Shutdown(ctx)
	}()
	return done
}

// RelayStats returns what the relay has done; zero if there is none.
func (s *Server) RelayStats() relay.Stats {
	if s.relay == nil {
		return relay.Stats{}
	}
	return s.relay.Stats()
}
