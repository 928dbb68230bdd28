package stuntd

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// DefaultListen is the address of a server that was given none: the port of
// STUN (RFC 8489 section 18.6), all addresses, both families.
const DefaultListen = ":3478"

// Config says what a server does. The zero value works: it listens on
// [DefaultListen] and keeps a self-signed certificate in the user's own
// configuration directory.
type Config struct {
	// Listen holds the TCP addresses to listen on, host:port each. Two IPs
	// and the same two ports on each allow every NAT test. Empty is
	// DefaultListen.
	Listen []string

	// Public says how clients reach this server, where that is not at the
	// machine's own addresses. A "host" or "host:port", at most one, is what
	// [Server.Address] names; if it is an IP address that the machine does
	// not have, the server is behind a 1:1 NAT and also tells STUN clients
	// so. With several addresses behind such a NAT, "10.0.0.2=203.0.113.2"
	// says so for one of them.
	Public []string

	// CertFile and KeyFile are PEM files, read again when they change. Empty:
	// a self-signed certificate, whose key is kept in StateDir.
	CertFile, KeyFile string

	// ACME has an authority sign the certificate, instead of either; see there.
	ACME ACME

	// StateDir is the folder for what must survive a restart. It is made if
	// it is not there. Empty: $STATE_DIRECTORY, which systemd sets, or
	// stuntd in [os.UserConfigDir].
	StateDir string

	// Record is a file for what the outcomes of dials have taught (package
	// rendezvous, Record), so that it survives a restart too. No two servers may
	// share one. Empty: it is kept in memory only.
	Record string

	// NameHold is how long a name stays with its key after the session that had it
	// has ended. Zero is a minute, which does for a node that reconnects.
	NameHold time.Duration

	// Names is a file for which key each name belongs to, so that NameHold goes on
	// over a restart. No two servers may share one. Empty: it is kept in memory only.
	Names string

	// Drain is how long sessions get at Shutdown to say goodbye; they are
	// told to come back, elsewhere or later, at moments spread over it.
	// Zero is 10 seconds.
	Drain time.Duration

	// Keepalive is how often nodes show that they are there, which also keeps
	// what NATs on the way hold of their session. Zero is 25 seconds.
	Keepalive time.Duration

	// ReturnRate is how many nodes a second are to come back when all have lost
	// this server, as when it is killed: they are told beforehand, and spread
	// themselves, over a minute at most. Zero is 1,600 for each core that
	// handshakes have, which is all but one; negative is as they like.
	ReturnRate int

	// Limits bound what strangers can take; see there for the zero value.
	Limits Limits

	// Access says who may come in; see there for the zero value.
	Access Access

	// Relay is about the path of last resort; see there for the zero value.
	Relay Relay

	// Admin is about what an operator sees; see there for the zero value.
	Admin Admin

	// Cluster is about other servers; the zero value has none.
	Cluster Cluster

	// Logger hears what happens. Nil is silent.
	Logger *slog.Logger

	// Open, if not nil, runs every function that creates a socket; the lab
	// enters a host's network namespace in it. It runs open exactly once, on
	// the calling goroutine, and returns its error.
	Open func(open func() error) error
}

