package rendezvous

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// bidTime is how long another server may take to object to a title. One that
	// says nothing has no say: what it has is compared when it speaks again.
	bidTime = time.Second

	// titlesPerNote is as many as the decoder takes in one array, and fits in a
	// message with the longest names.
	titlesPerNote = 64

	// portion is how many titles are sent in one go, some 5 MiB, and portionTime
	// what lies between: a hundred thousand nodes are told in a quarter of a second.
	portion     = 1 << 15
	portionTime = 50 * time.Millisecond
)

// A cluster is what several servers are to one of them. What concerns names
// happens on one goroutine, in the order in which it comes; dials don't wait for
// it.
type cluster struct {
	server *Server
	bus    Bus
	me     string    // random, for this run
	began  time.Time // the clock of our beats

	members members
	stops   []func() // end the hearing of what is for all, and for us
	wake    chan struct{}
	ended   chan struct{} // closed by run

	mu    sync.Mutex // guards following
	todo  []func()   // for run: what sessions and servers have said meanwhile; Limits.MessageRate bounds the former
	leave bool       // nothing is added to todo any more

	// Owned by run:
	heard     map[string]func() // by name or fingerprint that others reach here; stops it
	elsewhere elsewhere
	round     []string  // what is left of all, to be told again
	beaten    time.Time // the last beat
}

// ClusterState is what a server knows of the others.
type ClusterState struct {
	Name    string          // of this server; empty: it is alone by configuration
	Members []ClusterMember // the others that are there
	Names   int             // names and fingerprints that reach nodes of this server
	Known   int             // names that others have said they have
}

// A ClusterMember is another server.
type ClusterMember struct {
	Name  string
	Relay string           // where it relays; or empty
	Lends []netip.AddrPort // where it answers STUN for the clients of all; not to be changed
	Delay time.Duration    // one way, half of the shortest round trip of late; 0: not known yet
}

// Join makes the server one of those on the bus: a node of one reaches the nodes
// of all, and a name belongs to one key at all of them. Call it once, before the
// first connection, and leave after the last: it returns when nothing of it
// runs any more. The caller closes the bus then.
func (s *Server) Join(bus Bus) (leave func(), err error) {
	s.setUp()
	name := make([]byte, serverNameLen/2)
	rand.Read(name) // never fails, by its documentation
	c := &cluster{server: s, bus: bus, me: hex.EncodeToString(name), began: time.Now(),
		wake: make(chan struct{}, 1), ended: make(chan struct{}),
		heard: make(map[string]func())}
	s.directory.me, s.cluster = c.me, c
	for _, subject := range []string{subjectAll, subjectAt + c.me} {
		stop, err := bus.Listen(subject, c.hear)
		if err != nil {
			c.stop()
			s.directory.me, s.cluster = "", nil
			return nil, err
		}
		c.stops = append(c.stops, stop)
	}
	go c.run()
	return sync.OnceFunc(func() {
		c.mu.Lock()
		c.leave = true
		c.mu.Unlock()
		c.signal()
		<-c.ended
	}), nil
}

// Cluster returns what this server knows of the others.
func (s *Server) Cluster() ClusterState {
	c := s.cluster
	if c == nil {
		return ClusterState{}
	}
	state := make(chan ClusterState, 1)
	c.do(func() { state <- ClusterState{Name: c.me, Names: len(c.heard), Known: len(c.elsewhere.known)} })
	st := ClusterState{Name: c.me}
	select {
	case st = <-state:
	case <-c.ended:
	}
	st.Members = c.members.state()
	return st
}

// relays returns the relays that a node is told of.
func (s *Server) relays() []string {
	at := slices.Clone(s.Relays)
	if s.cluster != nil {
		for _, r := range s.cluster.members.relays() {
			named := func(at string) bool { return strings.TrimPrefix(at, RelayHere) == r }
			if !slices.ContainsFunc(at, named) {
				at = append(at, r)
			}
		}
	}
	return at[:min(len(at), MaxRelays)]
}

// relay returns where this server relays, for nodes of others.
func (c *cluster) relay() string {
	for _, r := range c.server.Relays {
		if here, ok := strings.CutPrefix(r, RelayHere); ok {
			return here
		}
	}
	return ""
}

// do has run do something, after what came before; nothing once we leave.
func (c *cluster) do(f func()) {
	c.mu.Lock()
	if !c.leave {
		c.todo = append(c.todo, f)
	}
	c.mu.Unlock()
	c.signal()
}

func (c *cluster) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// run does what there is to do until we leave, and then says so.
func (c *cluster) run() {
	defer close(c.ended)
	defer c.stop()
	c.beat()
	t := time.NewTicker(beatEvery)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			c.beat()
		case <-c.wake:
			c.mu.Lock()
			todo, leave := c.todo, c.leave
			c.todo = nil
			c.mu.Unlock()
			for _, f := range todo {
				f()
			}
			if leave {
				c.send(subjectAll, &beat{Server: c.me, Gone: true})
				return
			}
		}
	}
}

// stop listens to nothing any more.
func (c *cluster) stop() {
	for _, stop := range c.stops {
		stop()
	}
	for _, stop := range c.heard {
		stop()
	}
}

// send sends a note. What is lost is told again, or was for a moment only.
func (c *cluster) send(subject string, m message) {
	b, err := encodeNote(m)
	if err == nil {
		err = c.bus.Send(subject, b)
	}
	if err != nil {
		c.server.logger().Debug("note not sent", "remote", subject, "err", err)
	}
}

