package crowd

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	mathrand "math/rand/v2"
	"net"
	"time"
)

// sessionRaids are by peers who have a session, and abuse it.
var sessionRaids = []raid{
	{"registrations", "sessions that register a new name with each message, and begin again", many(32, (*raiders).registrations)},
	{"stolen names", "registrations of the names that honest nodes have", many(32, (*raiders).stolenNames)},
	{"dials at one", "dials to one honest node, from many keys", many(32, (*raiders).dialsAtOne)},
	{"no answers", "nodes that are dialled by raiders, and answer nothing", many(32, (*raiders).noAnswers)},
	{"messages", "pings and lookups, as fast as they go", many(32, (*raiders).messages)},
	{"slow readers", "lookups whose answers are not read", many(32, (*raiders).slowReaders)},
	{"replays", "a captured TLS stream said again; a dial with the id of another; an answer to it", many(32, (*raiders).replays)},
	{"lies", "outcomes, answers and cancels of dials that are not theirs, and lies about their own", many(32, (*raiders).lies)},
}

// talk opens a session, and has say write frames to it, turn by turn, while judge
// reads what comes back and reports of each frame whether the server did as asked;
// nil if it is not about that.
func (r *raiders) talk(ctx context.Context, i int, say func() []frame, judge func(*frame) *bool) {
	c, err := r.join(ctx, i)
	if err != nil {
		r.score(false)
		return
	}
	end := shut(ctx, c)
	defer end()
	defer r.hold()()
	heard := make(chan struct{})
	go func() { // ends with the connection
		defer close(heard)
		defer end()
		r.hear(c, judge)
	}()
	for r.turn(ctx) {
		c.SetDeadline(time.Now().Add(hangTime))
		frames := say()
		if frames == nil {
			break
		}
		if _, err := c.Write(encode(frames...)); err != nil {
			break
		}
	}
	end()
	<-heard
}

// hear reads until the end of a session.
func (r *raiders) hear(c *tls.Conn, judge func(*frame) *bool) {
	for {
		f, err := readFrame(c, func() {})
		if err != nil {
			return
		}
		if ok := judge(f); ok != nil {
			r.score(*ok)
		}
	}
}

var yes, no = ptr(true), ptr(false)

func ptr(b bool) *bool { return &b }

// byError judges by whether an error comes.
func byError(good uint8) func(*frame) *bool {
	return func(f *frame) *bool {
		switch f.Kind {
		case good:
			return yes
		case kindError:
			return no
		}
		return nil
	}
}

func newDialID() []byte {
	id := make([]byte, 16)
	rand.Read(id) // never fails, by its documentation
	return id
}

// anybody is an honest node.
func (r *raiders) anybody() string { return name(mathrand.N(max(r.peers, 1))) }

func (r *raiders) registrations(ctx context.Context, i int) {
	n := 0
	r.talk(ctx, i, func() []frame {
		if n++; n > 100 {
			return nil // another session, as that of a name costs more than a name
		}
		var b [8]byte
		rand.Read(b[:])
		return []frame{{Kind: kindRegister, Ref: 1, ID: "raid-" + hex.EncodeToString(b[:])}}
	}, byError(kindRegistered))
}

func (r *raiders) stolenNames(ctx context.Context, i int) {
	r.talk(ctx, i, func() []frame { return []frame{{Kind: kindRegister, Ref: 1, ID: r.anybody()}} }, byError(kindRegistered))
}

func dialTo(peer string, id []byte) frame {
	return frame{Kind: kindDial, DialID: id, ID: peer, Noise: someNoise, Candidates: someCandidates, Report: someReport}
}

func (r *raiders) dialsAtOne(ctx context.Context, i int) {
	r.talk(ctx, i, func() []frame { return []frame{dialTo(name(0), newDialID())} }, byError(kindRinging))
}

