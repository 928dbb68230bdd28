package rendezvous

import (
	"crypto/ed25519"
	"crypto/rand"
	"net/netip"
	"time"
)

// kind is key 0 of every message.
type kind uint8

// A message is a pointer to one of the structs below. Its field numbers are
// those of its cbor tags, and one number is one field in all of them:
//
//	0 kind         6 noise        12 ids            18 elapsed, ns
//	1 ref          7 candidates   13 lowest version 19 after, ns
//	2 dial id      8 report       14 highest        20 since, Unix s
//	3 id           9 code         15 version        21 ok
//	4 key         10 text, agent  16 observed       22 method
//	5 port        11 ask          17 keepalive, ns  23 kind of NAT
//	                                                24 hint
//	                                                25 ticket
//	                                                26 relays
//	                                                27 last, 28 last at, Unix s
//	                                                29 token
//	                                                30 hidden
//
// A field left out is zero.
type message interface {
	kind() kind
	check() error // the bounds of its fields; everything decoded has passed it
}

// kinds has one of each, at the index of its number less one.
var kinds = [...]message{
	(*hello)(nil), (*Welcome)(nil), (*Info)(nil), (*register)(nil), (*registered)(nil), (*deregister)(nil), (*deregistered)(nil),
	(*lookup)(nil), (*Presence)(nil), (*DialRequest)(nil), (*Ringing)(nil), (*Offer)(nil), (*Answer)(nil), (*goAhead)(nil),
	(*cancel)(nil), (*Outcome)(nil), (*ping)(nil), (*pong)(nil), (*bye)(nil), (*Error)(nil),
}

func (*hello) kind() kind        { return 1 }
func (*Welcome) kind() kind      { return 2 }
func (*Info) kind() kind         { return 3 }
func (*register) kind() kind     { return 4 }
func (*registered) kind() kind   { return 5 }
func (*deregister) kind() kind   { return 6 }
func (*deregistered) kind() kind { return 7 }
func (*lookup) kind() kind       { return 8 }
func (*Presence) kind() kind     { return 9 }
func (*DialRequest) kind() kind  { return 10 }
func (*Ringing) kind() kind      { return 11 }
func (*Offer) kind() kind        { return 12 }
func (*Answer) kind() kind       { return 13 }
func (*goAhead) kind() kind      { return 14 }
func (*cancel) kind() kind       { return 15 }
func (*Outcome) kind() kind      { return 16 }
func (*ping) kind() kind         { return 17 }
func (*pong) kind() kind         { return 18 }
func (*bye) kind() kind          { return 19 }
func (*Error) kind() kind        { return 20 }
func (*unknown) kind() kind      { return 255 }

// hello is the first message of a session, from the client. Others may follow
// it unasked; they are read after it is answered.
type hello struct {
	Min   uint16 `cbor:"13,keyasint"`
	Max   uint16 `cbor:"14,keyasint"`
	Agent string `cbor:"10,keyasint,omitzero"`
	// Token is what the server's operator gave the node; at most MaxToken bytes.
	Token string `cbor:"29,keyasint,omitzero"`
}

// Welcome is the server's answer to a Hello: the session stands.
type Welcome struct {
	Version   uint16         `cbor:"15,keyasint"`
	Observed  netip.AddrPort `cbor:"16,keyasint"` // where the server sees the session come from
	Keepalive time.Duration  `cbor:"17,keyasint"` // the client pings this often
	Agent     string         `cbor:"10,keyasint,omitzero"`
	// Relays are those that the tickets of this server are good for, host:port
	// each; at most MaxRelays. One with RelayHere in front is this server, and
	// reached where the session is.
	Relays []string `cbor:"26,keyasint,omitzero"`
	// Spread is how long the server would need for all that are there to come
	// back, should they lose it together; 0 if that is no time to speak of.
	Spread time.Duration `cbor:"19,keyasint,omitzero"`
}

