package relay

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"time"
)

// Role is the part that the holder of a ticket plays in the dial.
type Role uint8

// The roles. A pair is one of each.
const (
	Dialer   Role = 1
	Listener Role = 2
)

// The layout of a ticket; see the package's documentation.
const (
	offPair   = 1
	offKey    = 17
	offExpiry = 49
	offTag    = 57

	// TicketSize is the length of a ticket in bytes.
	TicketSize = offTag + sha256.Size
)

// Lifetime is how long a ticket is good for. A dial uses its own within
// seconds; the rest is for the clocks of servers that share a secret, and for
// a listener that has to ask its user first.
const Lifetime = 2 * time.Minute

// Labels keep what is signed here apart from each other.
const (
	labelTicket = "stunt relay ticket 1\x00"
	labelPair   = "stunt relay pair 1\x00"
	labelKey    = "stunt relay key 1\x00"
	labelSecret = "stunt relay secret 1\x00"
)

// A Secret signs tickets. Servers that share one accept each other's.
type Secret [32]byte

// NewSecret returns a random secret.
func NewSecret() (s Secret) {
	rand.Read(s[:]) // never fails, by its documentation
	return s
}

// minPhrase is how long what a secret is made of must be: 128 bits in hex.
const minPhrase = 32

// ParseSecret makes a secret of the contents of a file, of which only space at
// the ends does not count. It should be random; short ones are refused.
func ParseSecret(phrase []byte) (s Secret, err error) {
	for len(phrase) > 0 && phrase[len(phrase)-1] <= ' ' {
		phrase = phrase[:len(phrase)-1]
	}
	for len(phrase) > 0 && phrase[0] <= ' ' {
		phrase = phrase[1:]
	}
	if len(phrase) < minPhrase {
		return s, errors.New("a relay secret has at least 32 characters; \"openssl rand -hex 32\" makes one")
	}
	return sha256.Sum256(append([]byte(labelSecret), phrase...)), nil
}

// Tickets returns a ticket for either end of a dial, good until [Lifetime]
// from now. The same dial between the same keys has the same pair, whichever
// server signs it.
func (s *Secret) Tickets(dial [16]byte, caller, callee ed25519.PublicKey, now time.Time) (dialer, listener []byte) {
	pair := [16]byte(s.mac(labelPair, dial[:], caller, callee)[:16])
	expiry := now.Add(Lifetime).Unix()
	return s.sign(ticket{Dialer, pair, s.keyOf(caller), expiry}),
		s.sign(ticket{Listener, pair, s.keyOf(callee), expiry})
}

// keyOf is what a ticket says of its holder's key.
func (s *Secret) keyOf(key ed25519.PublicKey) [32]byte { return [32]byte(s.mac(labelKey, key)) }

// mac returns the HMAC over a label and parts that have one length each.
func (s *Secret) mac(label string, parts ...[]byte) []byte {
	m := hmac.New(sha256.New, s[:])
	m.Write([]byte(label))
	for _, p := range parts {
		m.Write(p)
	}
	return m.Sum(nil)
}

// ticket is what one says.
type ticket struct {
	role   Role
	pair   [16]byte
	key    [32]byte // see the package's documentation
	expiry int64    // Unix seconds
}

func (s *Secret) sign(t ticket) []byte {
	b := make([]byte, offTag, TicketSize)
	b[0] = byte(t.role)
	copy(b[offPair:], t.pair[:])
	copy(b[offKey:], t.key[:])
	binary.BigEndian.PutUint64(b[offExpiry:], uint64(t.expiry))
	return append(b, s.mac(labelTicket, b)...)
}

// open returns what a ticket says if this secret signed it and it is not over.
func (s *Secret) open(b *[TicketSize]byte, now time.Time) (ticket, Status) {
	if !hmac.Equal(s.mac(labelTicket, b[:offTag]), b[offTag:]) {
		return ticket{}, BadTicket
	}
	t := ticket{
		role:   Role(b[0]),
		pair:   [16]byte(b[offPair:]),
		key:    [32]byte(b[offKey:]),
		expiry: int64(binary.BigEndian.Uint64(b[offExpiry:])),
	}
	if t.role != Dialer && t.role != Listener {
		return ticket{}, BadTicket // only by a signer of another version
	}
	if now.Unix() > t.expiry {
		return ticket{}, Expired
	}
	return t, Paired
}