// noAnswers has half of the raiders register and say nothing more, while the
// others dial them.
func (r *raiders) noAnswers(ctx context.Context, i int) {
	own := "silent-" + name(i/2)
	if i%2 == 0 {
		said := false
		r.talk(ctx, i, func() []frame {
			if said {
				return []frame{{Kind: kindPing}}
			}
			said = true
			return []frame{{Kind: kindRegister, Ref: 1, ID: own}}
		}, func(*frame) *bool { return nil })
		return
	}
	r.talk(ctx, i, func() []frame { return []frame{dialTo(own, newDialID())} }, byError(kindRinging))
}

func (r *raiders) messages(ctx context.Context, i int) {
	r.talk(ctx, i, func() []frame {
		return []frame{{Kind: kindPing}, {Kind: kindLookup, Ref: 2, ID: r.anybody()}, {Kind: kindLookup, Ref: 3, ID: "nobody"},
			{Kind: kindInfo, Candidates: someCandidates, Report: someReport}}
	}, byError(kindPresence))
}

// slowReaders ask for much, and do not read it.
func (r *raiders) slowReaders(ctx context.Context, i int) {
	c, err := r.join(ctx, i)
	if err != nil {
		r.score(false)
		return
	}
	defer shut(ctx, c)()
	defer r.hold()()
	c.NetConn().(*net.TCPConn).SetReadBuffer(4096)
	for r.turn(ctx) {
		c.SetWriteDeadline(time.Now().Add(hangTime))
		var all []frame
		for range 20 {
			all = append(all, frame{Kind: kindLookup, Ref: 1, ID: r.anybody()})
		}
		_, err := c.Write(encode(all...))
		r.score(err == nil)
		if err != nil {
			return // cut, or held up for as long as a raider waits
		}
	}
}

// tape is a connection that keeps what was written to it.
type tape struct {
	net.Conn
	said []byte
}

func (t *tape) Write(b []byte) (int, error) {
	t.said = append(t.said, b...)
	return t.Conn.Write(b)
}

// replays says a whole session's bytes again, on a connection of its own; and
// dials with an id that it has seen.
func (r *raiders) replays(ctx context.Context, i int) {
	if i%2 == 0 {
		r.replayStream(ctx, i)
		return
	}
	id := newDialID()
	first := true
	r.talk(ctx, i, func() []frame {
		// The first is a dial like any other; then it is said again, and answered by
		// who did not get the offer.
		return []frame{dialTo(r.anybody(), id), {Kind: kindAnswer, DialID: id, Noise: someNoise}}
	}, func(f *frame) *bool {
		switch {
		case f.Kind == kindRinging && first:
			first = false // which was none
			return nil
		case f.Kind == kindRinging:
			return yes
		case f.Kind == kindError:
			return no
		}
		return nil
	})
}

func (r *raiders) replayStream(ctx context.Context, i int) {
	raw, err := r.connect(ctx, i)
	if err != nil {
		r.score(false)
		return
	}
	t := &tape{Conn: raw}
	c := tls.Client(t, pinned(r.server, r.certs[i%len(r.certs)]))
	if err = c.HandshakeContext(ctx); err == nil {
		_, err = c.Write(encode(frame{Kind: kindHello, Min: 1, Max: 1}, frame{Kind: kindRegister, Ref: 1, ID: "raid-replay"}))
	}
	if err == nil {
		_, err = readFrame(c, func() {})
	}
	raw.Close()
	if err != nil {
		r.score(false)
		return
	}
	again, err := r.connect(ctx, i)
	if err != nil {
		r.score(false)
		return
	}
	defer shut(ctx, again)()
	again.Write(t.said)
	r.ends(ctx, again)
}

// lies are about dials of others, and about their own.
func (r *raiders) lies(ctx context.Context, i int) {
	var last []byte
	r.talk(ctx, i, func() []frame {
		others := newDialID()
		last = newDialID()
		return []frame{
			{Kind: kindOutcome, DialID: others, OK: true, Method: "direct"}, {Kind: kindAnswer, DialID: others, Noise: someNoise}, {Kind: kindCancel, DialID: others},
			dialTo(r.anybody(), last), {Kind: kindAnswer, DialID: last, Noise: someNoise},
			{Kind: kindOutcome, DialID: last, Method: "relay"}, {Kind: kindOutcome, DialID: last, OK: true, Method: "guessed-port"},
		}
	}, byError(kindRinging))
}
