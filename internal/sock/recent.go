package sock

import (
	"net/netip"
	"sync"
	"time"
)

const (
	// forget is how long a NAT may still know the mapping of a port whose
	// connection has ended: RFC 5382 REQ-5 has it keep one that is opening or
	// closing for 4 minutes.
	forget = 4 * time.Minute
	// maxRecent bounds the memory, at the ports that a busy minute of guessing
	// takes; what does not fit is not avoided.
	maxRecent = 4096
	// maxPicks bounds how often the kernel is asked for another port.
	maxPicks = 8
)

// recent remembers the local ports that the kernel has picked. It likes to pick
// the same again, of half of its range, and a NAT that still has the old
// mapping of such a port gives it instead of a new one: where the NAT counts,
// a sample that is none. The zero value is ready for use.
type recent struct {
	mu    sync.Mutex // guards following
	ports map[uint16]time.Time
}

// pickedNew remembers a port of the kernel's choice and reports whether it was new.
func (n *Net) pickedNew(local netip.AddrPort) bool { return n == nil || n.picked.note(local) }

// note remembers a port and reports whether it was new.
func (r *recent) note(local netip.AddrPort) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if r.ports == nil {
		r.ports = make(map[uint16]time.Time)
	}
	at, known := r.ports[local.Port()]
	if len(r.ports) >= maxRecent && !known {
		for port, at := range r.ports {
			if now.Sub(at) > forget {
				delete(r.ports, port)
			}
		}
		if len(r.ports) >= maxRecent {
			return true
		}
	}
	r.ports[local.Port()] = now
	return !known || now.Sub(at) > forget
}
