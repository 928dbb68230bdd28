package secure

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net"
	"sync"

	"github.com/flynn/noise"
)

// Session is what a handshake leaves: the peer's identity, the key that proves a connection to be of this dial, and the
// keys of the one connection that will carry data. Its methods may be called at the same time.
type Session struct {
	role   Role
	params Params
	peer   ed25519.PublicKey
	proof  [keySize]byte

	resumable bool // both ends want that

	mu        sync.Mutex // guards following
	message3  [message3Size]byte
	pending   *noise.HandshakeState // listener: waiting for message 3
	handshake *handshake            // listener: goes with pending
	refused   error                 // listener: message 3 was bad
	keys      *keys                 // nil before message 3 and after Conn
}

// keys are the two transport keys that the handshake ended with.
type keys struct{ out, in [keySize]byte }

var (
	errHeader = errors.New("secure: preface is not from this dial's peer")
	errSelect = errors.New("secure: select or move is not for this connection")
	errNoKeys = errors.New("secure: session not proved yet, or its keys already in use")
)

func newSession(h *handshake, role Role, proof []byte) *Session {
	s := &Session{role: role, params: h.params, peer: h.peer}
	copy(s.proof[:], proof)
	return s
}

// Peer returns the key of the other end.
func (s *Session) Peer() ed25519.PublicKey { return s.peer }

// Role returns the part of this end.
func (s *Session) Role() Role { return s.role }

// Params returns what both ends agreed on.
func (s *Session) Params() Params { return s.params }

// Preface returns what to write on a new connection of this dial: 198 bytes from a dialer, 70 from a listener. The nonce
// must be fresh for each connection.
func (s *Session) Preface(nonce Nonce) []byte {
	h := Header{Role: s.role, DialID: s.params.DialID, Nonce: nonce}
	if s.role == Dialer {
		h.message3 = s.message3 // not written to after Finish
	}
	s.mac(labelPreface, h.mac()...).Sum(h.tag[:0])
	return h.append(nil)
}

// Check reports whether h was made by the session's peer, for this dial, in the other role. A stranger's header costs one
// HMAC; the public-key work of message 3 is done once, for the first header that has a good tag. A header can be
// replayed on another connection by who saw it, and would pass: only the select is bound to its connection.
func (s *Session) Check(h Header) error {
	other := Dialer
	if s.role == Dialer {
		other = Listener
	}
	var tag [sha256.Size]byte
	s.mac(labelPreface, h.mac()...).Sum(tag[:0])
	if h.Role != other || h.DialID != s.params.DialID || !hmac.Equal(tag[:], h.tag[:]) {
		return errHeader
	}
	if s.role == Dialer {
		return nil
	}
	return s.checkMessage3(&h.message3)
}

// checkMessage3 brings the listener's handshake to its end, or compares with the message that did.
func (s *Session) checkMessage3(m *[message3Size]byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refused != nil {
		return s.refused
	}
	if s.pending == nil {
		if subtle.ConstantTimeCompare(m[:], s.message3[:]) == 0 {
			return errHeader
		}
		return nil
	}
	hs, h := s.pending, s.handshake
	s.pending, s.handshake = nil, nil

	soFar := [sha256.Size]byte(hs.ChannelBinding())
	sig, in, out, err := hs.ReadMessage(nil, m[:])
	if err == nil && !ed25519.Verify(s.peer, h.statement(labelMessage3, hs.PeerStatic(), soFar[:]), sig) {
		err = errSign
	}
	if err != nil {
		s.refused = &HandshakeError{3, err}
		return s.refused
	}
	s.message3 = *m
	s.keys = &keys{out: out.UnsafeKey(), in: in.UnsafeKey()}
	return nil
}

// Select returns the dialer's word (of [SelectSize]) that the connection with these two nonces is the one to use. It is
// said on one connection of a dial, after the listener's header was checked there; data may follow at once.
func (s *Session) Select(mine, theirs Nonce) []byte {
	return s.word(typeSelect, labelSelect, mine, theirs)
}

// word is what an end says of the connection with the two nonces, the dialer's first.
func (s *Session) word(kind byte, label string, dialer, listener Nonce) []byte {
	b := make([]byte, 1, SelectSize)
	b[0] = kind
	return s.mac(label, dialer[:], listener[:]).Sum(b)
}

// heard reports whether msg is the word that was to come.
func heard(msg, word []byte) error {
	if !hmac.Equal(msg, word) {
		return errSelect
	}
	return nil
}

// CheckSelect reports on the listener's side whether msg selects the connection with these two nonces.
func (s *Session) CheckSelect(msg []byte, mine, theirs Nonce) error {
	return heard(msg, s.Select(theirs, mine))
}

// Move returns the dialer's word (of [SelectSize]) that the selected connection is to go on over the one with these nonces.
// It is said on one connection of a dial at most, so that both ends mean the same one; what follows there is records.
func (s *Session) Move(mine, theirs Nonce) []byte {
	return s.word(typeMove, labelMove, mine, theirs)
}

// CheckMove is CheckSelect for a move.
func (s *Session) CheckMove(msg []byte, mine, theirs Nonce) error {
	return heard(msg, s.Move(theirs, mine))
}

// Moved returns the listener's answer to a move: it goes over as well, whatever becomes of this answer.
func (s *Session) Moved(mine, theirs Nonce) []byte {
	return s.word(typeMoved, labelMoved, theirs, mine)
}

// CheckMoved reports on the dialer's side whether msg answers the move on the connection with these two nonces.
func (s *Session) CheckMoved(msg []byte, mine, theirs Nonce) error {
	return heard(msg, s.Moved(theirs, mine))
}

// Conn wraps the selected connection in records, and takes it over. It works once for a session, because two
// connections under the same keys would give both away. In [Raw] mode it is for a connection over somebody else's host,
// a relay, which both ends know it to be.
func (s *Session) Conn(c net.Conn) (*Conn, error) {
	s.mu.Lock()
	k := s.keys
	s.keys = nil
	s.mu.Unlock()
	if k == nil {
		return nil, errNoKeys
	}
	return newConn(c, k), nil
}

// ControlConn is Conn for two ends that both take control records ([Conn.Control]). Those of the peer are handed to
// control, between the records of data as they come, by whoever reads; it must not keep the slice, nor block. Its error ends
// that call.
func (s *Session) ControlConn(c net.Conn, control func([]byte) error) (*Conn, error) {
	records, err := s.Conn(c)
	if err == nil {
		records.in.control = control
	}
	return records, err
}

// Resumption returns a secret that the two ends of the session share and nobody else has: whoever proves to know it
// later is one of them ([Params].Resumes).
func (s *Session) Resumption() [32]byte {
	return [32]byte(s.mac(labelResume, s.params.DialID[:]).Sum(nil))
}

// AgreedResume reports whether both ends want the connection to be resumable. The dialer has said so in its [Params],
// the listener in its answer, which the dialer alone can read and the server can't change.
func (s *Session) AgreedResume() bool { return s.resumable }

// mac returns a running HMAC under the proof key over label and parts.
func (s *Session) mac(label string, parts ...[]byte) interface{ Sum([]byte) []byte } {
	m := hmac.New(sha256.New, s.proof[:])
	m.Write([]byte(label))
	for _, p := range parts {
		m.Write(p)
	}
	return m
}

// mac returns the parts of a header that its tag covers.
func (h *Header) mac() [][]byte {
	return [][]byte{{byte(h.Role)}, h.DialID[:], h.Nonce[:], h.signed()}
}
