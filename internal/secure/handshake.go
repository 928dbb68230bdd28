package secure

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"

	"github.com/flynn/noise"
)

// The handshake is XX. An identity is an Ed25519 key, which Noise knows nothing of: the payloads carry it, with a
// signature that ties it to the X25519 keys of this one handshake.
//
//	1  dialer → listener   e                 | key[32] signature[64]            in clear
//	2  listener → dialer   e, ee, s, es      | key[32] signature[64] proof[32]  encrypted; behind these 1[1] if the
//	                                           dialer wants a resumable connection and the listener, too
//	3  dialer → listener   s, se             | signature[64]                    encrypted
//
// Signature 1 is over the prologue, e and the key: the listener knows who asks before it answers, and message 2 can be
// read by that key's owner only. Signatures 2 and 3 are over the prologue, the signer's s and the handshake hash of all
// messages before. Signature 3 is by the key of message 1.
//
// The X25519 static keys are made afresh for each handshake. A lasting one would buy nothing, because each handshake is
// signed anyway, and it would be one more secret to keep and to steal; a fresh one costs less than 0.1 ms.
const (
	keySize = 32 // X25519 and Ed25519 public keys, and the proof key
	sigSize = ed25519.SignatureSize
	tagSize = 16 // AES-GCM

	payload1Size = keySize + sigSize
	payload2Size = keySize + sigSize + keySize

	message1Size = keySize + payload1Size
	message2Size = keySize + (keySize + tagSize) + (payload2Size + tagSize)
	agreedSize   = 1 // more, in the payload of a message 2 that agrees to a resumable connection
	message3Size = (keySize + tagSize) + (sigSize + tagSize)
)

var suite = noise.NewCipherSuite(noise.DH25519, noise.CipherAESGCM, noise.HashSHA256)

var (
	errKey   = errors.New("not an Ed25519 private key")
	errSize  = errors.New("wrong size")
	errSign  = errors.New("bad signature")
	errSpent = errors.New("handshake already over")
)

// HandshakeError reports a message that does not belong to this dial: damaged, made by somebody else, or made for other
// [Params]. The dial is over.
type HandshakeError struct {
	Message int // 1, 2 or 3
	Err     error
}

func (e *HandshakeError) Error() string {
	return fmt.Sprintf("secure: handshake message %d: %v", e.Message, e.Err)
}

func (e *HandshakeError) Unwrap() error { return e.Err }

// handshake is what both ends keep while the messages travel.
type handshake struct {
	key      ed25519.PrivateKey
	params   Params
	prologue []byte
	random   io.Reader
	static   noise.DHKey
	hs       *noise.HandshakeState // nil once the handshake is over, well or badly
	peer     ed25519.PublicKey
}

func newHandshake(random io.Reader, key ed25519.PrivateKey, p Params) (*handshake, error) {
	if len(key) != ed25519.PrivateKeySize {
		return nil, errKey
	}
	prologue, err := p.prologue()
	if err != nil {
		return nil, err
	}
	return &handshake{key: key, params: p, prologue: prologue, random: random}, nil
}

// start makes the static key and the Noise state, which will draw its one ephemeral key from ephemeral.
func (h *handshake) start(ephemeral io.Reader, initiator bool) (err error) {
	if h.static, err = suite.GenerateKeypair(h.random); err != nil {
		return err
	}
	h.hs, err = noise.NewHandshakeState(noise.Config{
		CipherSuite:   suite,
		Random:        ephemeral,
		Pattern:       noise.HandshakeXX,
		Initiator:     initiator,
		Prologue:      h.prologue,
		StaticKeypair: h.static,
	})
	return err
}

// take hands out the Noise state for its last use: a message that was refused leaves nothing to try again with.
func (h *handshake) take() (*noise.HandshakeState, error) {
	hs := h.hs
	h.hs = nil
	if hs == nil {
		return nil, errSpent
	}
	return hs, nil
}

func (h *handshake) public() ed25519.PublicKey { return h.key.Public().(ed25519.PublicKey) }

