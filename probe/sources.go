package probe

import (
	"container/list"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// How many sources are remembered. The one that asked least recently is
// forgotten first; it starts again with a full burst, so a stranger with this
// many addresses is bounded by the number of dial backs at once.
const maxSources = 8192

// sources limits what each source address may ask for. It holds no goroutine.
type sources struct {
	limit rate.Limit
	burst int

	mu      sync.Mutex // guards following
	entries map[netip.Prefix]*list.Element
	recent  *list.List // of *source, the latest first
}

type source struct {
	prefix netip.Prefix
	tokens *rate.Limiter
}

func newSources(limit rate.Limit, burst int) *sources {
	return &sources{limit: limit, burst: burst, entries: make(map[netip.Prefix]*list.Element), recent: list.New()}
}

// allow reports whether addr may ask once more at the time now, and counts it.
func (s *sources) allow(addr netip.Addr, now time.Time) bool {
	p := prefixOf(addr)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[p]
	if e == nil {
		if s.recent.Len() >= maxSources {
			oldest := s.recent.Back()
			delete(s.entries, oldest.Value.(*source).prefix)
			s.recent.Remove(oldest)
		}
		e = s.recent.PushFront(&source{p, rate.NewLimiter(s.limit, s.burst)})
		s.entries[p] = e
	} else {
		s.recent.MoveToFront(e)
	}
	return e.Value.(*source).tokens.AllowN(now, 1)
}

// prefixOf is what counts as one source: an IPv4 address, or the IPv6 /64 that
// one host can pick any address from.
func prefixOf(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits)
	return p
}
