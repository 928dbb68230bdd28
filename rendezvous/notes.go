package rendezvous

import (
	"crypto/ed25519"
	"net/netip"
)

// Notes are what the servers of a cluster say to each other over a Bus: the
// maps of frames (wire.go), without a length. A number that is also in a
// message (messages.go) means the same; the others are
//
//	64 server      67 relay            70 titles    73 message
//	65 sent, ns    68 bound, Unix ns   71 dial      74 owner
//	66 gone, held  69 epoch, Unix ns   72 presence  75 ringing  76 may relay
//	77 lends       78 errand, done
//
// The subjects are
//
//	all          beat, titles, left: to every server
//	at.SERVER    echo, bid, titles, word, errand: to one
//	id.ID        seek, inquiry: to the one where a node is, by name or fingerprint
//
// Servers trust each other, but what they decode has bounds like everything.
const (
	subjectAll = "all"
	subjectAt  = "at."
	subjectID  = "id."
)

// noteKinds has one of each, at the index of its number less one. They are no
// messages: a session neither takes nor sends any of them.
var noteKinds = [...]message{(*beat)(nil), (*echo)(nil), (*bid)(nil), (*ruling)(nil), (*titles)(nil), (*left)(nil),
	(*seek)(nil), (*rung)(nil), (*inquiry)(nil), (*found)(nil), (*word)(nil),
	(*errand)(nil), (*errandDone)(nil)}

func (*beat) kind() kind       { return 1 }
func (*echo) kind() kind       { return 2 }
func (*bid) kind() kind        { return 3 }
func (*ruling) kind() kind     { return 4 }
func (*titles) kind() kind     { return 5 }
func (*left) kind() kind       { return 6 }
func (*seek) kind() kind       { return 7 }
func (*rung) kind() kind       { return 8 }
func (*inquiry) kind() kind    { return 9 }
func (*found) kind() kind      { return 10 }
func (*word) kind() kind       { return 11 }
func (*errand) kind() kind     { return 12 }
func (*errandDone) kind() kind { return 13 }

// beat says that a server is there.
type beat struct {
	Server string `cbor:"64,keyasint"`
	Sent   int64  `cbor:"65,keyasint"`           // by the clock of the sender
	Gone   bool   `cbor:"66,keyasint,omitzero"`  // it was: it leaves
	Relay  string `cbor:"67,keyasint,omitempty"` // host:port of its relay; empty: it has none
	// Lends are where nodes reach it, for the others' tests that need a second address.
	Lends []netip.AddrPort `cbor:"77,keyasint,omitempty"`
}

// echo answers a beat, so that its sender knows how long the way is.
type echo struct {
	Server string `cbor:"64,keyasint"`
	Sent   int64  `cbor:"65,keyasint"` // as in the beat
}

// A title is the right of a key to a name.
type title struct {
	Server string `cbor:"64,keyasint"`           // where its session is, or was
	ID     string `cbor:"3,keyasint"`            // the name; or the owner, if only its fingerprint is meant
	Owner  string `cbor:"74,keyasint"`           // the key's fingerprint
	Bound  int64  `cbor:"68,keyasint,omitempty"` // when the key took the name
	Epoch  int64  `cbor:"69,keyasint"`           // when this session did
	Held   bool   `cbor:"66,keyasint,omitzero"`  // there is no session; it may come back
}

// bid asks a server whether it has anything against a title to a name, and tells
// it that the fingerprint of the same key is reached at the title's server now.
type bid struct {
	Titles []title `cbor:"70,keyasint"`
}

// ruling answers a bid.
type ruling struct {
	Code  Code   `cbor:"9,keyasint,omitzero"`   // CodeNone: nothing
	Text  string `cbor:"10,keyasint,omitempty"` // for people
	Bound int64  `cbor:"68,keyasint,omitzero"`  // when the key took the name; 0: not known here
}

// titles are what a server has, some at a time.
type titles struct {
	Titles []title `cbor:"70,keyasint"`
}

// left says that a name or fingerprint is not at a server any more, nor held there.
type left struct {
	Server string `cbor:"64,keyasint"`
	ID     string `cbor:"3,keyasint"`
}

// seek looks for the callee of a dial.
type seek struct {
	Server   string            `cbor:"64,keyasint"` // the caller's
	Key      ed25519.PublicKey `cbor:"4,keyasint"`
	IDs      []string          `cbor:"12,keyasint,omitempty"`
	Observed netip.AddrPort    `cbor:"16,keyasint"`
	Relay    bool              `cbor:"76,keyasint,omitzero"` // the caller may use one
	Dial     DialRequest       `cbor:"71,keyasint"`
}

// rung answers a seek: what is in Ringing, and what the caller's server needs to
// know of the callee to learn from the dial.
type rung struct {
	Code     Code           `cbor:"9,keyasint,omitzero"` // CodeNone: the callee is told
	Text     string         `cbor:"10,keyasint,omitempty"`
	Server   string         `cbor:"64,keyasint,omitempty"`
	Observed netip.AddrPort `cbor:"16,keyasint,omitzero"`
	Kind     string         `cbor:"23,keyasint,omitempty"`
	Hint     string         `cbor:"24,keyasint,omitempty"` // also where Ringing has to be without it
	Ringing  *Ringing       `cbor:"75,keyasint,omitempty"`
}

