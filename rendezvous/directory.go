package rendezvous

import (
	"container/list"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// A directory knows who is where: names belong to keys, and a key's sessions
// answer for them. It lives in memory and is rebuilt by the clients, which
// register again wherever they come back.
//
// A name stays with its key for the hold time after the session that had it
// has ended, so that nobody takes it from a node that is only reconnecting.
// Several servers have one each; titles.go is about what they have in common.
type directory struct {
	hold        time.Duration // ≤ 0: not at all
	idsPerKey   int
	sessPerKey  int
	quietPeriod time.Duration // a session not heard for so long may be dead
	me          string        // the name of this server in a cluster; empty: it is alone

	mu    sync.Mutex        // guards following, and every session's dialable
	names map[string]*claim // by name, never a fingerprint
	keys  map[string]*owner // by fingerprint
	held  list.List         // of *claim, in the order of their times, as hold is constant
	holds map[netip.Prefix]int
	news  []string // names and fingerprints that have come or gone since takeNews; none if alone
}

// maxHolds is how many names are held for the keys of one source, which may come
// with a new key for each connection. What it leaves behind beyond that is free
// at once.
const maxHolds = 1024

// A claim binds a name to a key.
type claim struct {
	name    string
	owner   string        // fingerprint
	session *session      // nil while the name is only held
	hold    *list.Element // in the directory's held, while it is
	until   time.Time     // end of the hold
	source  netip.Prefix  // that it is held for
	bound   int64         // when the key took it, Unix ns
	epoch   int64         // when the session did
	pending bool          // other servers may still object
}

// An owner is a key with something in the directory.
type owner struct {
	sessions []*session // the one to be dialled by fingerprint last
	names    []string
	epoch    int64  // when a session last registered anything, Unix ns
	bids     int    // that the other servers have not answered
	away     string // the server that the fingerprint leads to; empty: this one
}

// join adds a session of a key. One too many is refused, unless an old one has
// missed its pings: that one is dropped from the directory and returned, and
// the caller closes it.
func (d *directory) join(s *session, now time.Time) (stale *session, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.expire(now)
	o := d.keys[s.fingerprint]
	if o == nil {
		o = &owner{}
	}
	if len(o.sessions) >= d.sessPerKey {
		stale = slices.MinFunc(o.sessions, func(a, b *session) int { return a.heardAt().Compare(b.heardAt()) })
		if now.Sub(stale.heardAt()) < d.quietPeriod {
			return nil, errorf(CodeLimit, "this key has %d sessions", len(o.sessions)).of(limitKey)
		}
		d.remove(o, stale, now)
	}
	o.sessions = slices.Insert(o.sessions, 0, s)
	if d.keys == nil {
		d.keys, d.names = make(map[string]*owner), make(map[string]*claim)
	}
	d.keys[s.fingerprint] = o // again, if the stale session was its last
	return stale, nil
}

// leave removes a session; its names are held for its key. A session that was
// removed before is no error.
func (d *directory) leave(s *session, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if o := d.keys[s.fingerprint]; o != nil {
		d.remove(o, s, now)
		d.tidy(s.fingerprint, o)
	}
}

// remove takes a session from its owner. Caller holds mu.
func (d *directory) remove(o *owner, s *session, now time.Time) {
	o.sessions = slices.DeleteFunc(o.sessions, func(x *session) bool { return x == s })
	d.tell(s.fingerprint)
	for _, name := range slices.Clone(o.names) {
		c := d.names[name]
		if c.session != s {
			continue
		}
		d.release(c, now)
	}
}

// release ends a session's use of a name, which is held if there is room for
// that. Caller holds mu.
func (d *directory) release(c *claim, now time.Time) {
	source := sourceOf(c.session.observed.Addr())
	c.session = nil
	d.tell(c.name)
	if d.hold <= 0 || d.holds[source] >= maxHolds || d.held.Len() >= MaxNames {
		d.free(c)
		return
	}
	d.holdFor(c, source, now.Add(d.hold))
}

// holdFor begins the hold of a name, which ends no sooner than those before it.
// Caller holds mu.
func (d *directory) holdFor(c *claim, source netip.Prefix, until time.Time) {
	if d.holds == nil {
		d.holds = make(map[netip.Prefix]int)
	}
	d.holds[source]++
	c.source, c.until, c.hold = source, until, d.held.PushBack(c)
}

// unhold ends the hold of a name, if it has one. Caller holds mu.
func (d *directory) unhold(c *claim) {
	if c.hold == nil {
		return
	}
	d.held.Remove(c.hold)
	c.hold = nil
	if d.holds[c.source]--; d.holds[c.source] == 0 {
		delete(d.holds, c.source)
	}
}

// register gives a name to a session, or only makes it dialable under its
// fingerprint if id is that or empty. Another session of the same key that had
// the name is returned: it has been replaced, and the caller tells it so.
func (d *directory) register(s *session, id string, now time.Time) (replaced *session, err error) {
	if id != "" {
		if err := ValidID(id); err != nil {
			return nil, err
		}
		if IsFingerprint(id) && id != s.fingerprint {
			return nil, errorf(CodeBadID, "%s is the fingerprint of another key", id)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.expire(now)
	o := d.keys[s.fingerprint]
	if o == nil || !slices.Contains(o.sessions, s) {
		return nil, errorf(CodeReplaced, "this session has ended")
	}
	if id != "" && id != s.fingerprint {
		if replaced, err = d.claim(o, s, id, now); err != nil {
			return nil, err
		}
	}
	// The newest to register is the one that the fingerprint reaches.
	s.dialable = true
	o.epoch, o.away = now.UnixNano(), ""
	d.tell(s.fingerprint)
	o.sessions = append(slices.DeleteFunc(o.sessions, func(x *session) bool { return x == s }), s)
	return replaced, nil
}

// claim binds a name to s. Caller holds mu.
func (d *directory) claim(o *owner, s *session, id string, now time.Time) (replaced *session, err error) {
	c := d.names[id]
	switch {
	case c == nil && len(o.names) >= d.idsPerKey:
		return nil, errorf(CodeLimit, "this key has %d ids", len(o.names)).of(limitIDs)
	case c == nil:
		d.names[id] = &claim{name: id, owner: s.fingerprint, session: s, bound: now.UnixNano(), epoch: now.UnixNano(), pending: d.me != ""}
		o.names = append(o.names, id)
		d.tell(id)
		return nil, nil
	case c.owner != s.fingerprint:
		return nil, errorf(CodeIDTaken, "%q belongs to another key", id)
	case c.session == s:
		return nil, nil
	}
	d.unhold(c)
	replaced, c.session, c.epoch = c.session, s, now.UnixNano()
	d.tell(id)
	return replaced, nil
}

// shortHold is up to where a hold is there for nodes that reconnect. A longer one
// is there to keep names for their owners, also while these are not running.
const shortHold = time.Minute

// deregister gives a name up at once; it is free for anybody, unless holds are
// long. An empty one, or the fingerprint, makes the session undialable by its key.
func (d *directory) deregister(s *session, id string, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if id == "" || id == s.fingerprint {
		s.dialable = false
		d.tell(s.fingerprint)
	} else if c := d.names[id]; c != nil && c.session == s {
		if d.hold > shortHold {
			d.release(c, now)
		} else {
			d.free(c)
		}
	}
}

// free forgets a name. Caller holds mu.
func (d *directory) free(c *claim) {
	d.unhold(c)
	d.tell(c.name)
	delete(d.names, c.name)
	o := d.keys[c.owner]
	o.names = slices.DeleteFunc(o.names, func(n string) bool { return n == c.name })
	d.tidy(c.owner, o)
}

// tidy forgets a key that has nothing here. Caller holds mu.
func (d *directory) tidy(fingerprint string, o *owner) {
	if len(o.sessions) == 0 && len(o.names) == 0 {
		delete(d.keys, fingerprint)
	}
}

// expire frees the names whose hold is over. Each costs what it cost to hold
// it, and nothing runs when nobody comes. Caller holds mu.
func (d *directory) expire(now time.Time) {
	for e := d.held.Front(); e != nil && !now.Before(e.Value.(*claim).until); e = d.held.Front() {
		d.free(e.Value.(*claim))
	}
}

// find returns the session here that a name or a fingerprint reaches, or nil.
func (d *directory) find(id string) *session {
	d.mu.Lock()
	defer d.mu.Unlock()
	if c := d.names[id]; c != nil && !c.pending {
		return c.session
	}
	if o := d.keys[id]; o != nil && o.away == "" {
		for _, s := range slices.Backward(o.sessions) {
			if s.dialable {
				return s
			}
		}
	}
	return nil
}

// ids returns the live names of a key in order, no more than an Offer holds.
func (d *directory) ids(fingerprint string) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	o := d.keys[fingerprint]
	if o == nil {
		return nil
	}
	var live []string
	for _, name := range o.names {
		if c := d.names[name]; c.session != nil && !c.pending {
			live = append(live, name)
		}
	}
	slices.Sort(live)
	return live[:min(len(live), MaxIDs)]
}
