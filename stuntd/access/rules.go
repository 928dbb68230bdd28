package access

import (
	"net/netip"

	"github.com/gostunt/stunt/rendezvous"
)

// Rules are what a file says. They are not changed once they are parsed; nil
// has no objection to anything.
type Rules struct {
	deny, allow list
	reserved    []reservation
	dials       []dialRule
}

// A list names keys, tokens, names and where somebody comes from.
type list struct {
	keys, tokens map[string]struct{}
	names        patterns
	from         prefixes
}

// A reservation keeps names for keys.
type reservation struct {
	names pattern
	keys  map[string]struct{}
}

// A dialRule lets some dial some.
type dialRule struct{ who, whom patterns }

// prefixes is a set of them. However many there are, a look costs no more than
// the number of their lengths.
type prefixes struct {
	set  map[netip.Prefix]struct{}
	bits [2][129]int // of IPv4 and IPv6, how many have each length
}

func (ps *prefixes) add(p netip.Prefix) {
	if _, ok := ps.set[p]; ok {
		return
	}
	if ps.set == nil {
		ps.set = make(map[netip.Prefix]struct{})
	}
	ps.set[p] = struct{}{}
	ps.bits[family(p.Addr())][p.Bits()]++
}

func family(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}

func (ps *prefixes) contains(a netip.Addr) bool {
	if len(ps.set) == 0 || !a.IsValid() {
		return false
	}
	a = a.Unmap().WithZone("")
	for bits, n := range ps.bits[family(a)][:a.BitLen()+1] {
		if n == 0 {
			continue
		}
		p, _ := a.Prefix(bits) // fails only for more bits than a has
		if _, ok := ps.set[p]; ok {
			return true
		}
	}
	return false
}

func has(set map[string]struct{}, s string) bool {
	_, ok := set[s]
	return ok
}

func refusal(code rendezvous.Code, text string) error {
	return &rendezvous.Error{Code: code, Text: text}
}

// mayCome says why a key from an address, with the token of that id if it has
// one, gets no session.
func (r *Rules) mayCome(key string, from netip.Addr, token string) error {
	switch {
	case r == nil:
		return nil
	case has(r.deny.keys, key):
		return refusal(rendezvous.CodeNotAllowed, "this key is denied")
	case r.deny.from.contains(from):
		return refusal(rendezvous.CodeNotAllowed, "this address is denied")
	case token != "" && has(r.deny.tokens, token):
		return refusal(rendezvous.CodeBadToken, "it was revoked")
	case len(r.allow.keys) > 0 && !has(r.allow.keys, key):
		return refusal(rendezvous.CodeNotAllowed, "this key is not in the list")
	case len(r.allow.from.set) > 0 && !r.allow.from.contains(from):
		return refusal(rendezvous.CodeNotAllowed, "this address is not in the list")
	}
	return nil
}

// mayHave says why a key can't have a name.
func (r *Rules) mayHave(key, name string) error {
	if r == nil || name == "" || name == key {
		return nil // a fingerprint is not given to anybody, it belongs to its key
	}
	if r.deny.names.match(name) || !r.allow.names.empty() && !r.allow.names.match(name) {
		return refusal(rendezvous.CodeNotAllowed, "nobody may have this name here")
	}
	for _, v := range r.reserved {
		if v.names.match(name) {
			if has(v.keys, key) {
				return nil
			}
			return refusal(rendezvous.CodeNotAllowed, "this name is reserved for another key")
		}
	}
	return nil
}

// mayKeep reports whether a key may have a name wherever it is.
func (r *Rules) mayKeep(key, name string) bool {
	return r == nil || !has(r.deny.keys, key) && (len(r.allow.keys) == 0 || has(r.allow.keys, key)) && r.mayHave(key, name) == nil
}

// mayDial reports whether a caller, which has this key and these names, may
// dial that.
func (r *Rules) mayDial(key string, names []string, whom string) bool {
	if r == nil || len(r.dials) == 0 {
		return true
	}
	for i := range r.dials {
		rule := &r.dials[i]
		if !rule.whom.match(whom) {
			continue
		}
		if rule.who.match(key) {
			return true
		}
		for _, name := range names {
			if rule.who.match(name) {
				return true
			}
		}
	}
	return false
}