// Info is what a node has to say about itself; each one replaces the one
// before, for the whole session. Both blobs are opaque and at most MaxBlob.
type Info struct {
	Report     []byte `cbor:"8,keyasint,omitzero"` // what its NAT does
	Candidates []byte `cbor:"7,keyasint,omitzero"` // where it may be reached
	// Ask keeps both from callers, and from lookups, until the node has
	// accepted their dial. Its answer then brings them.
	Ask bool `cbor:"11,keyasint,omitzero"`
	// Kind labels what is in front of the node, so that what worked for others
	// of its kind can be hinted at; at most MaxLabel of a-z, 0-9, hyphen and
	// slash. It is told to nobody. Empty: not known.
	Kind string `cbor:"23,keyasint,omitzero"`
	// Hidden keeps the node's address, as the server sees it, from its peers: for
	// one that meets them at relays only.
	Hidden bool `cbor:"30,keyasint,omitzero"`
}

// register asks for a name; an empty one for nothing but the fingerprint.
type register struct {
	Ref uint32 `cbor:"1,keyasint"`
	ID  string `cbor:"3,keyasint,omitzero"`
}

type registered struct {
	Ref uint32 `cbor:"1,keyasint"`
	ID  string `cbor:"3,keyasint,omitzero"`
}

type deregister struct {
	Ref uint32 `cbor:"1,keyasint"`
	ID  string `cbor:"3,keyasint,omitzero"`
}

type deregistered struct {
	Ref uint32 `cbor:"1,keyasint"`
}

type lookup struct {
	Ref uint32 `cbor:"1,keyasint"`
	ID  string `cbor:"3,keyasint"`
}

// Presence says that a peer is there.
type Presence struct {
	Ref    uint32            `cbor:"1,keyasint"` // of the request
	ID     string            `cbor:"3,keyasint"` // as asked
	Key    ed25519.PublicKey `cbor:"4,keyasint"`
	Since  time.Time         `cbor:"20,keyasint"`         // when its session began, in seconds
	Report []byte            `cbor:"8,keyasint,omitzero"` // what its NAT does; empty if it wants to be asked
	// Last says how the asking key and this one met, when they last dialled each
	// other from the places at which they now are: in the words of a hint,
	// LastRelayed, or LastNone if no path was found. Empty: not known. Nobody
	// else is told.
	Last   string    `cbor:"27,keyasint,omitzero"`
	LastAt time.Time `cbor:"28,keyasint,omitzero"` // when that was, in seconds
}

// NeedsRelay reports whether the asking node and the peer are known to have no
// direct path where they are. It may have been found since: good for the order
// in which peers are tried, and no reason not to try.
func (p Presence) NeedsRelay() bool { return p.Last != "" && !direct(p.Last) }

// DialID names one dial between two nodes. The caller picks it at random: who
// does not take part in the dial cannot know it.
type DialID [16]byte

// NewDialID returns a random DialID.
func NewDialID() (id DialID) {
	rand.Read(id[:]) // never fails, by its documentation
	return id
}

// UnmarshalCBOR accepts a byte string of exactly 16 bytes; the decoder would
// fill up a shorter one and cut a longer one.
func (id *DialID) UnmarshalCBOR(b []byte) error {
	const byteString16 = 2<<5 | 16
	if len(b) != 1+len(id) || b[0] != byteString16 {
		return errorf(CodeBadMessage, "a dial id is 16 bytes")
	}
	copy(id[:], b[1:])
	return nil
}

// DialRequest asks the server to introduce the caller to a peer.
type DialRequest struct {
	DialID     DialID `cbor:"2,keyasint"` // zero: Client.Dial picks one
	Peer       string `cbor:"3,keyasint"` // a name or a fingerprint
	Port       uint16 `cbor:"5,keyasint,omitzero"`
	Noise      []byte `cbor:"6,keyasint,omitzero"` // the first handshake message, opaque, at most MaxNoise
	Candidates []byte `cbor:"7,keyasint,omitzero"`
	Report     []byte `cbor:"8,keyasint,omitzero"`
	Kind       string `cbor:"23,keyasint,omitzero"` // as in Info
	Hidden     bool   `cbor:"30,keyasint,omitzero"` // as in Info
}

