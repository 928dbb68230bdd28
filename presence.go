package stunt

import (
	"context"
	"crypto/ed25519"
	"time"

	"github.com/gostunt/stunt/internal/punch"
	"github.com/gostunt/stunt/probe"
	"github.com/gostunt/stunt/rendezvous"
)

// Reach says whether a peer was reached directly the last time.
type Reach int

// What is known of the last dials between two nodes.
const (
	ReachUnknown Reach = iota // they have not met from here, or long ago
	ReachDirect               // there was a direct path
	ReachRelay                // there was none: it took a relay, or failed
)

// String returns unknown, direct or relay.
func (r Reach) String() string {
	switch r {
	case ReachDirect:
		return "direct"
	case ReachRelay:
		return "relay"
	}
	return "unknown"
}

// Presence says that a peer is there, and how it was reached the last time. All
// of it is the word of a server.
type Presence struct {
	ID     string            // as asked
	Key    ed25519.PublicKey // who is there; that it belongs to the ID is proved if that is a fingerprint
	Since  time.Time         // when its session with the server began
	Report *probe.Report     // on its NAT, by its own word; nil if not known, or if the peer wants to be asked first

	// Reach is about dials between this node and the peer, from whichever of
	// them, while both were at the networks at which they are now. A direct path
	// may have been found since, or be gone: good for the order in which peers are
	// tried. Method is how it was, if direct and known; Met is when.
	Reach  Reach
	Method Method
	Met    time.Time
}

// Lookup asks the server whether a peer is there. The error is ErrUnknownPeer
// if not.
func (n *Node) Lookup(ctx context.Context, id string) (Presence, error) {
	if err := n.Up(ctx); err != nil {
		return Presence{}, err
	}
	p, err := n.client.Lookup(ctx, id)
	if err != nil {
		return Presence{}, fromServer(err)
	}
	return presenceOf(p), nil
}

func presenceOf(p rendezvous.Presence) Presence {
	known := Presence{ID: p.ID, Key: p.Key, Since: p.Since, Met: p.LastAt}
	if r, err := probe.DecodeReport(p.Report); err == nil {
		known.Report = r
	}
	switch {
	case p.NeedsRelay():
		known.Reach = ReachRelay
	case p.Last != "":
		known.Reach, known.Method = ReachDirect, punch.ParseHint(p.Last)
	}
	return known
}
