package natlab

import (
	"net/netip"
	"slices"
)

// A split keeps the hosts of one group from those of another.
type split struct{ sides [2][]netip.Addr }

// parts reports whether a packet goes from one side to the other.
func (s *split) parts(b []byte) bool {
	from, to := source(b), destination(b)
	for i, side := range s.sides {
		if slices.Contains(side, from) && slices.Contains(s.sides[1-i], to) {
			return true
		}
	}
	return false
}

// Split drops what public hosts of one group and those of the other send to each
// other, until heal is called: the Internet is broken between them, and whole for
// all others. A second Split takes the place of the first.
func (l *Lab) Split(some, others []*Host) (heal func()) {
	s := &split{}
	for i, hosts := range [][]*Host{some, others} {
		for _, h := range hosts {
			h.mu.Lock()
			s.sides[i] = append(append(s.sides[i], h.v4...), h.v6)
			h.mu.Unlock()
		}
	}
	l.internet.split.Store(s)
	return func() { l.internet.split.CompareAndSwap(s, nil) }
}
