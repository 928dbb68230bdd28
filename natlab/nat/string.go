package nat

import (
	"fmt"
	"strings"
)

func (m MappingBehavior) String() string {
	return name(m, "EIM", "ADM", "APDM", "session-dependent")
}

func (a PortAssignment) String() string { return name(a, "preserving", "sequential", "random") }

func (p Pooling) String() string { return name(p, "paired", "arbitrary") }

func (f FilteringBehavior) String() string { return name(f, "APDF", "ADF", "EIF", "open") }

func (h Hairpinning) String() string { return name(h, "none", "external", "internal") }

func (a Answer) String() string {
	return name(a, "silence", "RST", "ICMP port unreachable", "ICMP host unreachable", "ICMP prohibited")
}

func (d Dir) String() string { return name(d, "outside", "inside") }

func (s State) String() string { return name(s, "half-open", "established", "closing") }

// name returns the name of an enum's value, and a number for one that is none.
func name[E ~uint8](v E, names ...string) string {
	if int(v) < len(names) {
		return names[v]
	}
	return fmt.Sprintf("unknown(%d)", v)
}

// String names the behaviour in the words of RFC 4787 and RFC 5382: mapping,
// assignment and filtering always, the rest where it differs from the zero
// Config.
func (c Config) String() string {
	parts := []string{c.Mapping.String() + " mapping", c.assignment(), c.Filtering.String() + " filtering",
		"unsolicited SYN: " + c.Unsolicited.String()}
	if c.AnswerAfter > 0 && c.Unsolicited != Silence {
		parts[len(parts)-1] += fmt.Sprintf(" after %v", c.AnswerAfter)
	}
	add := func(when bool, what string) {
		if when {
			parts = append(parts, what)
		}
	}
	add(c.Pooling == Arbitrary, "arbitrary pooling")
	add(c.Parity, "port parity")
	add(c.Overload, "port overloading")
	add(c.RefuseSYNIn, "refuses SYN in after SYN out")
	add(c.RefuseSYNACKOut, "refuses SYN-ACK out after SYN out")
	add(c.OnRST != Reaction{}, "RST "+c.OnRST.String())
	add(c.OnICMP != Reaction{}, "ICMP error "+c.OnICMP.String())
	add(c.Hairpin != NoHairpin, "hairpinning with "+c.Hairpin.String()+" source")
	add(c.RewriteSeq, "rewrites sequence numbers")
	add(c.Strict, "strict sequence numbers")
	add(c.PickUp, "picks up connections midway")
	return strings.Join(parts, ", ")
}

func (c Config) assignment() string {
	s := c.Assignment.String() + " ports"
	if c.Assignment == Sequential {
		s = fmt.Sprintf("%s by %+d", s, c.delta())
		if c.Busy > 0 {
			s += fmt.Sprintf(" with %g other mappings/s", c.Busy)
		}
	}
	if c.Ports != (Ports{}) {
		s += fmt.Sprintf(" of %d to %d", c.Ports.Lo, c.Ports.Hi)
	}
	return s
}

func (r Reaction) String() string {
	switch r {
	case Reaction{Close: true}:
		return "closes a half-open mapping"
	case Reaction{Swallow: true}:
		return "is swallowed while half-open"
	case Reaction{Close: true, Swallow: true}:
		return "closes a half-open mapping and is swallowed"
	}
	return "keeps a half-open mapping"
}
