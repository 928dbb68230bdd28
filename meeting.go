package stunt

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/gostunt/stunt/internal/punch"
	"github.com/gostunt/stunt/internal/secure"
	"github.com/gostunt/stunt/internal/sock"
	"github.com/gostunt/stunt/probe"
)

// What both ends of a dial share.

// opening is what a dialer sends for the listener's eyes, before message 1 of
// the handshake, whose signatures cover it:
//
//	0  1   security mode; with 0x40, the connection shall be resumable; with 0x80 and that, it resumes one
//	1  16  in the last case, the id of that
type opening struct {
	mode      secure.Mode
	resumable bool
	resumes   resumeID // zero: none
	msg1      []byte
}

const openResumable, openResumes = 0x40, 0x80

func (o opening) encode() []byte {
	b := []byte{byte(o.mode)}
	if o.resumable {
		b[0] |= openResumable
	}
	if o.resumes != (resumeID{}) {
		b[0] |= openResumes
		b = append(b, o.resumes[:]...)
	}
	return append(b, o.msg1...)
}

func parseOpening(b []byte) (o opening, ok bool) {
	if len(b) == 0 {
		return opening{}, false
	}
	o.mode, o.resumable = secure.Mode(b[0]&^(openResumable|openResumes)), b[0]&openResumable != 0
	resumes := b[0]&openResumes != 0
	b = b[1:]
	if resumes {
		if len(b) < len(o.resumes) {
			return opening{}, false
		}
		b = b[copy(o.resumes[:], b):]
	}
	o.msg1 = b
	ok = len(b) > 0 && o.mode <= secure.Raw && resumes == (o.resumes != resumeID{}) && (o.resumable || !resumes)
	return o, ok && !(o.resumable && o.mode == secure.Raw)
}

// side reads what the other end, or the server for it, has told. A report that
// can't be read is no report: it only costs order.
func side(candidates, report []byte, observed netip.AddrPort) (punch.Side, error) {
	s, err := punch.ParseCandidates(candidates)
	if err != nil {
		return punch.Side{}, err
	}
	s.Observed = observed.Addr()
	if len(report) > 0 {
		if r, err := probe.DecodeReport(report); err == nil {
			s.Report = r
		}
	}
	return s, nil
}

// counted reports whether the NAT in front of this node numbers its mappings,
// one per destination: then each dial needs a port whose number is fresh.
func (n *Node) counted() bool {
	r := n.known()
	return r != nil && r.Mapping >= probe.ADM && r.Delta != 0
}

// side is what this node tells the other end of a dial from a slot.
func (n *Node) side(s *slot) punch.Side {
	side := punch.Side{Report: n.known(), Observed: n.public()}
	if n.Config.Relay != RelayOnly {
		side.Candidates = s.candidates()
		if n.counted() && s.binding != nil {
			side.Candidates = append(side.Candidates, punch.Candidate{Kind: punch.Sample, Addr: s.public})
		}
		side.Candidates = slices.Insert(side.Candidates, min(len(side.Candidates), 1), n.mapped()...) // after the public one
	}
	if n.Config.Relay != RelayNever {
		side.Relays = n.legs()
	}
	return side
}

// sessionSlot is the port that listeners are reached at.
func (n *Node) sessionSlot(ctx context.Context) (*slot, error) {
	port, err := n.ports.sessionPort(ctx)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return &slot{port: port, public: n.st.public, session: true}, nil
}

// conn makes the connection that the caller gets of a path that was chosen.
func (n *Node) conn(p *punch.Path, peer Peer, path Path) (*Conn, error) {
	c := &Conn{raw: p.Conn, rw: p.Conn, peer: peer, path: path}
	if err := n.wrap(c, p); err != nil {
		p.Conn.Close()
		return nil, err
	}
	n.host.add(c)
	return c, nil
}

// wrap puts a new connection into records, if that is what it has.
func (n *Node) wrap(c *Conn, p *punch.Path) (err error) {
	if c.path.Security == Raw {
		return nil
	}
	c.raw = nil
	if p.Session.AgreedResume() {
		return n.resumable(c, p)
	}
	if c.records, err = p.Session.Conn(p.Conn); err != nil {
		return err
	}
	c.records.Late = n.host.closed.take
	c.rw = c.records
	return nil
}

// pathOf describes a path that was chosen, and makes the kernel look after it.
func pathOf(p *punch.Path, race *punch.Race, s *slot, began time.Time, t Timing) Path {
	keepAlive(p.Conn)
	security := Raw
	if p.Session.Params().Mode == secure.Encrypted || p.Method == punch.Relay {
		security = Encrypted
	}
	t.Connected = p.Connected.Sub(began)
	return Path{
		Method:   p.Method,
		Local:    sock.AddrPort(p.Conn.LocalAddr()),
		Remote:   p.Remote,
		Public:   s.publicTo(p.Remote.Addr()),
		Accepted: p.Accepted,
		Security: security,
		Attempts: attempts(race.Tries(), began),
		Timing:   t,
	}
}

// keepAlive has the kernel look after a connection as package net has it by
// default: one that is idle keeps its place in the NATs, and one whose peer is
// gone ends, after two and a half minutes.
func keepAlive(c *net.TCPConn) { c.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true}) }

// attempts puts what a race tried in the order of its firing.
func attempts(tries []punch.Try, began time.Time) []Attempt {
	since := func(t time.Time) time.Duration {
		if t.IsZero() {
			return 0
		}
		return t.Sub(began)
	}
	out := make([]Attempt, 0, len(tries))
	for _, t := range tries {
		out = append(out, Attempt{
			Remote: t.To, Method: t.Method, SYNs: t.SYNs,
			Fired: since(t.Fired), Connected: since(t.Connected), Err: plain(t.Err),
		})
	}
	slices.SortFunc(out, func(a, b Attempt) int { return cmp.Compare(a.Fired, b.Fired) })
	return out
}

// plain takes the addresses off an error of a connect: the attempt has them.
func plain(err error) error {
	if oe, ok := errors.AsType[*net.OpError](err); ok {
		return oe.Err
	}
	return err
}

func firstID(ids []string) string {
	if len(ids) == 0 {
		return ""
	}
	return ids[0]
}

var phases = [...]Phase{
	punch.Fired:     PhaseFired,
	punch.Arrived:   PhaseArrived,
	punch.Connected: PhaseConnected,
	punch.Verified:  PhaseVerified,
	punch.Selected:  PhaseSelected,
	punch.Failed:    PhaseFailed,
}

func stepOf(e punch.Event) Step {
	return Step{Phase: phases[e.Kind], Remote: e.Remote, Method: e.Method, Err: plain(e.Err)}
}
