package access

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/gostunt/stunt/rendezvous"
)

const (
	// MaxRules bounds a file of rules in bytes: some hundred thousand keys.
	MaxRules = 8 << 20

	// maxDialRules bounds what one dial costs, as they are gone through one by
	// one: some tenths of a millisecond (BenchmarkMayDial).
	maxDialRules = 4096
)

// A LineError says what is wrong with which line.
type LineError struct {
	Line int // the first is 1
	Err  error
}

// Error begins with the number of the line.
func (e *LineError) Error() string { return fmt.Sprintf("line %d: %v", e.Line, e.Err) }

// Unwrap returns what is wrong.
func (e *LineError) Unwrap() error { return e.Err }

// ParseRules reads a file of rules, as the package's documentation has them.
// Whatever it does not know is an error: a rule that is not understood must not
// be one that is not there. The error is a *[LineError], but for a file that is
// longer than MaxRules.
func ParseRules(text string) (*Rules, error) {
	if len(text) > MaxRules {
		return nil, fmt.Errorf("more than %d bytes", MaxRules)
	}
	r := &Rules{}
	n := 0
	for line := range strings.Lines(text) {
		n++
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		if err := r.add(words[0], words[1:]); err != nil {
			return nil, &LineError{n, err}
		}
	}
	return r, nil
}

// add takes one rule in.
func (r *Rules) add(verb string, words []string) error {
	switch verb {
	case "deny":
		return r.deny.add(words, true)
	case "allow":
		return r.allow.add(words, false)
	case "reserve":
		return r.reserve(words)
	case "dial":
		return r.dial(words)
	}
	return fmt.Errorf("there is no rule %q; there are allow, deny, reserve and dial", clip(verb))
}

// add takes in what follows allow or deny.
func (l *list) add(words []string, deny bool) error {
	if len(words) != 2 {
		return fmt.Errorf("%d words after allow or deny: it is what kind, and one of them", len(words))
	}
	kind, what := words[0], words[1]
	switch {
	case kind == "key":
		return addKey(&l.keys, what)
	case kind == "token" && deny:
		if !validTokenID(what) {
			return fmt.Errorf("%q is not the id of a token", clip(what))
		}
		insert(&l.tokens, what)
		return nil
	case kind == "token":
		return errors.New("a token is not allowed by a line, but by its signature")
	case kind == "name":
		p, err := parsePattern(what)
		if err != nil {
			return err
		}
		l.names.add(p)
		return nil
	case kind == "from":
		p, err := parsePrefix(what)
		if err != nil {
			return err
		}
		l.from.add(p)
		return nil
	}
	return fmt.Errorf("%q is neither key, name, from nor token", clip(kind))
}

func addKey(set *map[string]struct{}, key string) error {
	if !rendezvous.IsFingerprint(key) {
		return fmt.Errorf("%q is not the fingerprint of a key", clip(key))
	}
	insert(set, key)
	return nil
}

func insert(set *map[string]struct{}, s string) {
	if *set == nil {
		*set = make(map[string]struct{})
	}
	(*set)[s] = struct{}{}
}

// parsePrefix takes an address, or a prefix of which no bit is set behind its
// length: whoever writes 10.1.2.3/8 may mean either.
func parsePrefix(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		return p, fmt.Errorf("%q is neither an IP address nor a prefix", clip(s))
	case p.Addr().Is4In6():
		return p, fmt.Errorf("%s is an IPv4 prefix in IPv6; write it as IPv4", p)
	case p != p.Masked():
		return p, fmt.Errorf("%s has bits set behind its length; is it %s?", p, p.Masked())
	}
	return p, nil
}

// reserve takes in what follows that word.
func (r *Rules) reserve(words []string) error {
	if len(words) < 2 {
		return errors.New("reserve wants a pattern, and the keys that such names are for")
	}
	p, err := parsePattern(words[0])
	if err != nil {
		return err
	}
	if rendezvous.IsFingerprint(p.text) {
		return errors.New("a fingerprint belongs to its key anyway")
	}
	v := reservation{names: p}
	for _, key := range words[1:] {
		if err := addKey(&v.keys, key); err != nil {
			return err
		}
	}
	r.reserved = append(r.reserved, v)
	return nil
}

// dial takes in what follows that word.
func (r *Rules) dial(words []string) error {
	arrow := slices.Index(words, "->")
	if arrow < 1 || arrow == len(words)-1 {
		return errors.New("dial wants who, ->, and whom")
	}
	if len(r.dials) == maxDialRules {
		return fmt.Errorf("more than %d dial rules; one may have several on either side", maxDialRules)
	}
	var rule dialRule
	for side, set := range []*patterns{&rule.who, &rule.whom} {
		part := words[:arrow]
		if side == 1 {
			part = words[arrow+1:]
		}
		for _, word := range part {
			p, err := parsePattern(word)
			if err != nil {
				return err
			}
			set.add(p)
		}
	}
	r.dials = append(r.dials, rule)
	return nil
}

// clip keeps what is quoted in an error readable.
func clip(s string) string {
	const most = 64
	if len(s) <= most {
		return s
	}
	return s[:most] + "…"
}
