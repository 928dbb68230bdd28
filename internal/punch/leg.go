package punch

import (
	"bytes"
	"crypto/sha256"
	"math"
	"net/netip"
	"slices"
	"time"
)

// RelayID names a relay to both ends of a dial, whatever address each of them
// reaches it at. It is no address: an end connects only to relays that its own
// server has named, and what the other end says decides between these.
type RelayID [8]byte

// RelayIDOf returns the ID of the relay that a server calls so: the beginning
// of the name's SHA-256.
func RelayIDOf(name string) RelayID {
	sum := sha256.Sum256([]byte(name))
	return RelayID(sum[:8])
}

// Leg is one end's way to a relay.
type Leg struct {
	Relay RelayID
	RTT   time.Duration  // as this end has measured it; Unmeasured or more: not yet
	Addr  netip.AddrPort // where this end reaches it, which it tells nobody
}

// MaxLegs bounds the relays that one end may offer.
const MaxLegs = 8

const (
	// legUnit is what round trips are told in: finer than they repeat.
	legUnit = 100 * time.Microsecond
	// Unmeasured is the round trip of a relay that is known and no more: longer
	// than any that was measured.
	Unmeasured = math.MaxUint16 * legUnit
)

// ticks is the round trip as it is told, so that both ends reckon with one.
func (l Leg) ticks() int {
	return int(min(max(l.RTT, 0), Unmeasured) / legUnit)
}

// common returns our leg to the relay that both ends know and that has the
// shortest way from one to the other. Both ends find the same one.
func (m Meeting) common() (best Leg, ok bool) {
	least := 0
	for _, mine := range m.Mine.Relays {
		i := slices.IndexFunc(m.Theirs.Relays, func(l Leg) bool { return l.Relay == mine.Relay })
		if i < 0 || !mine.Addr.IsValid() {
			continue
		}
		sum := mine.ticks() + m.Theirs.Relays[i].ticks()
		if !ok || sum < least || sum == least && bytes.Compare(mine.Relay[:], best.Relay[:]) < 0 {
			best, least, ok = mine, sum, true
		}
	}
	return best, ok
}
