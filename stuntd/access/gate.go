package access

import (
	"crypto/ed25519"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/gostunt/stunt/rendezvous"
)

// A Gate decides for one server. The zero value lets everybody in, and lets
// them do everything. Its fields must not change once it is in use; do not copy
// one. All methods may be called at any time from any goroutine.
type Gate struct {
	// Tokens is the key that tokens are signed with. Nil: none is asked for, and
	// one that is shown is not looked at.
	Tokens ed25519.PublicKey

	Now func() time.Time // nil: time.Now

	// Changed is called by Use, as soon as it holds: [rendezvous.Server.Review] is
	// for that. It may be nil.
	Changed func()

	rules atomic.Pointer[Rules]
}

// Use puts rules in the place of those so far, also for the sessions that
// stand.
func (g *Gate) Use(r *Rules) {
	g.rules.Store(r)
	if g.Changed != nil {
		g.Changed()
	}
}

func (g *Gate) now() time.Time {
	if g.Now != nil {
		return g.Now()
	}
	return time.Now()
}

// Entitled is for [rendezvous.Server.Entitled]: it goes by the rules alone.
func (g *Gate) Entitled(fingerprint, name string) bool {
	return g.rules.Load().mayKeep(fingerprint, name)
}

// Admit is for [rendezvous.Server.Admit].
func (g *Gate) Admit(a rendezvous.Applicant) (rendezvous.Pass, error) {
	p := &pass{gate: g, key: rendezvous.Fingerprint(a.Key), from: a.From.Addr()}
	if g.Tokens != nil {
		// Who is denied anyway costs no signature.
		if err := g.rules.Load().mayCome(p.key, p.from, ""); err != nil {
			return nil, err
		}
		if a.Token == "" {
			return nil, &rendezvous.Error{Code: rendezvous.CodeTokenRequired}
		}
		t, err := Open(a.Token, g.Tokens)
		if err != nil {
			return nil, refusal(rendezvous.CodeBadToken, err.Error())
		}
		if t.Key != "" && t.Key != p.key {
			return nil, refusal(rendezvous.CodeBadToken, "it is for another key")
		}
		p.token = t
	}
	if err := p.Stands(); err != nil {
		return nil, err
	}
	return p, nil
}

// A pass is what one session may do.
type pass struct {
	gate  *Gate
	key   string // fingerprint
	from  netip.Addr
	token *Token // nil: none was asked for
}

// Stands says why the session must end.
func (p *pass) Stands() error {
	id := ""
	if p.token != nil {
		if id = p.token.ID; p.token.Expired(p.gate.now()) {
			return refusal(rendezvous.CodeTokenExpired, "at "+p.token.Expires.Format(time.RFC3339))
		}
	}
	return p.gate.rules.Load().mayCome(p.key, p.from, id)
}

// MayListen says why the session can't be dialled under a name, or under its
// fingerprint if that is empty.
func (p *pass) MayListen(name string) error {
	if t := p.token; t != nil {
		switch {
		case t.Rights&Listen == 0:
			return refusal(rendezvous.CodeNotAllowed, "the token does not let it listen")
		case name != "" && name != p.key && !t.mayHave(name):
			return refusal(rendezvous.CodeNotAllowed, "the token is for other names")
		}
	}
	return p.gate.rules.Load().mayHave(p.key, name)
}

// MayDial says why the session, which has these names, can't dial that.
func (p *pass) MayDial(whom string, names []string) error {
	if p.token != nil && p.token.Rights&Dial == 0 {
		return refusal(rendezvous.CodeNotAllowed, "the token does not let it dial")
	}
	if p.token != nil {
		// Who only dials registers no name, and is known by those that it might: a
		// pattern is met by a rule's if that has all of its names, for what the * of
		// the one may stand for only a * of the other takes.
		names = append(slices.Clip(names), p.token.Names...)
	}
	if !p.gate.rules.Load().mayDial(p.key, names, whom) {
		return &rendezvous.Error{Code: rendezvous.CodeUnknownPeer} // as if nobody were there
	}
	return nil
}

// MayRelay reports whether the session may use a relay.
func (p *pass) MayRelay() bool { return p.token == nil || p.token.Rights&Relay != 0 }
