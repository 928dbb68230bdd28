package turn

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"unicode"

	"github.com/pion/stun/v3"
)

// An Error is a refusal by the server. The codes that a caller may act on:
// 401 wrong credentials, 403 that peer is forbidden, 437 no allocation (any
// more), 442 the server does not relay TCP, 447 the peer was not reached, 486
// too many allocations of this user, 508 no room.
type Error struct {
	Code   int
	Reason string // the server's words
}

// Error returns both.
func (e *Error) Error() string { return fmt.Sprintf("turn: %d %s", e.Code, e.Reason) }

var (
	errLost       = errors.New("the server ended the allocation")
	errBadMessage = errors.New("the server does not speak TURN over TCP")
	errUnsigned   = errors.New("the server's answer is not signed with our password")
	errPermits    = fmt.Errorf("more than %d permissions", maxPermits)
)

// opError is how all errors leave this package.
func opError(op string, err error, local, remote net.Addr) error {
	return &net.OpError{Op: op, Net: "turn", Source: local, Addr: remote, Err: err}
}

// refusal makes an error of an error response.
func refusal(m *stun.Message) *Error {
	var code stun.ErrorCodeAttribute
	if code.GetFrom(m) != nil {
		return &Error{Code: 500, Reason: "an error without a code"}
	}
	reason := strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' ' // it ends on terminals
		}
		return r
	}, strings.ToValidUTF8(string(code.Reason), "?"))
	return &Error{Code: int(code.Code), Reason: reason}
}