// statement returns what a signature is over. The parts have fixed sizes and the prologue carries its own.
func (h *handshake) statement(label string, parts ...[]byte) []byte {
	b := append([]byte(label), h.prologue...)
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

// Initiator is the dialer's side between message 1 and message 2. It is for one goroutine at a time.
type Initiator struct{ h *handshake }

// Initiate begins a dial and returns message 1 (128 bytes), which goes to the server with the dial. It keeps key.
func Initiate(key ed25519.PrivateKey, p Params) (*Initiator, []byte, error) {
	return initiate(rand.Reader, key, p)
}

func initiate(random io.Reader, key ed25519.PrivateKey, p Params) (*Initiator, []byte, error) {
	h, err := newHandshake(random, key, p)
	if err != nil {
		return nil, nil, &HandshakeError{1, err}
	}
	// Noise makes e while it writes the message, but the payload is to hold a signature over e. So e is made here, and
	// its private half is all the randomness that Noise gets to make it from.
	e, err := suite.GenerateKeypair(random)
	if err != nil {
		return nil, nil, &HandshakeError{1, err}
	}
	if err := h.start(bytes.NewReader(e.Private), true); err != nil {
		return nil, nil, &HandshakeError{1, err}
	}
	payload := append(make([]byte, 0, payload1Size), h.public()...)
	payload = append(payload, ed25519.Sign(key, h.statement(labelMessage1, e.Public, h.public()))...)
	msg1, _, _, err := h.hs.WriteMessage(nil, payload)
	if err != nil {
		return nil, nil, &HandshakeError{1, err}
	}
	return &Initiator{h}, msg1, nil
}

// Finish takes the listener's message 2 and returns the session, from then on ready for use. That the peer is the one
// who was meant is for the caller to see: by [Session.Peer], or by trust in the server's names. An Initiator finishes once,
// even if it fails.
func (i *Initiator) Finish(msg2 []byte) (*Session, error) {
	h := i.h
	hs, err := h.take()
	if err != nil {
		return nil, &HandshakeError{2, err}
	}
	agreed := h.params.resumable() && len(msg2) == message2Size+agreedSize
	if len(msg2) != message2Size && !agreed {
		return nil, &HandshakeError{2, errSize}
	}
	soFar := bytes.Clone(hs.ChannelBinding())
	payload, _, _, err := hs.ReadMessage(nil, msg2)
	if err != nil {
		return nil, &HandshakeError{2, err}
	}
	peer, sig, proof := payload[:keySize], payload[keySize:payload1Size], payload[payload1Size:payload2Size]
	if agreed && payload[payload2Size] != 1 {
		return nil, &HandshakeError{2, errSize}
	}
	if !ed25519.Verify(peer, h.statement(labelMessage2, hs.PeerStatic(), soFar), sig) {
		return nil, &HandshakeError{2, errSign}
	}
	h.peer = peer

	sig = ed25519.Sign(h.key, h.statement(labelMessage3, h.static.Public, hs.ChannelBinding()))
	msg3, out, in, err := hs.WriteMessage(nil, sig)
	if err != nil {
		return nil, &HandshakeError{3, err}
	}
	s := newSession(h, Dialer, proof)
	s.resumable = agreed
	copy(s.message3[:], msg3)
	s.keys = &keys{out: out.UnsafeKey(), in: in.UnsafeKey()}
	return s, nil
}

// Responder is the listener's side between message 1 and message 2. It is for one goroutine at a time.
type Responder struct{ h *handshake }

// Respond takes the dialer's message 1 out of an offer. On success [Responder.Peer] has signed exactly this dial, and
// nothing has been told to anybody yet. It keeps key. The cost of a bad message is one signature check.
func Respond(key ed25519.PrivateKey, p Params, msg1 []byte) (*Responder, error) {
	return respond(rand.Reader, key, p, msg1)
}

func respond(random io.Reader, key ed25519.PrivateKey, p Params, msg1 []byte) (*Responder, error) {
	if len(msg1) != message1Size {
		return nil, &HandshakeError{1, errSize}
	}
	h, err := newHandshake(random, key, p)
	if err != nil {
		return nil, &HandshakeError{1, err}
	}
	// Nothing in message 1 is encrypted, so its signature comes first, before any other work.
	e, peer, sig := msg1[:keySize], bytes.Clone(msg1[keySize:2*keySize]), msg1[2*keySize:]
	if !ed25519.Verify(peer, h.statement(labelMessage1, e, peer), sig) {
		return nil, &HandshakeError{1, errSign}
	}
	if err := h.start(random, false); err != nil {
		return nil, &HandshakeError{1, err}
	}
	if _, _, _, err := h.hs.ReadMessage(nil, msg1); err != nil {
		return nil, &HandshakeError{1, err}
	}
	h.peer = peer
	return &Responder{h}, nil
}

// Peer returns the key that the dialer signed message 1 with.
func (r *Responder) Peer() ed25519.PublicKey { return r.h.peer }

// Answer returns message 2 (224 bytes, or 225), which goes back through the server, and the session. The session can check
// prefaces at once, and carries data after the first good one. A Responder answers once. resumable says that the
// connection shall be, if the dialer wants it, too.
func (r *Responder) Answer(resumable bool) ([]byte, *Session, error) {
	h := r.h
	hs, err := h.take()
	if err != nil {
		return nil, nil, &HandshakeError{2, err}
	}
	payload := append(make([]byte, 0, payload2Size), h.public()...)
	payload = append(payload, ed25519.Sign(h.key, h.statement(labelMessage2, h.static.Public, hs.ChannelBinding()))...)
	payload = payload[:payload2Size]
	proof := payload[payload1Size:]
	if _, err := io.ReadFull(h.random, proof); err != nil {
		return nil, nil, &HandshakeError{2, err}
	}
	resumable = resumable && h.params.resumable()
	if resumable {
		payload = append(payload, 1)
	}
	msg2, _, _, err := hs.WriteMessage(nil, payload)
	if err != nil {
		return nil, nil, &HandshakeError{2, err}
	}
	s := newSession(h, Listener, proof)
	s.resumable = resumable
	s.pending, s.handshake = hs, h
	return msg2, s, nil
}
