package rendezvous

import (
	"encoding/binary"
	"errors"
	"io"
	"reflect"
	"sync"

	"github.com/fxamacker/cbor/v2"
)

// ALPN is the protocol's name in TLS (RFC 7301). The number is that of the
// framing below; what the messages hold is negotiated by Hello and Welcome.
const ALPN = "stunt/1"

// Versions of the messages that this package speaks.
const (
	MinVersion uint16 = 1
	MaxVersion uint16 = 1
)

// A frame is
//
//	 0               4                        4+length
//	+---------------+------------------------+
//	| length, BE    | one CBOR map           |
//	+---------------+------------------------+
//
// The map's keys are small integers. Key 0 is the message's kind, and every
// other number means the same field in every message (see messages.go).
const (
	// MaxMessage bounds the CBOR map of a frame, in bytes. The sum of the
	// bounds below stays under it in every message, so that what a server
	// adds to a Dial to make an Offer of it always fits.
	MaxMessage = 16 << 10

	MaxBlob  = 4 << 10 // candidates, and report: some hundred addresses each
	MaxNoise = 1 << 10 // a handshake message: keys, a signature, two tags
	MaxText  = 256     // any text meant for people
	MaxLabel = 64      // a kind of NAT, or a hint
	MaxIDs   = 32      // names of the caller in an Offer

	MaxToken  = 2048 // that lets a node in: a signature, and names
	MaxTicket = 256  // for a relay: a tag, and what it covers
	MaxRelays = 8    // a client measures the way to each
)

// RelayHere is in front of the name of a relay that is the server which says so.
const RelayHere = "@"

const headLen = 4

// errTooLarge is what readMessage returns for a length over MaxMessage. The
// stream cannot be followed after it.
var errTooLarge = errorf(CodeTooLarge, "a frame may have %d bytes", MaxMessage)

// encMode writes core deterministic CBOR (RFC 8949 section 4.2.1): one message,
// one encoding, so that vectors can be compared. Times are whole seconds of
// Unix, addresses are text as netip prints them.
var encMode = must(cbor.EncOptions{
	Sort:          cbor.SortCoreDeterministic,
	Time:          cbor.TimeUnix,
	TextMarshaler: cbor.TextMarshalerTextString, BinaryMarshaler: cbor.BinaryMarshalerNone,
}.EncMode())

// decMode takes the same without asking for the order, and nothing that a
// message has no use for. Unknown keys are skipped: that is how messages grow.
var decMode = must(cbor.DecOptions{
	DupMapKey:        cbor.DupMapKeyEnforcedAPF,
	IndefLength:      cbor.IndefLengthForbidden,
	TagsMd:           cbor.TagsForbidden,
	MaxNestedLevels:  4,
	MaxArrayElements: 64,
	MaxMapPairs:      64,
	TextUnmarshaler:  cbor.TextUnmarshalerTextString, BinaryUnmarshaler: cbor.BinaryUnmarshalerNone,
}.DecMode())

func must[T any](v T, err error) T {
	if err != nil {
		panic(err) // constants above; the first test would not start
	}
	return v
}

// encode returns m as one frame. It fails only if m breaks its own bounds.
func encode(m message) ([]byte, error) {
	if err := m.check(); err != nil {
		return nil, err
	}
	body, err := encMode.Marshal(m)
	if err != nil {
		return nil, err
	}
	// A map of fewer than 24 pairs has its count in the first byte, and key 0
	// sorts first: the kind goes in without a field for it in every struct.
	n := len(body) + 2
	if n > MaxMessage {
		return nil, errTooLarge
	}
	frame := make([]byte, headLen, headLen+n)
	binary.BigEndian.PutUint32(frame, uint32(n))
	frame = append(frame, body[0]+1, 0, byte(m.kind()))
	return append(frame, body[1:]...), nil
}

// bodies lends the buffer of a frame while it is read and decoded, so that an
// idle session holds none.
var bodies = sync.Pool{New: func() any { return new([MaxMessage]byte) }}

// readMessage reads one frame from r. It calls began once its first byte is
// there: a peer may be silent for long, but not within a frame. The error is
// io.EOF only between two frames; a frame that is no message gives an *Error.
func readMessage(r io.Reader, began func()) (message, error) {
	var head [headLen]byte
	got, err := io.ReadAtLeast(r, head[:], 1)
	if err != nil {
		return nil, err
	}
	began()
	if err := readRest(r, head[got:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > MaxMessage {
		return nil, errTooLarge
	}
	buf := bodies.Get().(*[MaxMessage]byte)
	defer bodies.Put(buf)
	if err := readRest(r, buf[:n]); err != nil {
		return nil, err
	}
	return decode(buf[:n])
}

// readRest fills b with bytes of a frame that has begun.
func readRest(r io.Reader, b []byte) error {
	_, err := io.ReadFull(r, b)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// decode reads the map of a frame. The message does not alias body.
func decode(body []byte) (message, error) { return decodeAs(body, newMessage) }

// decodeAs does it with what empty returns for a kind.
func decodeAs(body []byte, empty func(kind) message) (message, error) {
	var head struct {
		Kind *uint16 `cbor:"0,keyasint"`
	}
	if err := unmarshal(body, &head); err != nil {
		return nil, err
	}
	if head.Kind == nil {
		return nil, errorf(CodeBadMessage, "a message without a kind")
	}
	m := empty(kind(min(*head.Kind, 255)))
	if err := unmarshal(body, m); err != nil {
		return nil, err
	}
	if err := m.check(); err != nil {
		return nil, err
	}
	return m, nil
}

func unmarshal(body []byte, v any) error {
	if err := decMode.Unmarshal(body, v); err != nil {
		return errorf(CodeBadMessage, "%v", err)
	}
	return nil
}

// newMessage returns an empty message of the kind. One of a kind unknown here
// is of a later minor version and decodes to an *unknown.
func newMessage(k kind) message { return newOf(kinds[:], k) }

func newOf(kinds []message, k kind) message {
	if k == 0 || int(k) > len(kinds) {
		return &unknown{}
	}
	return reflect.New(reflect.TypeOf(kinds[k-1]).Elem()).Interface().(message)
}