// ask sends a note that is answered. done must not block.
func (c *cluster) ask(subject string, m message, patience time.Duration, done func([]byte, error)) {
	b, err := encodeNote(m)
	if err != nil {
		done(nil, err)
		return
	}
	c.bus.Ask(subject, b, patience, done)
}

// askAt asks another server. That nobody listens for it says, sooner than its
// silence, that it is gone.
func (c *cluster) askAt(name string, m message, patience time.Duration, done func([]byte, error)) {
	c.ask(subjectAt+name, m, patience, func(b []byte, err error) {
		if errors.Is(err, ErrNobody) {
			c.do(func() { c.gone(name, "nobody listens for it") })
		}
		done(b, err)
	})
}

// answerWith answers a note.
func (c *cluster) answerWith(m message, reply func([]byte)) {
	b, err := encodeNote(m)
	if err != nil {
		c.server.logger().Warn("note not answered", "err", err)
		return
	}
	reply(b)
}

// hear takes a note that is for all, or for us.
func (c *cluster) hear(b []byte, reply func([]byte)) {
	m, err := decodeNote(b)
	if err != nil {
		c.server.logger().Debug("note not understood", "err", err)
		return
	}
	switch m := m.(type) {
	case *beat:
		c.heardBeat(m)
	case *echo:
		c.members.took(m.Server, time.Since(c.began)-time.Duration(m.Sent))
	case *bid:
		if reply != nil {
			c.do(func() { c.judge(m, reply) })
		}
	case *titles:
		c.do(func() { c.compare(m.Titles) })
	case *left:
		c.do(func() { c.freed(m) })
	case *word:
		c.server.heardWord(m)
	case *errand:
		c.heardErrand(m, reply)
	}
}

func (c *cluster) heardBeat(m *beat) {
	switch {
	case m.Server == c.me: // of a bus that lets one hear oneself
	case m.Gone:
		c.do(func() { c.gone(m.Server, "it has left") })
	default:
		if c.members.heard(m, time.Now()) {
			c.do(func() { c.welcome(m.Server) })
		}
		c.send(subjectAt+m.Server, &echo{Server: c.me, Sent: m.Sent})
	}
}

// beat says that we are there, and some of what we have: who has missed it, or
// has something against it, learns of it in time.
func (c *cluster) beat() {
	now := time.Now()
	if !c.beaten.IsZero() && now.Sub(c.beaten) > lostAfter {
		c.tellAll(subjectAll) // we stood still; nobody may have counted on us
	}
	c.beaten = now
	for _, name := range c.members.lose(func(x *member) bool { return now.Sub(x.heard) > lostAfter }) {
		c.lost(name, "it is silent")
	}
	c.send(subjectAll, c.ourBeat())
	if len(c.round) == 0 {
		c.round = c.server.directory.all()
	}
	n := min(len(c.round), titlesPerNote)
	c.tellSome(subjectAll, c.round[:n])
	c.round = c.round[n:]
	c.elsewhere.fade(c.server.now())
}

func (c *cluster) ourBeat() *beat {
	return &beat{Server: c.me, Sent: int64(time.Since(c.began)), Relay: c.relay(), Lends: c.lends()}
}

// tellAll sends a server, or all, everything that we have, in portions: a bus
// throws away what comes faster than it is heard.
func (c *cluster) tellAll(subject string) { c.tellRest(subject, c.server.directory.all()) }

func (c *cluster) tellRest(subject string, ids []string) {
	for n := 0; n < portion && len(ids) > 0; n += titlesPerNote {
		some := min(len(ids), titlesPerNote)
		c.tellSome(subject, ids[:some])
		ids = ids[some:]
	}
	if len(ids) > 0 {
		time.AfterFunc(portionTime, func() { c.do(func() { c.tellRest(subject, ids) }) })
	}
}

// tellSome sends what we have of some names and fingerprints: no more than one
// note holds.
func (c *cluster) tellSome(subject string, ids []string) {
	var m titles
	for _, id := range ids {
		if t := c.server.directory.titleOf(id); t != nil {
			m.Titles = append(m.Titles, *t)
		}
	}
	if len(m.Titles) > 0 {
		c.send(subject, &m)
	}
}

// welcome compares what we have with a server that we had not heard of, or not
// for some time: both sides do this, and conflicts end.
func (c *cluster) welcome(name string) {
	c.server.logger().Info("server joined", "peer", name)
	c.elsewhere.back(name)
	c.send(subjectAt+name, c.ourBeat()) // it need not wait for the next one
	c.tellAll(subjectAt + name)
}

// gone is the end of a server, unless it was noticed before.
func (c *cluster) gone(name, why string) {
	for _, name := range c.members.lose(func(x *member) bool { return x.name == name }) {
		c.lost(name, why)
	}
}

// lost holds the names of a server for their keys, which will come to another,
// and ends what waits for it.
func (c *cluster) lost(name, why string) {
	s := c.server
	s.logger().Warn("server lost", "peer", name, "err", errors.New(why))
	c.elsewhere.lost(name, s.now().Add(s.directory.hold))
	for _, d := range s.dials.lost(name) {
		s.seeAnswered(d, CodePeerGone)
		s.cut(d, seat{at: name})
	}
	for _, fingerprint := range s.directory.returned(name, "") {
		c.tellSome(subjectAll, []string{fingerprint})
	}
	c.news()
}
