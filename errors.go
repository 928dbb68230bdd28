package stunt

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/gostunt/stunt/internal/sock"
	"github.com/gostunt/stunt/rendezvous"
)

// What a dial can end with where a caller may act differently; match with
// errors.Is. Others are [syscall.ECONNREFUSED] (the peer is there, but nobody
// listens on that port), [net.ErrClosed], and those of the context.
var (
	// ErrUnknownPeer: nobody with that ID is connected to the server now.
	ErrUnknownPeer = errors.New("no such peer: nobody with this ID is connected to the server")
	// ErrNoPath: both ends tried, no connection stood and proved itself in time,
	// and there was no relay that both may use and can reach.
	ErrNoPath = errors.New("no path found")
	// ErrNoServer: no session with a server stands, the one that stood was lost
	// in mid-dial, or the server did not say what public address a port has. The
	// node goes on trying to get one, unless the server has refused it for good.
	ErrNoServer = errors.New("no session with a server")
	// ErrNotAuthorized: the peer, or the server, does not want this node, or
	// wants a token that it does not have.
	ErrNotAuthorized = errors.New("not authorized")
	// ErrSecurity: the listener does not take connections in the dialer's mode.
	ErrSecurity = errors.New("the listener requires another security mode")
	// ErrWrongPeer: whoever answered does not hold the key that was asked for.
	ErrWrongPeer = errors.New("the peer holds another key than the one asked for")
)

// ErrAddressGone is why a connection broke off that left from an address that
// this host has not any more, since it is in another network or in none.
var ErrAddressGone = errors.New("the local address of the connection is gone")

// ErrNotResumed is why a connection ended that can be resumed ([Config].Resume),
// after its path had died: no other was found in time, or the peer knows nothing
// of the connection any more because it was started anew.
var ErrNotResumed = errors.New("the connection broke off and was not resumed")

// DialError is why a dial failed. It is found with errors.As inside the
// *net.OpError that dials return.
type DialError struct {
	Err      error     // what it ended with
	Attempts []Attempt // what was tried before that
	Help     string    // what would help, if anything is known to; a sentence without full stop
}

// Error lists the reason, each attempt and how it ended, and what would help.
func (e *DialError) Error() string {
	var b strings.Builder
	b.WriteString(e.Err.Error())
	for i, a := range e.Attempts {
		if i == 0 {
			b.WriteString("; tried ")
		} else {
			b.WriteString(", ")
		}
		b.WriteString(a.String())
	}
	if e.Help != "" {
		b.WriteString("; " + e.Help)
	}
	return b.String()
}

// Unwrap returns the reason and the end of every attempt.
func (e *DialError) Unwrap() []error {
	errs := []error{e.Err}
	for _, a := range e.Attempts {
		if a.Err != nil {
			errs = append(errs, a.Err)
		}
	}
	return errs
}

// Timeout reports whether time ran out, rather than somebody having said no.
func (e *DialError) Timeout() bool {
	return errors.Is(e.Err, ErrNoPath) || errors.Is(e.Err, context.DeadlineExceeded) || errors.Is(e.Err, os.ErrDeadlineExceeded)
}

// opError is the one place that makes the errors of dials and accepts.
func opError(op string, err error, local, remote net.Addr) error {
	if err == nil {
		return nil
	}
	return &net.OpError{Op: op, Net: "stunt", Source: local, Addr: remote, Err: err}
}

// fromServer gives an error of the rendezvous the meaning that callers match.
func fromServer(err error) error {
	if errors.Is(err, rendezvous.ErrDisconnected) {
		return noServer{err}
	}
	var re *rendezvous.Error
	if !errors.As(err, &re) {
		return err
	}
	switch re.Code {
	case rendezvous.CodeUnknownPeer, rendezvous.CodePeerGone:
		return meaning{ErrUnknownPeer, err}
	case rendezvous.CodeBadKey:
		return meaning{ErrWrongPeer, err}
	case rendezvous.CodePortClosed:
		return meaning{syscall.ECONNREFUSED, fmt.Errorf("connection refused: %w", err)}
	case rendezvous.CodeNotAllowed, rendezvous.CodeTokenRequired, rendezvous.CodeBadToken, rendezvous.CodeTokenExpired:
		return meaning{ErrNotAuthorized, err}
	case rendezvous.CodeModeMismatch:
		return meaning{ErrSecurity, err}
	case rendezvous.CodeTimeout:
		return meaning{os.ErrDeadlineExceeded, err}
	}
	return err
}

// meaning is an error with a sentinel that it also is.
type meaning struct{ is, err error }

func (m meaning) Error() string {
	switch m.is {
	case error(syscall.ECONNREFUSED), os.ErrDeadlineExceeded:
		return m.err.Error() // which says it in other words
	}
	return fmt.Sprintf("%v (%v)", m.is, m.err)
}

func (m meaning) Unwrap() []error { return []error{m.is, m.err} }

// unbound gives the error of a port without a public address its meaning. If
// this machine had a socket for it, and the caller time, the server is to blame.
func unbound(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return err
	}
	switch sock.Classify(err) {
	case sock.Canceled, sock.Exhausted, sock.AddrInUse, sock.AddrNotAvail:
		return err
	}
	return noServer{err}
}

// noServer is the error of a node without a session, or without a server's help. What the sockets said is
// in its text, not in its chain: a server that refuses connections must not
// look like a peer that does.
type noServer struct{ err error }

func (n noServer) Error() string { return n.err.Error() }

func (n noServer) Unwrap() []error {
	errs := []error{ErrNoServer}
	for _, is := range []error{context.Canceled, context.DeadlineExceeded, os.ErrDeadlineExceeded, rendezvous.ErrPin, rendezvous.ErrProtocol} {
		if errors.Is(n.err, is) {
			errs = append(errs, is)
		}
	}
	if code, ok := errors.AsType[rendezvous.Code](n.err); ok {
		errs = append(errs, code)
	}
	return errs
}
