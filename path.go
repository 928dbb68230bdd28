package stunt

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/gostunt/stunt/internal/punch"
)

// Method is the way in which a connection came about.
type Method = punch.Method

// The methods.
const (
	Direct           = punch.Direct    // the peer is not behind a NAT
	Reversed         = punch.Reversed  // we are not, and the peer connected to us
	LAN              = punch.LAN       // both share a network
	Hairpin          = punch.Hairpin   // both share a NAT that loops packets back
	SimultaneousOpen = punch.SimOpen   // a hole in each NAT or firewall, opened by crossing SYNs
	PredictedPort    = punch.Predicted // the same, at a port that a NAT was expected to give next
	GuessedPort      = punch.Guessed   // the same, at one of many ports tried at random
	Relayed          = punch.Relay     // none of these: a server carries the bytes
)

// Path is how a connection came about.
type Path struct {
	Method   Method
	Local    netip.AddrPort // of the TCP connection, on this host
	Remote   netip.AddrPort // of the TCP connection, as this host sees it; with Relayed it ends at the relay
	Public   netip.AddrPort // our port as the server saw it; invalid over IPv6 if it saw IPv4: then that of Local is, where nobody translates IPv6
	Accepted bool           // the connection arrived on our listening port; false: a connect of ours completed
	Security Security
	Relay    string    // with Relayed: host:port of the relay, as the server names it
	NoDirect string    // with Relayed: what is in the way of a direct path, and would help; no full stop
	Attempts []Attempt // what this end tried
	Timing   Timing
}

// String returns the path in one line.
func (p Path) String() string {
	how := "connected"
	if p.Accepted {
		how = "accepted"
	}
	if p.Method == Relayed {
		how = "through " + p.Relay
	}
	return fmt.Sprintf("%s, %v → %v (%s, %v)", p.Method, p.Local, p.Remote, how, p.Security)
}

// Timing is when each phase of a dial was over, counted from its beginning: on
// the dialer's side the call of Dial, on the listener's the arrival of the
// offer. Zero: the phase was not passed.
type Timing struct {
	Session   time.Duration // a session with the server and a punching port were there
	Told      time.Duration // the server's word that both ends were told came, and we fired
	Keyed     time.Duration // the peer's answer came with the keys
	Connected time.Duration // the TCP connection of the path stood
	Chosen    time.Duration // the peer had proved itself, and the dialer had chosen the path
	Moved     time.Duration // the connection went on over a direct path; what is above is about the relay that it began on
}

// Attempt is one address that was tried from the punching port; with Relayed,
// that of a relay, from a port of its own.
type Attempt struct {
	Remote    netip.AddrPort
	Method    Method        // the way in which it would have come about
	Fired     time.Duration // when the first SYN left, as in Timing
	Connected time.Duration // when TCP stood; 0: never
	SYNs      int           // connects made
	Err       error         // how the last connect ended; nil if it was still waiting
}

// String returns the attempt in one line.
func (a Attempt) String() string {
	end := "no answer"
	switch {
	case a.Connected > 0 && a.Err != nil:
		end = "connected, but " + a.Err.Error()
	case a.Connected > 0:
		end = "connected"
	case a.Err != nil:
		end = a.Err.Error()
	case a.SYNs == 0:
		end = "not fired"
	}
	return fmt.Sprintf("%s to %v, %d×: %s", a.Method, a.Remote, a.SYNs, end)
}
