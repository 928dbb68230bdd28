package rendezvous

import (
	"crypto/ed25519"
	"net/netip"
)

// A seat is where one end of a dial is to be reached.
type seat struct {
	here *session // nil: at another server
	at   string   // the name of that server; empty: none, or not known yet
}

// A party is one end of a dial.
type party struct {
	seat
	key      ed25519.PublicKey
	observed netip.AddrPort // as its server sees it
	relay    bool           // it may use one
	calls    *calls         // guarded by the dialTable's mu
}

func (s *session) seat() seat { return seat{here: s} }

func (s *session) party() party {
	return party{seat: s.seat(), key: s.key, observed: s.observed, relay: s.pass.MayRelay(), calls: &s.calls}
}
