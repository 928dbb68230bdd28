package rendezvous

import (
	"crypto/ed25519"
	"net/netip"
	"slices"
	"time"
)

// A Peer is a session, as its server sees it. It is for the operator: others
// learn of a node what its Info allows.
type Peer struct {
	Key      ed25519.PublicKey
	IDs      []string // live names of the key, in order
	Dialable bool     // it has registered
	Observed netip.AddrPort
	Since    time.Time
	Info     Info // its blobs are not to be changed
}

// Stats are what a server has now.
type Stats struct {
	Sessions int
	Keys     int // that have a session, or a name
	Names    int // with those that are held for a key without a session
	Dials    int // that are under way, or whose ends have not both reported yet
}

// Stats returns how much there is now.
func (s *Server) Stats() Stats {
	st := Stats{Sessions: s.Sessions(), Dials: s.dials.count()}
	st.Keys, st.Names = s.directory.size()
	return st
}

// Peers returns those who have a session, but no more than so many: of more,
// some, in no order.
func (s *Server) Peers(most int) []Peer { return s.directory.some(most) }

// Peer returns who is reached by a name or a fingerprint.
func (s *Server) Peer(id string) (Peer, bool) {
	sess := s.directory.find(id)
	if sess == nil {
		return Peer{}, false
	}
	return s.directory.describe(sess), true
}

// count returns how many dials are remembered.
func (t *dialTable) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.all)
}

func (d *directory) size() (keys, names int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.keys), len(d.names)
}

// some looks at no more than it needs: others wait for mu.
func (d *directory) some(most int) []Peer {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []Peer
	for _, o := range d.keys {
		for _, sess := range o.sessions {
			if len(all) >= most {
				return all
			}
			all = append(all, d.peer(sess))
		}
	}
	return all
}

func (d *directory) describe(s *session) Peer {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.peer(s)
}

// peer returns what is known of a session. Caller holds mu.
func (d *directory) peer(s *session) Peer {
	p := Peer{Key: s.key, Dialable: s.dialable, Observed: s.observed, Since: s.since, Info: *s.info.Load()}
	if o := d.keys[s.fingerprint]; o != nil {
		for _, name := range o.names {
			if d.names[name].session == s {
				p.IDs = append(p.IDs, name)
			}
		}
	}
	slices.Sort(p.IDs)
	return p
}
