package rendezvous

import (
	"errors"
	"fmt"
	"syscall"
)

// Code says why something was refused or ended. It travels in Error, Answer
// and Cancel messages, and matches with errors.Is wherever it was wrapped:
//
//	if errors.Is(err, rendezvous.CodeUnknownPeer) { … }
//
// Numbers are part of the protocol: never reused, unknown ones are kept.
type Code uint16

const (
	CodeNone         Code = 0  // no error: an Answer that accepts
	CodeVersion      Code = 1  // no protocol version in common
	CodeBadMessage   Code = 2  // not a message, or not one to be sent here
	CodeTooLarge     Code = 3  // a frame longer than MaxMessage
	CodeBadKey       Code = 4  // the client's certificate is not over an Ed25519 key
	CodeBadID        Code = 5  // not a DNS label, or another key's fingerprint
	CodeIDTaken      Code = 6  // a live session of another key holds the ID, or did a moment ago
	CodeReplaced     Code = 7  // a newer session of the same key took the ID
	CodeUnknownPeer  Code = 8  // nobody with that ID is here; it may never have been
	CodePeerGone     Code = 9  // the peer's session ended during the dial
	CodeSelf         Code = 10 // the ID is the caller's own
	CodeRefused      Code = 11 // the peer does not want this dial
	CodePortClosed   Code = 12 // nobody listens on that port; matches syscall.ECONNREFUSED
	CodeNotAllowed   Code = 13 // this key may not: by the peer's Allow hook, the server's Admit or a Pass
	CodeModeMismatch Code = 14 // the peer requires another security mode
	CodeBusy         Code = 15 // too much at once: try again later
	CodeLimit        Code = 16 // too much in all: give something up first
	CodeTimeout      Code = 17 // the peer did not answer in time
	CodeCanceled     Code = 18 // the caller gave the dial up
	CodeShuttingDown Code = 19 // the server is going away: use another, or come back
	CodeInternal     Code = 20 // a fault of the one who says so

	CodeTokenRequired Code = 21 // the server lets in only who has a token of its operator's
	CodeBadToken      Code = 22 // the token is damaged, of another server, for another key, or was revoked
	CodeTokenExpired  Code = 23 // it was good until then

	CodeNoConnection Code = 24 // the dial resumes a connection that the peer does not have
)

var codeNames = [...]string{"none", "version mismatch", "bad message", "message too large", "bad key", "bad id", "id taken",
	"session replaced", "unknown peer", "peer gone", "own id", "refused by peer", "port closed", "not allowed",
	"mode mismatch", "busy", "limit reached", "no answer", "canceled", "server shutting down", "internal error",
	"token required", "token refused", "token expired", "no such connection"}

// String returns the code in words; one that this version does not know, by its number.
func (c Code) String() string {
	if int(c) < len(codeNames) {
		return codeNames[c]
	}
	return fmt.Sprintf("code %d", uint16(c))
}

// Error makes a Code a target for errors.Is.
func (c Code) Error() string { return "rendezvous: " + c.String() }

// Is reports whether target says the same in the words of the sockets: a
// closed virtual port is a refused connection.
func (c Code) Is(target error) bool {
	return c == CodePortClosed && target == syscall.ECONNREFUSED
}

// Timeout reports whether waiting was all that went wrong, as net.Error asks.
func (c Code) Timeout() bool { return c == CodeTimeout }

// byPeer reports whether a peer may give the code as its answer. The others
// are the server's to say.
func (c Code) byPeer() bool {
	switch c {
	case CodeRefused, CodePortClosed, CodeNotAllowed, CodeModeMismatch, CodeBusy, CodeLimit, CodeInternal, CodeNoConnection:
		return true
	}
	return c > CodeNoConnection // of a later version
}

// An Error is what one end of a session tells the other. It refers to one
// request (Ref), to one dial (DialID), or else to the whole session, which
// then ends.
type Error struct {
	Code   Code   `cbor:"9,keyasint"`
	Text   string `cbor:"10,keyasint,omitzero"` // for people; at most MaxText bytes
	Ref    uint32 `cbor:"1,keyasint,omitzero"`  // the request refused
	DialID DialID `cbor:"2,keyasint,omitzero"`  // the dial that ended
	ID     string `cbor:"3,keyasint,omitzero"`  // the name concerned

	limit string // the name of the limit that was met; known to this end only
}

// Error returns the code and what was said about it.
func (e *Error) Error() string {
	if e.Text == "" {
		return e.Code.Error()
	}
	return e.Code.Error() + ": " + e.Text
}

// Unwrap returns the Code, so that errors.Is finds it.
func (e *Error) Unwrap() error { return e.Code }

// Timeout reports whether the peer simply did not answer.
func (e *Error) Timeout() bool { return e.Code.Timeout() }

// errorf makes an Error about the session; set Ref or DialID for a part of it.
func errorf(c Code, format string, args ...any) *Error {
	return &Error{Code: c, Text: clip(fmt.Sprintf(format, args...), MaxText)}
}

// asError returns the Error in err, or an internal one: what went wrong inside
// a server is for its log, not for strangers.
func asError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		copied := *e
		return &copied
	}
	return &Error{Code: CodeInternal}
}

var (
	// ErrDisconnected is in every error of a request or dial that found no
	// session with a server, or lost it before it had its answer. What is
	// wrapped beside it, a refused connection for one, is about the server.
	ErrDisconnected = errors.New("no session with the rendezvous server")

	// ErrPin is in the error of a server whose key is not the pinned one.
	ErrPin = errors.New("the server's key is not the pinned one")

	// ErrProtocol is in the error of a TLS server that does not speak stunt.
	ErrProtocol = errors.New("not a stunt server")
)

// A FinalError ends a Client: trying again would meet the same refusal. It
// wraps the reason, an ErrPin, ErrProtocol, a *tls.CertificateVerificationError,
// a TLS alert or an *Error.
type FinalError struct {
	Server ServerAddr // who refused; zero if the configuration did
	Err    error
}

// Error names the server and the reason.
func (e *FinalError) Error() string {
	if e.Server == (ServerAddr{}) {
		return "rendezvous: " + e.Err.Error()
	}
	return "rendezvous: server " + e.Server.HostPort() + ": " + e.Err.Error()
}

// Unwrap returns the reason.
func (e *FinalError) Unwrap() error { return e.Err }