// inquiry looks something up for a client.
type inquiry struct {
	ID       string            `cbor:"3,keyasint"`
	Key      ed25519.PublicKey `cbor:"4,keyasint"`
	Observed netip.AddrPort    `cbor:"16,keyasint"`
}

// found answers an inquiry.
type found struct {
	Presence *Presence `cbor:"72,keyasint,omitempty"` // nil: nobody
}

// word carries a message of a dial from one end's server to the other's.
type word struct {
	Server  string `cbor:"64,keyasint"`
	Message []byte `cbor:"73,keyasint"` // as in a frame
}

// errand asks a server for something that a client of another wants; package
// rendezvous doesn't know what.
type errand struct {
	Server string `cbor:"64,keyasint"` // the client's
	Errand []byte `cbor:"78,keyasint"`
}

// errandDone answers an errand.
type errandDone struct {
	Errand []byte `cbor:"78,keyasint"`
}

func (b *bounds) server(name string) *bounds {
	if len(name) != serverNameLen {
		b.fail("a server without a name")
	}
	return b.label(name)
}

func (b *bounds) some(id string) *bounds {
	if b.err == nil {
		b.err = ValidID(id)
	}
	return b
}

func (b *bounds) addr(a netip.AddrPort) *bounds {
	if !a.IsValid() || a.Addr().Zone() != "" {
		b.fail("an address is missing")
	}
	return b
}

func (b *bounds) also(m message) *bounds {
	if err := m.check(); err != nil && b.err == nil {
		b.err = err
	}
	return b
}

func (b *bounds) title(t *title) *bounds {
	if !IsFingerprint(t.Owner) || IsFingerprint(t.ID) && t.ID != t.Owner {
		b.fail("a title without an owner")
	}
	return b.server(t.Server).some(t.ID)
}

func (b *bounds) titles(all []title) *bounds {
	for i := range all {
		b.title(&all[i])
	}
	return b
}

func (m *beat) check() error {
	b := (&bounds{}).server(m.Server).text(m.Relay)
	if len(m.Lends) > MaxLends {
		b.fail("%d endpoints are lent, at most %d are allowed", len(m.Lends), MaxLends)
	}
	for _, a := range m.Lends {
		b.addr(a)
	}
	return b.err
}

func (m *echo) check() error   { return (&bounds{}).server(m.Server).err }
func (m *bid) check() error    { return (&bounds{}).titles(m.Titles).err }
func (m *ruling) check() error { return (&bounds{}).text(m.Text).err }

func (m *titles) check() error { return (&bounds{}).titles(m.Titles).err }

func (m *left) check() error { return (&bounds{}).server(m.Server).some(m.ID).err }

func (m *seek) check() error {
	b := (&bounds{}).server(m.Server).key(m.Key).addr(m.Observed).also(&m.Dial).some(m.Dial.Peer)
	if len(m.IDs) > MaxIDs {
		b.fail("%d names, at most %d are allowed", len(m.IDs), MaxIDs)
	}
	for _, id := range m.IDs {
		b.some(id)
	}
	return b.err
}

func (m *rung) check() error {
	b := (&bounds{}).text(m.Text).words(m.Kind).words(m.Hint)
	if m.Code != CodeNone {
		return b.err
	}
	if m.Ringing == nil {
		b.fail("a dial without a peer")
		return b.err
	}
	return b.server(m.Server).addr(m.Observed).also(m.Ringing).err
}

func (m *inquiry) check() error { return (&bounds{}).some(m.ID).key(m.Key).addr(m.Observed).err }

func (m *found) check() error {
	if m.Presence == nil {
		return nil
	}
	return m.Presence.check()
}

func (m *word) check() error {
	return (&bounds{}).server(m.Server).blob("message", m.Message, MaxMessage).err
}

func (m *errand) check() error {
	return (&bounds{}).server(m.Server).blob("errand", m.Errand, MaxErrand).err
}

func (m *errandDone) check() error { return (&bounds{}).blob("errand", m.Errand, MaxErrand).err }

// encodeNote returns m as a Bus carries it.
func encodeNote(m message) ([]byte, error) {
	frame, err := encode(m)
	if err != nil {
		return nil, err
	}
	return frame[headLen:], nil
}

func decodeNote(b []byte) (message, error) {
	if len(b) > MaxMessage {
		return nil, errTooLarge
	}
	return decodeAs(b, newNote)
}

// newNote returns an empty note of the kind.
func newNote(k kind) message { return newOf(noteKinds[:], k) }

// answerTo decodes what a server has answered to a note.
func answerTo[M message](b []byte, err error) (m M, _ error) {
	if err != nil {
		return m, err
	}
	got, err := decodeNote(b)
	if err != nil {
		return m, err
	}
	m, ok := got.(M)
	if !ok {
		return m, errorf(CodeBadMessage, "not the answer to this")
	}
	return m, nil
}
