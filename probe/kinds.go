package probe

import "slices"

// The enumerations of a Report. Their zero values mean "not measured", their
// texts are stable names, and a text that this version does not know reads as
// the zero value, so that a newer peer's report stays readable.

// Mapping is when a NAT uses the same public endpoint for connections from one
// local endpoint (RFC 4787 section 4.1, for TCP RFC 5382 section 4.1).
type Mapping uint8

// The kinds of mapping, from the easiest to the hardest.
const (
	MappingUnknown   Mapping = iota
	NoNAT                    // the public address is the host's own
	EIM                      // endpoint-independent: always the same
	ADM                      // address-dependent: the same per remote address
	APDM                     // address- and port-dependent: the same per remote endpoint
	SessionDependent         // another one for every connection
)

var mappingNames = []string{"unknown", "none", "endpoint-independent", "address-dependent", "address-and-port-dependent", "session-dependent"}

func (m Mapping) String() string                { return name(mappingNames, m) }
func (m Mapping) MarshalText() ([]byte, error)  { return []byte(m.String()), nil }
func (m *Mapping) UnmarshalText(b []byte) error { *m = named[Mapping](mappingNames, b); return nil }

// Assignment is which public port a NAT gives a new mapping (RFC 4787 section
// 4.2).
type Assignment uint8

// The assignments, from the easiest to predict to the hardest.
const (
	AssignmentUnknown Assignment = iota
	Preserving                   // the local port
	Sequential                   // Delta after the last one that anybody got
	Block                        // at random within Lo to Hi
	Random                       // at random among all ports
)

var assignmentNames = []string{"unknown", "preserving", "sequential", "block", "random"}

func (a Assignment) String() string               { return name(assignmentNames, a) }
func (a Assignment) MarshalText() ([]byte, error) { return []byte(a.String()), nil }
func (a *Assignment) UnmarshalText(b []byte) error {
	*a = named[Assignment](assignmentNames, b)
	return nil
}

// Pooling is which public address a NAT that may have several gives a new
// mapping (RFC 4787 section 4.1).
type Pooling uint8

// The kinds of pooling.
const (
	PoolingUnknown Pooling = iota
	Single                 // one was seen; others may be for other hosts
	Paired                 // several, but a host keeps its own
	Arbitrary              // any of several, for each mapping
)

var poolingNames = []string{"unknown", "single", "paired", "arbitrary"}

func (p Pooling) String() string                { return name(poolingNames, p) }
func (p Pooling) MarshalText() ([]byte, error)  { return []byte(p.String()), nil }
func (p *Pooling) UnmarshalText(b []byte) error { *p = named[Pooling](poolingNames, b); return nil }

// Filtering is whose SYN a NAT or firewall lets in to a local endpoint (RFC
// 4787 section 5, RFC 5382 section 4.3).
type Filtering uint8

// The kinds of filtering, from the easiest to the hardest.
const (
	FilteringUnknown Filtering = iota
	Open                       // anybody's, even without a mapping
	EIF                        // anybody's, while there is a mapping
	ADF                        // from addresses that were sent to
	APDF                       // from endpoints that were sent to
	NoSYNIn                    // nobody's, not even from where a SYN went
)

var filteringNames = []string{"unknown", "open", "endpoint-independent", "address-dependent", "address-and-port-dependent", "no-syn-in"}

func (f Filtering) String() string               { return name(filteringNames, f) }
func (f Filtering) MarshalText() ([]byte, error) { return []byte(f.String()), nil }
func (f *Filtering) UnmarshalText(b []byte) error {
	*f = named[Filtering](filteringNames, b)
	return nil
}

// Reply is what a NAT answers to an unsolicited SYN (RFC 5382 REQ-4). Whatever
// is not silence ends the sender's attempt, so that the peer behind this NAT
// has to fire first.
type Reply uint8

// The replies.
const (
	ReplyUnknown Reply = iota
	Silence            // nothing: harmless to a punch
	RST                // a RST, or ICMP port unreachable where the server's system cannot tell it from one
	ICMP               // an ICMP error
)

var replyNames = []string{"unknown", "silence", "rst", "icmp"}

func (r Reply) String() string                { return name(replyNames, r) }
func (r Reply) MarshalText() ([]byte, error)  { return []byte(r.String()), nil }
func (r *Reply) UnmarshalText(b []byte) error { *r = named[Reply](replyNames, b); return nil }

// Effect is what an inbound error does to a half-open mapping.
type Effect uint8

// The effects.
const (
	EffectUnknown Effect = iota
	Keeps
	Closes
)

var effectNames = []string{"unknown", "keeps", "closes"}

func (e Effect) String() string                { return name(effectNames, e) }
func (e Effect) MarshalText() ([]byte, error)  { return []byte(e.String()), nil }
func (e *Effect) UnmarshalText(b []byte) error { *e = named[Effect](effectNames, b); return nil }

// Tri is a yes or no that may not have been measured.
type Tri uint8

// The answers.
const (
	Unknown Tri = iota
	Yes
	No
)

var triNames = []string{"unknown", "yes", "no"}

func (t Tri) String() string                { return name(triNames, t) }
func (t Tri) MarshalText() ([]byte, error)  { return []byte(t.String()), nil }
func (t *Tri) UnmarshalText(b []byte) error { *t = named[Tri](triNames, b); return nil }

func tri(yes bool) Tri {
	if yes {
		return Yes
	}
	return No
}

func name[K ~uint8](names []string, k K) string {
	if int(k) < len(names) {
		return names[k]
	}
	return names[0]
}

func named[K ~uint8](names []string, text []byte) K {
	return K(max(0, slices.Index(names, string(text))))
}
