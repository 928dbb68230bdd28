package access

import (
	"errors"
	"fmt"
	"strings"

	"github.com/gostunt/stunt/rendezvous"
)

// maxPattern is as long as a name may be.
const maxPattern = 63

// A pattern is a name in which * stands for any characters, or the fingerprint
// of a key.
type pattern struct {
	text  string
	parts []string // what is between the *; nil: there is none
}

// parsePattern takes no more than what can match a name.
func parsePattern(s string) (pattern, error) {
	switch {
	case s == "":
		return pattern{}, errors.New("the pattern is empty")
	case len(s) > maxPattern:
		return pattern{}, fmt.Errorf("a pattern of %d characters, at most %d are allowed", len(s), maxPattern)
	case strings.Contains(s, "**"):
		return pattern{}, errors.New("two * next to each other")
	case !strings.Contains(s, "*"):
		if err := rendezvous.ValidID(s); err != nil {
			return pattern{}, fmt.Errorf("%q can be no name", s)
		}
		return pattern{text: s}, nil
	}
	for _, c := range []byte(s) {
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '*') {
			return pattern{}, fmt.Errorf("%q has something other than a-z, 0-9, hyphens and *", s)
		}
	}
	return pattern{s, strings.Split(s, "*")}, nil
}

// match reports whether the pattern is one of id, which may be anything.
func (p pattern) match(id string) bool {
	if p.text == "*" || p.text == id {
		return true
	}
	if p.parts == nil || rendezvous.IsFingerprint(id) {
		return false
	}
	first, last := p.parts[0], p.parts[len(p.parts)-1]
	if len(id) < len(first)+len(last) || !strings.HasPrefix(id, first) || !strings.HasSuffix(id, last) {
		return false
	}
	rest := id[len(first) : len(id)-len(last)]
	for _, part := range p.parts[1 : len(p.parts)-1] { // the first place of each leaves most for those after it
		_, after, ok := strings.Cut(rest, part)
		if !ok {
			return false
		}
		rest = after
	}
	return true
}

// patterns is a set of them: any number of plain names costs one look.
type patterns struct {
	plain map[string]struct{}
	globs []pattern
}

func (ps *patterns) add(p pattern) {
	if p.parts != nil {
		ps.globs = append(ps.globs, p)
		return
	}
	if ps.plain == nil {
		ps.plain = make(map[string]struct{})
	}
	ps.plain[p.text] = struct{}{}
}

func (ps *patterns) empty() bool { return len(ps.plain) == 0 && len(ps.globs) == 0 }

func (ps *patterns) match(id string) bool {
	if _, ok := ps.plain[id]; ok {
		return true
	}
	for _, p := range ps.globs {
		if p.match(id) {
			return true
		}
	}
	return false
}
