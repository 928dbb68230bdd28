package stuntd

import (
	"os"
	"runtime/debug"
)

// gcPercent is how much garbage the program lets come together, in percent of
// what is in use (GOGC). Nearly all of a server's memory is idle sessions, and
// an idle session makes next to no garbage: some five MB a second for a hundred
// thousand of them. Go's own 100 would let a server take half as much memory
// again, and leave more holes in it, to save a collection every two minutes.
// While all come back at once it costs some percent of the handshakes.
const gcPercent = 50

// LeanHeap has the process collect garbage as Main does, unless $GOGC says how.
// It is for programs with nothing else in them than a server.
func LeanHeap() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
}
