package crowd

import (
	"encoding/binary"
	"errors"
	"io"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/gostunt/stunt/rendezvous"
)

// Kinds of messages: rendezvous/spec.md.
const (
	kindHello      = 1
	kindWelcome    = 2
	kindInfo       = 3
	kindRegister   = 4
	kindRegistered = 5
	kindLookup     = 8
	kindPresence   = 9
	kindDial       = 10
	kindRinging    = 11
	kindOffer      = 12
	kindAnswer     = 13
	kindCancel     = 15
	kindOutcome    = 16
	kindPing       = 17
	kindPong       = 18
	kindBye        = 19
	kindError      = 20
)

// A frame is any message: one number is one field in all of them.
type frame struct {
	Kind       uint8         `cbor:"0,keyasint"`
	Ref        uint32        `cbor:"1,keyasint,omitzero"`
	DialID     []byte        `cbor:"2,keyasint,omitempty"`
	ID         string        `cbor:"3,keyasint,omitzero"`
	Noise      []byte        `cbor:"6,keyasint,omitempty"`
	Candidates []byte        `cbor:"7,keyasint,omitempty"`
	Report     []byte        `cbor:"8,keyasint,omitempty"`
	Code       uint16        `cbor:"9,keyasint,omitzero"`
	Text       string        `cbor:"10,keyasint,omitzero"`
	Min        uint16        `cbor:"13,keyasint,omitzero"`
	Max        uint16        `cbor:"14,keyasint,omitzero"`
	Spread     time.Duration `cbor:"19,keyasint,omitzero"`
	OK         bool          `cbor:"21,keyasint,omitzero"`
	Method     string        `cbor:"22,keyasint,omitzero"`
	Ticket     []byte        `cbor:"25,keyasint,omitempty"`
}

// encode returns the frames as they go over the wire.
func encode(frames ...frame) []byte {
	var out []byte
	for _, f := range frames {
		body, err := cbor.Marshal(f)
		if err != nil {
			panic(err) // a struct of plain fields
		}
		out = binary.BigEndian.AppendUint32(out, uint32(len(body)))
		out = append(out, body...)
	}
	return out
}

// readFrame reads one frame. It calls began once its first byte is there.
func readFrame(r io.Reader, began func()) (*frame, error) {
	var head [4]byte
	got, err := io.ReadAtLeast(r, head[:], 1)
	if err != nil {
		return nil, err
	}
	began()
	if _, err := io.ReadFull(r, head[got:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > rendezvous.MaxMessage {
		return nil, errors.New("a frame is too large")
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, err
	}
	f := &frame{}
	return f, cbor.Unmarshal(body, f)
}
