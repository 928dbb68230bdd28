package punch

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"
)

// A peer names the addresses that we send SYNs to, and may name somebody else's.
// What the server has seen of it is more than its word: at other addresses, which
// are strangers here, we try little and guess nothing. Without that, whoever
// is introduced to many nodes could have them all flood an address of his choice
// with what guessing takes. As it is, a dial has us send to strangers about as
// many bytes as it has cost the one who lies.
const (
	// maxStrangers bounds the strangers on the Internet that one dial may name: an
	// honest host has an IPv6 address or two, temporary ones beside them, and a port
	// that its router maps.
	maxStrangers = 4
	// maxInside bounds those in private networks: the interfaces of a host behind
	// our own NAT, of which many are made up by its virtual machines.
	maxInside = 8
	// maxTriesOfStranger bounds the connects of one attempt at a stranger.
	maxTriesOfStranger = 8
	// strangerHold is how long one of these waits: the kernel sends its SYN again
	// after 1 and 3 s, or after 1, 2 and 3 s.
	strangerHold = 3500 * time.Millisecond
	// perStranger is how many connects to a stranger a process begins in
	// strangerSpan, in all of its dials. Somebody who is there, and proves to be the
	// peer, pays for more: one proof for perProof connects, saved up to maxProofs.
	perStranger, strangerSpan = 24, time.Minute
	perProof, maxProofs       = 16, 256
	// maxStrangersKnown bounds the memory of these counts, and so how many strangers
	// a process tries in strangerSpan.
	maxStrangersKnown = 4096
	// plainSYNs is how many SYNs that are no guesses a process sends in a second.
	// A thousand honest dials stay below; a server that lies about everything gets no
	// further.
	plainSYNs = 3000
)

var errStranger = errors.New("tried often enough: only the peer has named this address, and nobody there has proved to be one")

// near reports whether an end's server has seen it at ip, or next to it: in the
// same IPv6 /64, or the IPv4 /24 that a NAT's pool of addresses is taken to be
// in.
func (s Side) near(ip netip.Addr) bool {
	if !s.Observed.IsValid() || s.Observed.Is4() != ip.Is4() {
		return false
	}
	bits := 64
	if ip.Is4() {
		bits = 24
	}
	p, err := s.Observed.Prefix(bits)
	return err == nil && p.Contains(ip)
}

// stranger reports whether only the end itself says that it is at ip.
func (s Side) stranger(ip netip.Addr) bool {
	return s.Observed != ip && !(ip.Is6() && s.near(ip))
}

// strangers counts what a process sends to each, by an IPv4 address or IPv6 /64.
// Its zero value is ready for use.
type strangers struct {
	mu sync.Mutex // guards following
	at map[netip.Addr]tally
}

// tally is what became of the connects to one stranger.
type tally struct {
	until time.Time // when it is forgotten
	spent int       // connects, less what proofs have paid for
}

// allow counts one more connect and reports whether there is room for it.
func (s *strangers) allow(ip netip.Addr, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	ip = source(ip)
	t, known := s.at[ip]
	switch {
	case known && now.Before(t.until):
	case !known && len(s.at) >= maxStrangersKnown && !s.sweep(now):
		return false
	default:
		t = tally{until: now.Add(strangerSpan)}
	}
	if t.spent >= perStranger {
		return false
	}
	t.spent++
	if s.at == nil {
		s.at = make(map[netip.Addr]tally)
	}
	s.at[ip] = t
	return true
}

// sweep forgets what is over and reports whether that has made room. The caller
// holds mu.
func (s *strangers) sweep(now time.Time) bool {
	for ip, t := range s.at {
		if !now.Before(t.until) {
			delete(s.at, ip)
		}
	}
	return len(s.at) < maxStrangersKnown
}

// proved notes that somebody at ip was the peer.
func (s *strangers) proved(ip netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ip = source(ip)
	if t, ok := s.at[ip]; ok {
		t.spent = max(t.spent-perProof, -maxProofs)
		s.at[ip] = t
	}
}

// plain waits until one more SYN that is no guess may leave for x, and returns
// errStranger if a stranger has had its share. Without a budget there is no
// bound but a race's own.
func (b *Budget) plain(ctx context.Context, a Attempt, to netip.Addr) error {
	switch {
	case b == nil:
		return nil
	case a.Stranger && !b.strangers.allow(to, time.Now()):
		return errStranger
	}
	return b.plains.Wait(ctx)
}

// proved notes that a peer was found at ip.
func (b *Budget) proved(ip netip.Addr) {
	if b != nil {
		b.strangers.proved(ip)
	}
}

// acquainted reports whether a dial may try one more address: it names so many
// strangers. The caller holds mu.
func (r *Race) acquainted(a Attempt) bool {
	if !a.Stranger {
		return true
	}
	ip := a.To.Addr()
	private, most := ip.IsPrivate() || ip.IsLoopback(), maxStrangers
	if private {
		most = maxInside
	}
	met := make(map[netip.Addr]bool)
	for _, t := range r.tries {
		if x := t.To.Addr(); t.Stranger && (x.IsPrivate() || x.IsLoopback()) == private {
			met[x] = true
		}
	}
	return met[ip] || len(met) < most
}
