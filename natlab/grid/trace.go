package grid

import (
	"bytes"
	"fmt"
	"io"
	"sync"
	"time"
)

// The ports of the server.
const (
	port1 = 3478
	port2 = 3479
)

// trace gets the lab's line for each packet. It counts the SYNs of a race
// where they are sent, so that those which the kernel repeats are counted too,
// and writes all to a file, if there is one.
type trace struct {
	mu    sync.Mutex // guards following
	file  io.Writer  // may be nil
	began time.Time  // the lab's clock began then
	syns  int
}

// Write implements [io.Writer]: one line of a [natlab.Config.Trace].
func (t *trace) Write(line []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if punching(line) {
		t.syns++
	}
	if t.file == nil {
		return len(line), nil
	}
	return t.file.Write(line)
}

// punching reports whether a line is about a SYN that a node sends, but not to
// the server: time, place, "send", source, ">", destination, flags.
func punching(line []byte) bool {
	f := bytes.Fields(line)
	return len(f) > 6 && string(f[2]) == "send" && string(f[6]) == "S" &&
		(string(f[1]) == dialerHost || string(f[1]) == listenerHost) &&
		!bytes.HasSuffix(f[5], fmt.Appendf(nil, ":%d", port1)) && !bytes.HasSuffix(f[5], fmt.Appendf(nil, ":%d", port2))
}

// count returns how many SYNs there were so far.
func (t *trace) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.syns
}

// note writes a line about a host among those about its packets.
func (t *trace) note(host, format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.file != nil {
		fmt.Fprintf(t.file, "%11.6f %-14s -- %s\n", time.Since(t.began).Seconds(), host, fmt.Sprintf(format, args...))
	}
}
