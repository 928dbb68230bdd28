package stunt

import (
	"net/netip"
	"time"

	"github.com/gostunt/stunt/probe"
)

// Trace observes a node. Every func may be nil. They are called from several
// goroutines and must not block.
type Trace struct {
	// Session is called when a session with a server stands, with the address
	// of the server and ours as the server sees it.
	Session func(server, public netip.AddrPort)
	// Probed is called when more is known of the NAT in front of this node. The
	// report must not be changed.
	Probed func(*probe.Report)
	// Network is called when the network of the host has changed.
	Network func(NetworkChange)
	// Step is called at each step of a dial, on both ends.
	Step func(Step)
}

// Step is one step of a dial.
type Step struct {
	Peer   string // whom we dial, or who dials us
	Dialer bool   // reports whether this end dials
	At     time.Duration
	Phase  Phase
	Remote netip.AddrPort // of an attempt; else invalid
	Method Method         // of an attempt; of Ringing and Answered what has worked between such NATs before; else empty
	Err    error          // of Failed and Lost
}

// Phase names a step of a dial.
type Phase string

// The phases, in the order of a dial that succeeds.
const (
	PhaseDialing   Phase = "dialing"   // the server was asked; on the listener's side, its offer came
	PhaseRinging   Phase = "ringing"   // both ends were told at the same moment
	PhaseFired     Phase = "fired"     // a SYN went out
	PhaseAnswered  Phase = "answered"  // the keys are there
	PhaseArrived   Phase = "arrived"   // a connection came in
	PhaseConnected Phase = "connected" // a connect completed
	PhaseVerified  Phase = "verified"  // the other end proved to be the peer
	PhaseSelected  Phase = "selected"  // the dialer chose this path
	PhaseMoved     Phase = "moved"     // after all others, if the chosen path was a relay: the connection goes on over this one
	PhaseLost      Phase = "lost"      // of a connection that can be resumed: its path died, of Err
	PhaseResumed   Phase = "resumed"   // it goes on over this path, which another dial has found
	PhaseFailed    Phase = "failed"    // an attempt ended or will try again; without Remote: the dial
)

func (t *Trace) session(server, public netip.AddrPort) {
	if t != nil && t.Session != nil {
		t.Session(server, public)
	}
}

func (t *Trace) probed(r *probe.Report) {
	if t != nil && t.Probed != nil {
		t.Probed(r)
	}
}

func (t *Trace) network(c NetworkChange) {
	if t != nil && t.Network != nil {
		t.Network(c)
	}
}

func (t *Trace) step(s Step) {
	if t != nil && t.Step != nil {
		t.Step(s)
	}
}
