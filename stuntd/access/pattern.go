package access

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/gostunt/stunt/rendezvous"
)

// maxPattern is as long as a name may be.
const maxPattern = 63

// A pattern is a name in which * stands for any characters, or the fingerprint
// of a key.
type pattern string

// parsePattern takes no more than what can match a name.
func parsePattern(s string) (pattern, error) {
	switch {
	case s == "":
		return "", errors.New("the pattern is empty")
	case len(s) > maxPattern:
		return "", fmt.Errorf("a pattern of %d characters, at most %d are allowed", len(s), maxPattern)
	case strings.Contains(s, "**"):
		return "", errors.New("two * next to each other")
	case !strings.Contains(s, "*"):
		if err := rendezvous.ValidID(s); err != nil {
			return "", fmt.Errorf("%q can be no name", s)
		}
	}
	for _, c := range []byte(s) {
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '*') {
			return "", fmt.Errorf("%q has something other than a-z, 0-9, hyphens and *", s)
		}
	}
	return pattern(s), nil
}

// exact reports whether there is nothing to match but the text itself.
func (p pattern) exact() bool { return !strings.Contains(string(p), "*") }

// match reports whether the pattern is one of id, which may be anything.
func (p pattern) match(id string) bool {
	if p == "*" || string(p) == id {
		return true
	}
	if p.exact() || rendezvous.IsFingerprint(id) {
		return false
	}
	ok, _ := path.Match(string(p), id) // of its special characters only * is in a pattern, which no error can come from
	return ok
}

// patterns is a set of them: any number of plain names costs one look.
type patterns struct {
	plain map[string]struct{}
	globs []pattern
}

func (ps *patterns) add(p pattern) {
	if !p.exact() {
		ps.globs = append(ps.globs, p)
		return
	}
	if ps.plain == nil {
		ps.plain = make(map[string]struct{})
	}
	ps.plain[string(p)] = struct{}{}
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