// Limits bound what a stranger can take. In each field zero is the default
// that is named there; there is no way to say "without limit".
//
// A source is an IPv4 address or an IPv6 /64; all sources of one IPv6 /48
// together get the connections of 16, and the half-open ones of four. Behind one address there may be
// many nodes; each holds one session and, while it dials, several STUN
// bindings.
type Limits struct {
	// Conns are connections in all: 32768, some 600 MiB if all were sessions.
	// Start lowers it to what the limit on open files allows.
	Conns int
	// ConnsPerSource are connections of one source, and those that it may begin
	// in a second, in bursts of twice that: 256. Three quarters of
	// them can be sessions. The rest is for STUN, and for telling a node that
	// is one too many so: a connection over this limit is closed unheard.
	ConnsPerSource int
	// Memory is how many bytes the process may hold; from four fifths of that on
	// it refuses ever more of what is new, and at all of it every connection. What
	// the kernel holds for its sockets does not count. The default is three
	// quarters of what the machine, or the control group, has; on systems other than
	// Linux there is none.
	Memory int64
	// HalfOpen are connections in all whose client has not finished its TLS
	// handshake or sent the first byte of a STUN message: 1024.
	HalfOpen int
	// HalfOpenPerSource are those of one source: 64.
	HalfOpenPerSource int
	// Handshake is how long a client may stay half-open: 10 seconds, enough
	// for two lost packets on a slow path.
	Handshake time.Duration
	// HandshakeRate is how many TLS handshakes one source may begin per second,
	// in bursts of twice as many: 20. Behind an address with many nodes some
	// come back later than others after the server was away.
	HandshakeRate int
	// MessageRate is how many messages a second are read from one session,
	// in bursts of four times as many; what comes faster waits in the
	// sender's socket: 500. How long a message may be is part of the
	// protocol ([rendezvous.MaxMessage]).
	MessageRate int
	// MessageRatePerSource are those of all sessions of one source together, in
	// bursts of as many: 1000. A dial counts for four.
	MessageRatePerSource int
	// IDsPerKey are the IDs that one key may hold: 32.
	IDsPerKey int
	// SessionsPerKey are the sessions that one key may have at a time: 16.
	SessionsPerKey int
	// DialRate is how many dials a second one key may begin, in all its sessions
	// together, in bursts of four times as many, and lookups beside them: 100.
	DialRate int
	// PendingDials are the unanswered dials of one caller and to one callee: 256.
	PendingDials int
}

// withDefaults fills in what is zero and refuses what is negative.
func (l Limits) withDefaults() (Limits, error) {
	for _, f := range []struct {
		name string
		p    *int
		zero int
	}{
		{"Conns", &l.Conns, 32768},
		{"ConnsPerSource", &l.ConnsPerSource, 256},
		{"HalfOpen", &l.HalfOpen, 1024},
		{"HalfOpenPerSource", &l.HalfOpenPerSource, 64},
		{"HandshakeRate", &l.HandshakeRate, 20},
		{"MessageRate", &l.MessageRate, 500},
		{"MessageRatePerSource", &l.MessageRatePerSource, 1000},
		{"IDsPerKey", &l.IDsPerKey, 32},
		{"SessionsPerKey", &l.SessionsPerKey, 16},
		{"DialRate", &l.DialRate, 100},
		{"PendingDials", &l.PendingDials, 256},
	} {
		if *f.p < 0 {
			return l, fmt.Errorf("limit %s is negative", f.name)
		}
		if *f.p == 0 {
			*f.p = f.zero
		}
	}
	if l.Memory < 0 {
		return l, errors.New("limit Memory is negative")
	}
	if l.Handshake < 0 {
		return l, errors.New("limit Handshake is negative")
	}
	if l.Handshake == 0 {
		l.Handshake = 10 * time.Second
	}
	return l, nil
}

// check returns what is wrong with the configuration by itself.
func (c *Config) check() error {
	if (c.CertFile == "") != (c.KeyFile == "") {
		return errors.New("a certificate needs its key, and a key its certificate")
	}
	if err := c.ACME.check(c); err != nil {
		return err
	}
	if c.Drain < 0 {
		return errors.New("the drain time is negative")
	}
	if c.NameHold < 0 {
		return errors.New("the hold time of names is negative")
	}
	if c.Keepalive < 0 {
		return errors.New("the keepalive time is negative")
	}
	if _, err := c.Limits.withDefaults(); err != nil {
		return err
	}
	if err := c.Admin.check(); err != nil {
		return err
	}
	if c.Cluster.Name != "" && c.Relay.Only {
		return errors.New("a server that only relays has no use for a cluster")
	}
	if err := c.Cluster.check(); err != nil {
		return err
	}
	return c.Relay.check()
}

func (c *Config) listen() []string {
	if len(c.Listen) == 0 {
		return []string{DefaultListen}
	}
	return c.Listen
}

func (c *Config) drain() time.Duration {
	if c.Drain == 0 {
		return 10 * time.Second
	}
	return c.Drain
}

func (c *Config) logger() *slog.Logger {
	if c.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return c.Logger
}

// stateDir returns the folder for what must survive a restart.
func (c *Config) stateDir() (string, error) {
	if c.StateDir != "" {
		return c.StateDir, nil
	}
	if dirs := os.Getenv("STATE_DIRECTORY"); dirs != "" {
		first, _, _ := strings.Cut(dirs, ":") // systemd.exec(5): one or more, colon-separated
		return first, nil
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("no place for the server's key (set -state): %w", err)
	}
	return filepath.Join(dir, "stuntd"), nil
}
