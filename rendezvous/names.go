package rendezvous

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Names are kept as text, a line each, so that an operator can read them, and
// change them while the server does not run:
//
//	name fingerprint until
//
// with the time in RFC 3339, or - while a session has the name. # begins a line
// of comment.
const (
	// MaxNames is how many names are kept, and how many are held for keys without
	// a session: they are some 90 MiB then.
	MaxNames = 1 << 18

	// MaxNamesText is how long a text of so many can be.
	MaxNamesText = len(namesHead) + MaxNames*(63+1+fingerprintLen+1+len("2006-01-02T15:04:05Z")+1)

	namesHead  = "# stuntd: the key that each name belongs to, and until when; -: while it is used, and for the hold time after\n"
	namesInUse = "-"
)

// A binding is a name that belongs to a key.
type binding struct {
	name, owner string
	until       time.Time // zero: a session has it
}

// Names returns which names belong to which keys, for RecallNames. Without a
// change it is the same again.
func (s *Server) Names() []byte {
	s.setUp()
	return formatNames(s.directory.bindings(s.now()))
}

func formatNames(all []binding) []byte {
	slices.SortFunc(all, func(a, b binding) int { return strings.Compare(a.name, b.name) })
	var b bytes.Buffer
	b.WriteString(namesHead)
	for _, v := range all {
		until := namesInUse
		if !v.until.IsZero() {
			until = v.until.UTC().Format(time.RFC3339)
		}
		fmt.Fprintln(&b, v.name, v.owner, until)
	}
	return b.Bytes()
}

// RecallNames holds the names of a text for their keys, as if the sessions that
// had them had just ended; those whose time is over, and those that are taken
// meanwhile, it leaves alone. With an error it has done nothing.
func (s *Server) RecallNames(text []byte) error {
	all, err := parseNames(text)
	if err != nil {
		return fmt.Errorf("rendezvous: not a list of names: %w", err)
	}
	s.setUp()
	s.directory.recall(all, s.now())
	return nil
}

func parseNames(text []byte) (all []binding, err error) {
	if len(text) > MaxNamesText {
		return nil, fmt.Errorf("%d bytes are too many", len(text))
	}
	n := 0
	seen := make(map[string]bool)
	for line := range bytes.Lines(text) {
		n++
		words := strings.Fields(string(line))
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		b, err := parseBinding(words)
		switch {
		case err != nil:
		case seen[b.name]:
			err = fmt.Errorf("%q is there twice", b.name)
		case len(all) == MaxNames:
			err = fmt.Errorf("more than %d names", MaxNames)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		seen[b.name] = true
		all = append(all, b)
	}
	return all, nil
}

func parseBinding(words []string) (b binding, err error) {
	if len(words) != 3 {
		return b, errors.New("it is a name, a fingerprint and a time")
	}
	b.name, b.owner = words[0], words[1]
	if ValidID(b.name) != nil || IsFingerprint(b.name) {
		return b, fmt.Errorf("%q is no name", clip(b.name, MaxText))
	}
	if !IsFingerprint(b.owner) {
		return b, fmt.Errorf("%q is no fingerprint", clip(b.owner, MaxText))
	}
	if words[2] == namesInUse {
		return b, nil
	}
	b.until, err = time.Parse(time.RFC3339, words[2])
	if y := b.until.UTC().Year(); err == nil && (y < 1970 || y > 9999) { // what is written back has four digits
		err = fmt.Errorf("the year %d", y)
	}
	return b, err
}

// bindings returns all names, those that sessions have first.
func (d *directory) bindings(now time.Time) []binding {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.expire(now)
	all := make([]binding, 0, len(d.names))
	for _, c := range d.names {
		if c.session != nil {
			all = append(all, binding{name: c.name, owner: c.owner})
		}
	}
	for e := d.held.Back(); e != nil && len(all) < MaxNames; e = e.Prev() { // the one that is held longest first
		c := e.Value.(*claim)
		all = append(all, binding{c.name, c.owner, c.until})
	}
	return all[:min(len(all), MaxNames)]
}

// recall holds names.
func (d *directory) recall(all []binding, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	most := now.Add(max(d.hold, 0))
	for i := range all { // a clock that was ahead once would keep a name for ever
		if b := &all[i]; b.until.IsZero() || b.until.After(most) {
			b.until = most
		}
	}
	slices.SortStableFunc(all, func(a, b binding) int { return a.until.Compare(b.until) })
	if d.keys == nil {
		d.keys, d.names = make(map[string]*owner), make(map[string]*claim)
	}
	for _, b := range all {
		o := d.keys[b.owner]
		if o == nil {
			o = &owner{}
		}
		if d.names[b.name] != nil || len(o.names) >= d.idsPerKey || !now.Before(b.until) {
			continue
		}
		// As if taken now: where other servers went on, and gave the name to another
		// key when its hold was over there, that one took it earlier.
		c := &claim{name: b.name, owner: b.owner, bound: now.UnixNano()}
		d.keys[b.owner], d.names[b.name] = o, c
		o.names = append(o.names, b.name)
		d.holdFor(c, netip.Prefix{}, b.until) // whose they were is not kept
		d.tell(b.name)
	}
}
