// Package park lets connections wait for something to read without holding
// anything for it: on Linux neither a goroutine nor a timer nor a buffer, on
// other systems a goroutine with the smallest stack there is. It is for servers
// whose clients are silent nearly always.
//
// A connection has a [Spot] in a [Lot]. Whoever serves it reads until there is
// nothing more, calls [Spot.Wait] and lets its goroutine end; a new one goes on
// when something comes. What has been read from the kernel is not seen here: who
// keeps what it has read ahead, as crypto/tls does, uses that up before it waits.
package park

import (
	"errors"
	"net"
	"time"
)

// A Lot is where connections wait.
type Lot interface {
	// Enter gives a connection, TCP or one with TCP in it (NetConn), a place.
	// The connection stays the caller's, and its deadline for reads is the
	// spot's while it waits. wake is what goes on when that is over, on a
	// goroutine of its own, never twice at a time: there is something to read,
	// an end or an error included; or, with readable false, there need not be.
	Enter(c net.Conn, wake func(readable bool)) (Spot, error)

	// Close ends what the lot itself has running, once all have left.
	Close()
}

// A Spot is the place of one connection in a Lot. Wait, Rest and Leave are for
// whoever serves the connection; each wait ends with one call of wake.
type Spot interface {
	// Wait returns at once; wake follows when there is something to read, or
	// after Wake. It is the last thing that one who serves does.
	Wait()
	// Rest is Wait for no less than d, whatever there is to read.
	Rest(d time.Duration)
	// Wake ends the wait that is going on, or else the next one before it
	// begins. It may be called at any time from anywhere and does not block.
	// Closing the connection needs it: its end is no event to a lot.
	Wake()
	// Leave gives the place back. No wait may be going on.
	Leave()
}

var errNotTCP = errors.New("park: not a TCP connection")
