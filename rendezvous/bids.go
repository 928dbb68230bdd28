package rendezvous

import (
	"fmt"
	"slices"
	"time"
)

// costOfName is for how many messages a registration counts, with Limits.MessageRate:
// a node has up to 32 names, and few of them change.
const costOfName = 8

// An application is a registration that the other servers are asked about.
type application struct {
	session *session
	request *register
	titles  []*title // to the name, if it is one, and to the fingerprint
	waiting int      // servers that have not answered
	silent  []string // those that will not
	refusal *Error
	bound   int64
}

// register asks the other servers about a registration to which this one has
// agreed, and answers the client when they have. It does not wait.
func (c *cluster) register(s *session, m *register) {
	c.do(func() { c.apply(s, m) })
}

func (c *cluster) apply(s *session, m *register) {
	c.news() // whoever hears of the title is to find the node here
	a := &application{session: s, request: m}
	ids := []string{s.fingerprint}
	if m.ID != "" && m.ID != s.fingerprint {
		ids = []string{m.ID, s.fingerprint}
	}
	var note bid
	for _, id := range ids {
		if t, ok := c.server.directory.apply(s.fingerprint, id); ok {
			a.titles = append(a.titles, t)
			note.Titles = append(note.Titles, *t)
		}
	}
	if len(a.titles) < len(ids) {
		a.refusal = taken(ids[0]) // at this moment
	}
	others := c.members.names()
	if a.waiting = len(others); a.refusal != nil || a.waiting == 0 {
		c.decide(a)
		return
	}
	for _, name := range others {
		c.askAt(name, &note, bidTime, func(b []byte, err error) {
			c.do(func() { c.ruled(a, name, b, err) })
		})
	}
}

func taken(id string) *Error { return errorf(CodeIDTaken, "%q belongs to another key", id) }

// ruled takes in the answer of one server. One that does not answer has nothing
// against it, but that a name is known to be there.
func (c *cluster) ruled(a *application, name string, b []byte, err error) {
	a.waiting--
	if r, err := answerTo[*ruling](b, err); err != nil {
		a.silent = append(a.silent, name)
	} else {
		if r.Code != CodeNone {
			a.refusal = &Error{Code: r.Code, Text: r.Text}
		}
		if r.Bound != 0 && (a.bound == 0 || r.Bound < a.bound) {
			a.bound = r.Bound
		}
	}
	if a.waiting == 0 {
		c.decide(a)
	}
}

// decide ends an application.
func (c *cluster) decide(a *application) {
	k, ok := c.elsewhere.known[a.request.ID]
	if ok && k.Owner != a.session.fingerprint && a.refusal == nil && (k.held(c.server.now()) || slices.Contains(a.silent, k.Server)) {
		a.refusal = taken(k.ID)
	}
	has := true
	for _, t := range a.titles {
		if !c.server.directory.settle(t, a.refusal != nil, a.bound) {
			has = false
		} else if t.ID != t.Owner && a.refusal == nil {
			delete(c.elsewhere.known, t.ID)
		}
	}
	c.news()
	switch {
	case a.refusal != nil:
		a.session.refuse(a.request, a.refusal)
	case !has:
		a.session.refuse(a.request, taken(a.request.ID))
	default:
		a.session.grant(a.request)
	}
}

// judge answers the bid of another server.
func (c *cluster) judge(m *bid, reply func([]byte)) {
	var r ruling
	for i := range m.Titles {
		t := &m.Titles[i]
		v := c.weigh(t, true)
		if t.ID == t.Owner {
			continue
		}
		k := c.elsewhere.known[t.ID]
		switch {
		case v.ours != nil:
			r.Code, r.Bound = v.code, v.bound
		case k.held(c.server.now()) && k.Owner != t.Owner:
			r.Code = CodeIDTaken
		default:
			if r.Bound = v.bound; k.Owner == t.Owner && (r.Bound == 0 || k.Bound < r.Bound) {
				r.Bound = k.Bound
			}
			c.elsewhere.remember(t)
		}
		switch r.Code {
		case CodeIDTaken:
			r.Text = taken(t.ID).Text
		case CodeReplaced:
			r.Text = clip(fmt.Sprintf("a newer session of this key has %q at another server", t.ID), MaxText)
		}
	}
	c.news()
	c.answerWith(&r, reply)
}

// compare holds what another server has against what we have.
func (c *cluster) compare(theirs []title) {
	for i := range theirs {
		if t := &theirs[i]; t.Server != c.me && c.weigh(t, false).ours == nil && t.ID != t.Owner {
			c.elsewhere.remember(t)
		}
	}
	c.news()
}

// weigh holds one title of another server against ours, and tells who has lost.
func (c *cluster) weigh(t *title, asking bool) verdict {
	s := c.server
	v := s.directory.contest(t, asking, s.now())
	switch {
	case v.lost == nil:
	case v.why == CodeReplaced:
		e := errorf(CodeReplaced, "a newer session of this key took %q at another server", t.ID)
		e.ID = t.ID
		v.lost.link.finish(e)
	default:
		e := taken(t.ID)
		e.ID = t.ID
		v.lost.tell(e)
		s.logger().Info("name lost", "peer", v.lost.fingerprint, "id", t.ID)
	}
	if v.ours != nil && v.settled {
		// Also where it answers a bid: the answer may be late, and not be heard.
		c.send(subjectAt+t.Server, &titles{Titles: []title{*v.ours}})
	}
	return v
}

// freed hears that another server has something no more.
func (c *cluster) freed(m *left) {
	c.elsewhere.freed(m.Server, m.ID)
	for _, fingerprint := range c.server.directory.returned(m.Server, m.ID) {
		c.tellSome(subjectAll, []string{fingerprint})
	}
	c.news()
}

// changed has the others learn of what has come and gone here.
func (s *Server) changed() {
	if s.cluster != nil {
		s.cluster.do(s.cluster.news)
	}
}

// news goes through what has come and gone here: what is here is listened to,
// and what is here no more the others are told.
func (c *cluster) news() {
	for _, id := range c.server.directory.takeNews() {
		live, held := c.server.directory.there(id)
		stop := c.heard[id]
		if live && stop == nil {
			stop, err := c.bus.Listen(subjectID+id, c.hearID)
			if err != nil {
				c.server.logger().Warn("nodes of other servers can't reach a node here", "id", id, "err", err)
				continue
			}
			c.heard[id] = stop
		}
		if !live && stop != nil {
			delete(c.heard, id)
			stop()
		}
		if !live && !held {
			c.send(subjectAll, &left{Server: c.me, ID: id})
		}
	}
}

// hearID takes a note to a node that is here, or was a moment ago.
func (c *cluster) hearID(b []byte, reply func([]byte)) {
	m, err := decodeNote(b)
	if err != nil || reply == nil {
		return
	}
	switch m := m.(type) {
	case *seek:
		c.server.sought(m, reply)
	case *inquiry:
		c.server.inquired(m, reply)
	}
}

// absent says that a node that was asked for is not here any more, unless it is at
// another server by now, which says what there is to say.
func (c *cluster) absent(id string, say func()) {
	c.do(func() {
		live, held := c.server.directory.there(id)
		k, elsewhere := c.elsewhere.known[id]
		if live || held && IsFingerprint(id) || elsewhere && k.until.IsZero() {
			return
		}
		say()
	})
}

// seekTime is how long the server of a peer may take to answer for it: one that
// stands still costs a dial no more.
const seekTime = 2 * time.Second
