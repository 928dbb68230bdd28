package secure

import (
	"errors"
	"fmt"
	"io"
)

// Both ends write a preface as soon as a connection stands, without waiting for the other's:
//
//	 0   4  magic "stnt"
//	 4   1  version, 1
//	 5   1  role of the writer: 1 dialer, 2 listener
//	 6  16  dial id
//	22  16  nonce, fresh for each connection
//	38  32  tag: HMAC-SHA256(proof key, label role dial-id nonce message-3)
//	70 128  handshake message 3; from the dialer only, the same on every connection of a dial
//
// The nonces of the two prefaces name the connection. The dialer then says select on one connection of the dial:
//
//	0   1  type, 1
//	1  32  HMAC-SHA256(proof key, label dialer's-nonce listener's-nonce)
//
// What follows the select is the application's. A dialer that has selected one connection and wants to go on over another
// one says move there instead, once, and the listener answers with moved when it goes over, too (see [Conn.Move]):
//
//	0   1  type: 2 move, 3 moved
//	1  32  HMAC-SHA256(proof key, label dialer's-nonce listener's-nonce)
//
// All sizes are fixed, so that a reader takes no byte that is not its own.
const (
	magic      = "stnt"
	version    = 1
	offRole    = 5
	offDialID  = 6
	offNonce   = 22
	offTag     = 38
	headerSize = 70

	typeSelect = 1
	typeMove   = 2
	typeMoved  = 3

	// SelectSize is the length in bytes of a select, a move and a moved.
	SelectSize = 1 + 32
)

// Role is the part an end plays in a dial.
type Role uint8

const (
	Dialer   Role = 1
	Listener Role = 2
)

// String returns the role in lower case.
func (r Role) String() string {
	switch r {
	case Dialer:
		return "dialer"
	case Listener:
		return "listener"
	}
	return fmt.Sprintf("role(%d)", uint8(r))
}

// Nonce distinguishes the connections of a dial from each other. It must come from crypto/rand and serve once.
type Nonce [16]byte

// Header is a preface as it was read: nothing in it is to be believed before [Session.Check] has accepted it.
type Header struct {
	Role   Role
	DialID [16]byte // which session to ask
	Nonce  Nonce    // the far end's name for this connection

	tag      [32]byte
	message3 [message3Size]byte // zero unless Role is Dialer
}

// ErrNotPreface is returned by [ReadHeader] when the far end does not speak this protocol, in this version.
var ErrNotPreface = errors.New("secure: not a preface")

// ReadHeader reads one preface and not a byte beyond it: 70 bytes from a listener, 198 from a dialer. Anything else is
// refused after the first six, before memory or work is spent on it. The caller bounds the time it may take.
func ReadHeader(r io.Reader) (Header, error) {
	var b [headerSize]byte
	if _, err := io.ReadFull(r, b[:offDialID]); err != nil {
		return Header{}, err
	}
	h := Header{Role: Role(b[offRole])}
	if string(b[:len(magic)]) != magic || b[len(magic)] != version || h.Role != Dialer && h.Role != Listener {
		return Header{}, ErrNotPreface
	}
	if _, err := io.ReadFull(r, b[offDialID:]); err != nil {
		return Header{}, noEOF(err)
	}
	copy(h.DialID[:], b[offDialID:])
	copy(h.Nonce[:], b[offNonce:])
	copy(h.tag[:], b[offTag:])
	if h.Role == Dialer {
		if _, err := io.ReadFull(r, h.message3[:]); err != nil {
			return Header{}, noEOF(err)
		}
	}
	return h, nil
}

// noEOF turns an end between two reads of one preface into what it is.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// signed returns the part of message 3 that the tag covers: all of it, or nothing from a listener.
func (h *Header) signed() []byte {
	if h.Role == Dialer {
		return h.message3[:]
	}
	return nil
}

// append writes the header in its wire form.
func (h *Header) append(b []byte) []byte {
	b = append(b, magic...)
	b = append(b, version, byte(h.Role))
	b = append(b, h.DialID[:]...)
	b = append(b, h.Nonce[:]...)
	b = append(b, h.tag[:]...)
	return append(b, h.signed()...)
}