// Ringing tells the caller who the peer is and where it may be, at the moment
// at which the peer is told the same of the caller. If the peer wants to be
// asked first, it holds only the key.
//
// Hint says what worked between ends of these two kinds: one method, or two
// with a slash between where each end named its own. Both ends of a dial get
// the same. It is what others said, so it may be wrong: good enough for the
// order in which things are tried, and for nothing else.
//
// Ticket lets the caller meet the peer at any of the relays of the Welcome.
//
// Observed is where the server sees the peer's session come from. Candidates are
// the peer's word, which may name somebody else's address; this is not. Invalid:
// the peer is hidden.
type Ringing struct {
	DialID     DialID            `cbor:"2,keyasint"`
	Key        ed25519.PublicKey `cbor:"4,keyasint"`
	Candidates []byte            `cbor:"7,keyasint,omitzero"`
	Report     []byte            `cbor:"8,keyasint,omitzero"`
	Hint       string            `cbor:"24,keyasint,omitzero"`
	Ticket     []byte            `cbor:"25,keyasint,omitzero"`
	Observed   netip.AddrPort    `cbor:"16,keyasint,omitzero"`
}

// Answer is the called peer's word on a dial, and the last that the server
// needs to carry.
type Answer struct {
	DialID     DialID `cbor:"2,keyasint"`          // Offer.Answer sets it
	Code       Code   `cbor:"9,keyasint,omitzero"` // CodeNone accepts
	Text       string `cbor:"10,keyasint,omitzero"`
	Noise      []byte `cbor:"6,keyasint,omitzero"` // the second handshake message
	Candidates []byte `cbor:"7,keyasint,omitzero"` // fresher than those in Ringing
	Report     []byte `cbor:"8,keyasint,omitzero"`
	Hint       string `cbor:"24,keyasint,omitzero"` // the server sets it, if it had to keep it from Ringing
	Ticket     []byte `cbor:"25,keyasint,omitzero"` // as Hint

	Observed netip.AddrPort `cbor:"16,keyasint,omitzero"` // as Hint; see Ringing
}

// Err returns nil for an answer that accepts, else an *Error with its Code.
func (a Answer) Err() error {
	if a.Code == CodeNone {
		return nil
	}
	return &Error{Code: a.Code, Text: a.Text, DialID: a.DialID}
}

// goAhead tells a peer that was asked first that its answer is on its way to
// the caller at this moment.
type goAhead struct {
	DialID DialID `cbor:"2,keyasint"`
}

// cancel ends a dial: the caller says so to the server, the server to the peer.
type cancel struct {
	DialID DialID `cbor:"2,keyasint"`
	Code   Code   `cbor:"9,keyasint,omitzero"` // why, from the server
}

// Outcome is what became of a dial, for the server's statistics and hints.
type Outcome struct {
	DialID  DialID        `cbor:"2,keyasint"` // Conclude sets it
	OK      bool          `cbor:"21,keyasint,omitzero"`
	Method  string        `cbor:"22,keyasint,omitzero"` // the cheapest that connected; a label like an ID
	Elapsed time.Duration `cbor:"18,keyasint,omitzero"` // since the dial began at this end
	Text    string        `cbor:"10,keyasint,omitzero"` // why not
}

type ping struct{}

type pong struct {
	// Spread is how long the server would need for all that are there to come
	// back; 0 if that is no time to speak of.
	Spread time.Duration `cbor:"19,keyasint,omitzero"`
}

// bye is sent by a server that drains: leave within Spread, each client at a
// random moment of it, and come back or go elsewhere.
type bye struct {
	Spread time.Duration `cbor:"19,keyasint,omitzero"`
}

// unknown is any message of a kind that this version does not know.
type unknown struct{}
