package natlab

import (
	"hash/fnv"
	"io"
	"log/slog"
	"math/rand/v2"
	"time"
)

// Config is how a lab is made. The zero value is a lab that keeps no trace.
type Config struct {
	// Seed decides every random choice of the lab. Each NAT and each link
	// draws from a stream of its own, derived from Seed and its name, so that
	// adding one host does not change what another meets.
	Seed uint64
	// Trace, if not nil, gets one line of text per packet and point; see
	// docs/lab.md. Writes are serialised.
	Trace io.Writer
	// Pcap, if not nil, gets every packet once per network that carries it,
	// in the pcap format with link type RAW. Writes are serialised.
	Pcap io.Writer
	// Logger tells of the parts as they are made; nil is silent.
	Logger *slog.Logger
	// SamePrivate gives the NATs of one depth the same private network, as
	// homes have it: then another host may own the address that a peer calls
	// its own. By default every NAT has a private network of its own.
	SamePrivate bool
}

// Link is what lies between a host or NAT and the place it is attached to.
// The zero value is a cable: no delay, no loss, no router, MTU 1500.
type Link struct {
	// Delay is the time one way; each direction has it.
	Delay time.Duration
	// Jitter adds up to that much to each packet, uniformly. Packets stay in
	// order unless Reorder is set.
	Jitter  time.Duration
	Reorder bool
	// Loss is the fraction of packets lost, from 0 to 1, in each direction.
	Loss float64
	// Hops is the number of routers on the link. Each takes one off the TTL
	// and answers with time exceeded, from its own address, when none is left;
	// they share the delay evenly.
	Hops int
	// MTU bounds the size of IP packets; 0 means 1500. A host's device has
	// the MTU that its link had when it was made. A larger packet is answered
	// with "fragmentation needed" or "packet too big".
	MTU int
	// Addresses is how many public IPv4 addresses a NAT has on its link; 0
	// means one, or four where its pooling is arbitrary. It is read when the
	// NAT is made.
	Addresses int
	// NoIPv6 leaves everything beyond the link without IPv6. It is read when
	// the host or NAT is made.
	NoIPv6 bool
	// Down drops everything.
	Down bool
}

func (l Link) mtu() int {
	if l.MTU <= 0 {
		return 1500 // Ethernet
	}
	return l.MTU
}

// Masquerade is how the kernel's own NAT picks ports (nft masquerade flags).
type Masquerade uint8

const (
	Plain       Masquerade = iota // keep the source port where that is free
	Random                        // a random port by the kernel's hash
	FullyRandom                   // a random port by its pseudo-random generator
)

var masqueradeNames = [...]string{"plain", "random", "fully-random"}

// String returns the word that nft has for it.
func (m Masquerade) String() string {
	if int(m) < len(masqueradeNames) {
		return masqueradeNames[m]
	}
	return "unknown"
}

// A Place is where hosts and NATs are attached: [Lab.Internet], or the inside
// of a [NAT] or [KernelNAT].
type Place interface {
	network() *network
}

// derive is the seed of the part called name.
func derive(seed uint64, name string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(name))
	return h.Sum64() ^ seed*0x9e3779b97f4a7c15 // odd: a permutation of the seeds
}

func newRand(seed uint64, name string) *rand.Rand {
	return rand.New(rand.NewPCG(seed, derive(seed, name)))
}
