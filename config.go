package stunt

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"log/slog"
	"sync"
	"time"

	"github.com/gostunt/stunt/internal/punch"
	"github.com/gostunt/stunt/internal/secure"
)

// Config is what a node needs to know. Only Server is required; a node that
// listens under a name needs ID as well. Fields must not change once the node
// is in use.
type Config struct {
	// Server is where peers meet: host[:port][#[sha256:pin][+other]…], or several
	// of these separated by commas. The port defaults to 3478. What follows it is
	// printed by stuntd: a pin stands for a certificate that no authority signed,
	// and other is where the server answers besides, so that the node need not ask
	// before it looks at its NAT from there. Of several, the first that answers is used, and gone back
	// to when it answers again: peers meet only at the same server, so all
	// should have the same list in the same order.
	Server string

	// ID is the name that listeners are reached under: a DNS label, [a-z0-9-],
	// 1 to 63 long. Empty: listeners are reached under the fingerprint of Key
	// alone, which works beside a name in any case.
	ID string

	// Key is the identity of the node. Nil: a fresh one that ends with the
	// process, which does for a node that only dials. See [LoadKey].
	Key ed25519.PrivateKey

	// Token is what the operator of a server gave this node, if nobody gets in
	// without. With "@" in front it is the name of a file that holds the token,
	// which is read for each session anew: a token that is renewed there in time
	// needs no restart. All servers of the list are shown the same.
	Token string

	// Security is what protects the bytes of connections. The dialer decides
	// between what the listener allows: a listener with Encrypted accepts only
	// that, one with Raw accepts both.
	Security Security

	// Resume lets connections outlive their path. In Encrypted mode, and if both
	// nodes want it, a connection whose path dies is given another one by a dial
	// of the node that dialled it, and goes on where it stopped. What the peer
	// does not have yet is kept, 4 MiB at most: so much may be under way, which
	// bounds a connection to 40 MiB/s over 100 ms. The peer's end, too, is
	// noticed only when there was no path for ResumeTimeout, or it is back and
	// knows nothing of the connection: then Read and Write end with ErrNotResumed.
	Resume bool

	// ResumeTimeout is how long a connection waits for another path. 0: a
	// minute, in which a laptop is in another network, and most home routers
	// are back.
	ResumeTimeout time.Duration

	// Relay says whether a server may carry the bytes where no direct path is
	// found, or until it is. Both ends have a say. What goes over a relay is encrypted between
	// the two ends, with Raw as well.
	Relay RelayPolicy

	// Allow, if not nil, decides who may connect. It is asked before any
	// address of this node is given away, which costs the dialer another round
	// trip between the server and the listener. Its error is told to nobody; the dialer sees
	// ErrNotAuthorized. It must return when ctx ends.
	Allow func(ctx context.Context, peer Peer) error

	// RootCAs are the authorities that may sign the certificate of a server
	// without a pin. Nil: those of the system.
	RootCAs *x509.CertPool

	// Warm is how many ports with a known public address a node keeps ready
	// while it dials, so that several connections to one peer at once need not
	// ask for them. 0: 4. Negative: none.
	Warm int

	// CacheDir is a folder in which what was found out about the NAT is kept for
	// the next run on the same network, where a short test confirms it. Empty:
	// nothing is kept.
	CacheDir string

	// Window is how long a dial tries to punch, once both ends were told. It may
	// have a relay meanwhile, or take one then: see RelayAuto. 0: 5 s, which
	// covers the second retransmission of a lost SYN.
	Window time.Duration

	// Budget bounds what guessing at the ports of random NATs may take, and what
	// peers that lie about their addresses can make the process send. Nil: one that
	// all nodes of the process share, of 2,048 sockets at once and 1,500 SYNs a
	// second.
	Budget *Budget

	// NoPortMapping leaves the router alone. By default it is asked, by UPnP,
	// NAT-PMP and PCP, to pass on a public port to the node, and to let it
	// through the IPv6 firewall: then anybody's dial gets through, whatever NAT
	// the other end is behind. The node renews the mapping, and removes it at Close.
	NoPortMapping bool

	// Logger receives what happens, at Debug. Nil: silence.
	Logger *slog.Logger

	// Trace observes dials and accepted connections. May be nil.
	Trace *Trace

	// OpenSocket, if not nil, runs every function that creates a socket, so
	// that a program can enter a network namespace or count. It must run open
	// exactly once, on the calling goroutine, and return its error.
	OpenSocket func(open func() error) error
}

// Budget bounds guessing: the sockets that it holds at once and the SYNs that
// it sends in a second. Nodes may share one.
type Budget = punch.Budget

// NewBudget returns a budget. A dial takes up to 1,024 sockets of it for at
// most its Window; a smaller budget leaves such dials without a direct path.
func NewBudget(sockets, synsPerSecond int) *Budget { return punch.NewBudget(sockets, synsPerSecond) }

// processBudget is shared by the nodes of a process that have none of their own.
var processBudget = sync.OnceValue(func() *Budget { return NewBudget(2048, 1500) })

func (c *Config) budget() *Budget {
	if c.Budget == nil {
		return processBudget()
	}
	return c.Budget
}

const defaultWarm = 4

func (c *Config) warm() int {
	if c.Warm == 0 {
		return defaultWarm
	}
	return max(c.Warm, 0)
}

func (c *Config) window() time.Duration {
	if c.Window <= 0 {
		return punch.DefaultWindow
	}
	return c.Window
}

const defaultResumeTimeout = time.Minute

func (c *Config) resumeTimeout() time.Duration {
	if c.ResumeTimeout <= 0 {
		return defaultResumeTimeout
	}
	return c.ResumeTimeout
}

func (c *Config) logger() *slog.Logger {
	if c.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return c.Logger
}

// Security is what protects the bytes of a connection. In both modes each end
// has proved to the other that it holds its key before the first byte.
type Security uint8

const (
	// Encrypted, the default, protects every byte with the keys of the handshake.
	Encrypted Security = iota
	// Raw leaves the bytes to the kernel's TCP: sendfile and splice work, and
	// whoever carries the packets can read and change them.
	Raw
)

// String returns "encrypted" or "raw".
func (s Security) String() string {
	if s == Raw {
		return "raw"
	}
	return "encrypted"
}

func (s Security) mode() secure.Mode {
	if s == Raw {
		return secure.Raw
	}
	return secure.Encrypted
}
