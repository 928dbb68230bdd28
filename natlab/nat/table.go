package nat

import (
	"net/netip"
	"time"
)

// maxSessions bounds the state that packets from anywhere can create: twice
// what the largest guess (every port of one peer) takes.
const maxSessions = 1 << 17

// flow is a session as seen from one side: local is the inside endpoint there
// and the public one here, remote the same on both.
type flow struct {
	proto         uint8
	local, remote netip.AddrPort
}

// place is what no two live mappings may share. With port overloading it has
// the destination too; scope is zero otherwise.
type place struct {
	proto  uint8
	public netip.AddrPort
	scope  netip.AddrPort
}

// mapping ties an inside endpoint to a public one. It lives as long as one of
// its sessions. For IPv6 both endpoints are the same.
type mapping struct {
	proto          uint8
	inside, public netip.AddrPort
	use            flow  // key in table.inUse
	place          place // key in table.taken
	sessions       map[netip.AddrPort]*session
}

// session is a mapping's state for one remote endpoint.
type session struct {
	m       *mapping
	remote  netip.AddrPort
	expires time.Time
	state   State

	// TCP only:
	half   [2]half // by sender
	offset uint32  // what is added to the inside's sequence numbers
	loose  bool    // picked up midway: its numbers were not seen from the start
}

// table finds sessions and mappings. What has expired is removed when it is
// found, and all of it when the table has doubled.
type table struct {
	out, in map[flow]*session  // by inside endpoint; by public endpoint
	inUse   map[flow]*mapping  // which one an inside endpoint's next flow uses; remote is the scope
	taken   map[place]*mapping // which one holds a public endpoint
	sweepAt int                // sessions at which to look for expired ones
}

func newTable() table {
	return table{
		out: make(map[flow]*session), in: make(map[flow]*session),
		inUse: make(map[flow]*mapping), taken: make(map[place]*mapping),
		sweepAt: 1024,
	}
}

// live returns s if it has not expired, else nil after removing it.
func (t *table) live(s *session, now time.Time) *session {
	if s == nil || now.Before(s.expires) {
		return s
	}
	t.remove(s)
	return nil
}

// liveMapping returns m if one of its sessions lives, else nil.
func (t *table) liveMapping(m *mapping, now time.Time) *mapping {
	if m != nil {
		for _, s := range m.sessions {
			if t.live(s, now) != nil {
				return m
			}
		}
	}
	return nil
}

// addMapping registers a mapping that is about to get its first session. It
// becomes the one in use unless keep says to leave a live one alone.
func (t *table) addMapping(m *mapping, keep bool, now time.Time) {
	m.sessions = make(map[netip.AddrPort]*session)
	t.taken[m.place] = m
	if !keep || t.liveMapping(t.inUse[m.use], now) == nil {
		t.inUse[m.use] = m
	}
}

// addSession makes a session of m for remote, or returns nil when the table is
// full.
func (t *table) addSession(m *mapping, remote netip.AddrPort, now time.Time) *session {
	if len(t.in) >= t.sweepAt {
		t.sweep(now)
		t.sweepAt = max(1024, 2*len(t.in))
	}
	if len(t.in) >= maxSessions {
		t.removeIfUnused(m)
		return nil
	}
	s := &session{m: m, remote: remote}
	m.sessions[remote] = s
	t.in[flow{m.proto, m.public, remote}] = s
	t.out[flow{m.proto, m.inside, remote}] = s
	return s
}

// sweep removes all expired sessions.
func (t *table) sweep(now time.Time) {
	for _, s := range t.in {
		t.live(s, now)
	}
}

// remove forgets s, and its mapping if it was the last one.
func (t *table) remove(s *session) {
	m := s.m
	delete(m.sessions, s.remote)
	delete(t.in, flow{m.proto, m.public, s.remote})
	// A session-dependent NAT may have a newer session between the same two.
	if key := (flow{m.proto, m.inside, s.remote}); t.out[key] == s {
		delete(t.out, key)
	}
	t.removeIfUnused(m)
}

func (t *table) removeIfUnused(m *mapping) {
	if len(m.sessions) > 0 {
		return
	}
	delete(t.taken, m.place)
	if t.inUse[m.use] == m {
		delete(t.inUse, m.use)
	}
}
