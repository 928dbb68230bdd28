package sock

import (
	"context"
	"errors"
	"os"
)

// Class is what the end of a connection attempt means for the next one.
type Class uint8

const (
	Other          Class = iota // not one of the below
	Refused                     // a RST answered the SYN
	Reset                       // a RST ended what had begun
	Unreachable                 // an ICMP error, or no route
	Timeout                     // nothing came
	AddrNotAvail                // the tuple is taken: in use or in TIME_WAIT
	AddrInUse                   // the local port is taken by a socket that does not share it
	Canceled                    // the caller gave up
	SelfConnection              // see ErrSelfConnect
	Exhausted                   // no file descriptors or buffers left
)

var classNames = [...]string{"other", "refused", "reset", "unreachable", "timeout",
	"address not available", "address in use", "canceled", "self-connect", "out of sockets"}

// String returns the class in words, as reports and errors print it.
func (c Class) String() string {
	if int(c) < len(classNames) {
		return classNames[c]
	}
	return "other"
}

// Classify returns the class of an error of [Net.Dial] or [Net.Listen]. It
// looks through every wrapping: a type assertion on the *net.OpError would
// miss the errno inside it.
func Classify(err error) Class {
	switch {
	case errors.Is(err, ErrSelfConnect):
		return SelfConnection
	case errors.Is(err, context.Canceled):
		return Canceled
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return Timeout
	}
	for class, errnos := range errnoClasses {
		for _, e := range errnos {
			if errors.Is(err, e) {
				return class
			}
		}
	}
	return Other
}
