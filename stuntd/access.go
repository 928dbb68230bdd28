package stuntd

import (
	"crypto/ed25519"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/gostunt/stunt/rendezvous"
	"github.com/gostunt/stunt/stuntd/access"
)

// Access says who may come in, and do what. The zero value lets everybody do
// everything, and names go to those who come first.
type Access struct {
	// Tokens lets in only who has a token, which "stuntd token new" makes.
	Tokens bool

	// TokenKey is a PEM file with the key that tokens are signed with; one with
	// its public half does for a server that is not to make any. Empty: token.key
	// in StateDir, which is made if it is not there.
	TokenKey string

	// File has rules, as in package access; it is read again when it changes,
	// and by [Server.Reload]. Empty: there are none.
	File string
}

// gate returns what decides, and what keeps it up to date; both are nil if
// nothing is to be decided.
func (c *Config) gate() (*access.Gate, reloadable, error) {
	if !c.Access.Tokens && c.Access.File == "" {
		return nil, nil, nil
	}
	g := &access.Gate{}
	if c.Access.Tokens {
		path, err := c.tokenKeyPath()
		if err != nil {
			return nil, nil, err
		}
		if g.Tokens, _, err = openTokenKey(path); err != nil {
			return nil, nil, err
		}
	}
	if c.Access.File == "" {
		return g, nil, nil
	}
	f := &accessFile{path: c.Access.File, gate: g, now: true}
	if _, err := f.load(); err != nil {
		return nil, nil, err
	}
	return g, f, nil
}

// admission returns what decides who gets a session: whether there is room, and
// then the gate, if there is one.
func (s *Server) admission(g *access.Gate) func(rendezvous.Applicant) (rendezvous.Pass, error) {
	if g != nil {
		g.Changed = s.meet.Review
		s.meet.Entitled = g.Entitled
		s.meet.Denied = func(key ed25519.PublicKey) {
			if s.relay != nil {
				s.relay.Cut(key)
			}
		}
		s.meet.Review()
	}
	return func(a rendezvous.Applicant) (rendezvous.Pass, error) {
		if err := s.mux.door.memory.busy(); err != nil {
			s.board.Limited(errMemory.name)
			return nil, err
		}
		if g == nil {
			return nil, nil
		}
		return g.Admit(a)
	}
}

// An accessFile is the rules that an operator changes while the server runs.
type accessFile struct {
	path string
	gate *access.Gate

	// Owned by Config.gate, then by the reloader:
	read stamp // of the file that is in use
	seen stamp // of the file at the last look
	now  bool  // somebody wants it read, whatever it is
}

// load implements reloadable. A file that has just changed is left alone until
// the next look: an editor empties it before it writes, and an empty file would
// let everybody in.
func (f *accessFile) load() (bool, error) {
	s, err := stampOf(f.path)
	settled := s == f.seen || f.now
	f.seen, f.now = s, false
	if err != nil || s == f.read || !settled {
		return false, err
	}
	text, err := readFile(f.path, access.MaxRules+1)
	if err != nil {
		return false, err
	}
	rules, err := access.ParseRules(string(text))
	if err != nil {
		return false, fmt.Errorf("%s: %w", f.path, err)
	}
	f.gate.Use(rules)
	f.read = s
	return true, nil
}

func (f *accessFile) forget() { f.read, f.now = stamp{}, true }

func (f *accessFile) news() (loaded string, about slog.Attr, kept string) {
	return "access rules read", slog.String("path", f.path), "keeping the access rules in use"
}

// readFile reads no more than limit bytes of a file.
func readFile(path string, limit int64) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, limit))
}
