// Package secure makes a TCP connection that was found by name into one between two known keys.
//
// It has three parts, used in this order:
//
//   - the handshake, Noise_XX_25519_AESGCM_SHA256, whose first two messages travel through the rendezvous server while
//     the peers still look for each other ([Initiate], [Respond]), and which leaves a [Session] on both sides;
//   - the preface and the select, which show on each TCP connection of a dial that the far end is the session's peer, and
//     which of the connections the dialer chose ([Session.Preface], [ReadHeader], [Session.Check], [Session.Select]);
//   - the records, which encrypt the chosen connection ([Session.Conn]; with control records between those of data,
//     [Session.ControlConn]). In [Raw] mode there are none.
//
// The server that carries messages 1 and 2 is not trusted: it can drop a dial, and change nothing in it.
//
// What Raw gives up: both ends know who is at the other end, and a stranger cannot make up a path, but whoever forwards
// the packets can read and change the bytes, as with any plain TCP connection.
package secure

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Mode says what happens to the bytes once both ends have proved who they are. The zero Mode is Encrypted.
type Mode uint8

const (
	Encrypted Mode = iota // Noise records
	Raw                   // the kernel's TCP and nothing else
)

// String returns the mode's name in lower case.
func (m Mode) String() string {
	switch m {
	case Encrypted:
		return "encrypted"
	case Raw:
		return "raw"
	}
	return fmt.Sprintf("mode(%d)", uint8(m))
}

// Params is what both ends must agree on before any key: each field is bound into the handshake, so that a server which
// shows the two ends different values makes the dial fail. The listener fills it from the offer it received, and it is
// for the listener's caller to see that Peer is one of its own names.
type Params struct {
	// DialID names this dial and is unique to it. A listener that has seen one does not answer it again: message 1 can be
	// replayed by whoever carried it (the replayer learns nothing, but the listener would work for nothing).
	DialID [16]byte
	Peer   string // the peer as the dialer spelt it, a name or a fingerprint; at most 255 bytes
	Port   uint16 // virtual port
	Mode   Mode

	// Resumable says that the dialer wants a connection that can be resumed; it is if the listener agrees (see
	// [Responder.Answer] and [Session.AgreedResume]).
	Resumable bool
	// Resumes is the secret of the connection that this dial is to give another path ([Session.Resumption] of its first
	// session); zero: it is a dial for a new one. It travels nowhere: it is in what both ends sign, so that a handshake
	// succeeds only between two that know it.
	Resumes [32]byte
}

// All labels differ, so that no signature or tag can be taken for another; and none begins like something else that an
// identity key signs (a certificate begins with 0x30, a TLS 1.3 CertificateVerify with 0x20).
const (
	labelPrologue = "stunt/1 dial\x00"
	labelMessage1 = "stunt/1 message 1\x00"
	labelMessage2 = "stunt/1 message 2\x00"
	labelMessage3 = "stunt/1 message 3\x00"
	labelPreface  = "stunt/1 preface\x00"
	labelSelect   = "stunt/1 select\x00"
	labelMove     = "stunt/1 move\x00"
	labelMoved    = "stunt/1 moved\x00"
	labelResume   = "stunt/1 resume\x00"
)

var errParams = errors.New("secure: peer longer than 255 bytes or unknown mode")

// prologue returns the unambiguous encoding of p that both ends mix into the handshake:
//
//	label  DialID[16]  mode[1]  port[2]  length of peer[1]  peer  [1  [secret[32]]]
//
// where the last parts are there if the dialer wants the connection to be resumable, and if it resumes one.
func (p Params) prologue() ([]byte, error) {
	if len(p.Peer) > 255 || p.Mode > Raw {
		return nil, errParams
	}
	b := append([]byte(labelPrologue), p.DialID[:]...)
	b = append(b, byte(p.Mode))
	b = binary.BigEndian.AppendUint16(b, p.Port)
	b = append(b, byte(len(p.Peer)))
	b = append(b, p.Peer...)
	if p.resumable() {
		b = append(b, 1)
	}
	if p.Resumes != ([32]byte{}) {
		b = append(b, p.Resumes[:]...)
	}
	return b, nil
}

// resumable reports whether the dial asks for a connection that can be resumed, or resumes one.
func (p Params) resumable() bool { return p.Resumable || p.Resumes != [32]byte{} }
