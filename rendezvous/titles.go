package rendezvous

import (
	"cmp"
	"strings"
	"time"
)

// Between servers there is nobody to decide whose a name is, so that each side
// of a split cluster goes on. Every server answers for what it has; and any two
// that hold different titles to one name against each other come to the same
// result, whoever of them looks first:
//
//   - of two keys, the one that all servers have agreed to before the one that is
//     still asking; then the one that took the name earlier; then the lesser
//     fingerprint;
//   - of two sessions of one key, the one that lives; then the one that is asking,
//     as it has just come; then the one that came later; then the one at the
//     greater server's name.

// A verdict is what came of a title of another server.
type verdict struct {
	ours    *title // not nil: the better one, to which theirs has to give way
	settled bool   // it is not asking itself
	code    Code   // why theirs has to
	bound   int64  // when their key took the name, as far as it is known here; or 0

	lost *session // the one here that has lost the name, if any
	why  Code
}

// contest holds a title of another server against what is here; asking says that
// not all have agreed to it yet.
func (d *directory) contest(t *title, asking bool, now time.Time) verdict {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.expire(now)
	if t.ID == t.Owner {
		return d.contestKey(t, asking)
	}
	c := d.names[t.ID]
	if c == nil {
		return verdict{}
	}
	ours := d.title(c)
	switch {
	case c.owner == t.Owner:
		if c.keeps(ours, t, asking) {
			return verdict{ours: ours, settled: !c.pending, code: CodeReplaced, bound: c.bound}
		}
		v := verdict{bound: c.bound, lost: c.session, why: CodeReplaced}
		d.free(c)
		return v
	case !c.pending && asking || c.pending == asking && ours.earlierThan(t):
		return verdict{ours: ours, settled: !c.pending, code: CodeIDTaken}
	}
	v := verdict{why: CodeIDTaken}
	if !c.pending { // or it learns with its own bid
		v.lost = c.session
	}
	d.free(c)
	return v
}

// keeps decides between two titles of one key, of which both have the earlier time
// then. One that has it first keeps the name until the other knows of it: a third
// server's could take the name from that one meanwhile.
func (c *claim) keeps(ours, t *title, asking bool) bool {
	if c.bound < t.Bound && !asking {
		return true
	}
	c.bound = min(c.bound, t.Bound)
	ours.Bound = c.bound
	if ours.Held != t.Held {
		return t.Held
	}
	return c.pending && !asking || c.pending == asking && ours.laterThan(t)
}

// contestKey does it for a fingerprint. Nobody loses it: sessions that are not
// reached by it any more are again when the other one is gone. Caller holds mu.
func (d *directory) contestKey(t *title, asking bool) verdict {
	o := d.keys[t.Owner]
	if o == nil || o.away == "" && !o.dialable() {
		return verdict{}
	}
	ours := d.keyTitle(t.Owner, o)
	if o.away == "" && (o.bids > 0 || !asking) && ours.laterThan(t) {
		return verdict{ours: ours, settled: true, code: CodeReplaced}
	}
	o.away = t.Server
	d.tell(t.Owner)
	return verdict{}
}

// earlierThan decides between two keys, laterThan between two sessions of one.
func (t *title) earlierThan(u *title) bool {
	return cmp.Or(cmp.Compare(t.Bound, u.Bound), strings.Compare(t.Owner, u.Owner)) < 0
}

func (t *title) laterThan(u *title) bool {
	return cmp.Or(cmp.Compare(t.Epoch, u.Epoch), strings.Compare(t.Server, u.Server)) > 0
}

func (o *owner) dialable() bool {
	for _, s := range o.sessions {
		if s.dialable {
			return true
		}
	}
	return false
}

// title returns that of a claim. Caller holds mu.
func (d *directory) title(c *claim) *title {
	return &title{Server: d.me, ID: c.name, Owner: c.owner, Bound: c.bound, Epoch: c.epoch, Held: c.session == nil}
}

func (d *directory) keyTitle(fingerprint string, o *owner) *title {
	return &title{Server: d.me, ID: fingerprint, Owner: fingerprint, Epoch: o.epoch}
}

// apply begins to ask the other servers: it returns the title to a name, or to a
// fingerprint, that a session here has. settle ends it.
func (d *directory) apply(fingerprint, id string) (t *title, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	o := d.keys[fingerprint]
	if o == nil {
		return nil, false
	}
	if id == fingerprint {
		t = d.keyTitle(fingerprint, o)
	} else if c := d.names[id]; c != nil && c.owner == fingerprint {
		t = d.title(c)
	} else {
		return nil, false
	}
	o.bids++
	return t, true
}

// settle ends what apply began. If another server objected, the name is lost,
// unless they had agreed to it before. It reports whether the key has it.
func (d *directory) settle(t *title, objection bool, bound int64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if o := d.keys[t.Owner]; o != nil && o.bids > 0 {
		o.bids--
	}
	if t.ID == t.Owner {
		return true
	}
	c := d.names[t.ID]
	switch {
	case c == nil || c.owner != t.Owner:
		return false
	case objection && c.pending:
		d.free(c)
		return false
	}
	if c.pending = false; bound != 0 && bound < c.bound {
		c.bound = bound
	}
	return true
}

// there says what there is under a name or a fingerprint: a session that it
// reaches, or may when the other servers have agreed; or one that it may reach
// again, as the name is held, or the fingerprint leads elsewhere.
func (d *directory) there(id string) (live, held bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if c := d.names[id]; c != nil {
		return c.session != nil, c.session == nil
	}
	if o := d.keys[id]; o != nil && o.dialable() {
		return o.away == "", o.away != ""
	}
	return false, false
}

// returned takes back the fingerprints that led to another server: all of them,
// or the one given. It returns those that are reached here again.
func (d *directory) returned(server, fingerprint string) (again []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	back := func(fingerprint string, o *owner) {
		if o == nil || o.away != server {
			return
		}
		if o.away = ""; o.dialable() {
			d.tell(fingerprint)
			again = append(again, fingerprint)
		}
	}
	if fingerprint != "" {
		back(fingerprint, d.keys[fingerprint])
		return again
	}
	for fingerprint, o := range d.keys {
		back(fingerprint, o)
	}
	return again
}

// titleOf returns the title to a name or fingerprint that is settled here, or nil.
func (d *directory) titleOf(id string) *title {
	d.mu.Lock()
	defer d.mu.Unlock()
	if c := d.names[id]; c != nil && !c.pending {
		return d.title(c)
	}
	if o := d.keys[id]; o != nil && o.away == "" && o.dialable() {
		return d.keyTitle(id, o)
	}
	return nil
}

// all returns every name and fingerprint that there is.
func (d *directory) all() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	ids := make([]string, 0, len(d.names)+len(d.keys))
	for id := range d.names {
		ids = append(ids, id)
	}
	for id := range d.keys {
		ids = append(ids, id)
	}
	return ids
}

// tell notes for the other servers that something has changed. Caller holds mu.
func (d *directory) tell(id string) {
	if d.me != "" {
		d.news = append(d.news, id)
	}
}

// takeNews returns what has changed since the last time.
func (d *directory) takeNews() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	news := d.news
	d.news = nil
	return news
}
