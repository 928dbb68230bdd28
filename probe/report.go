package probe

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// ReportVersion is the version of the reports that this package writes. Fields
// are only ever added; the number changes when one changes its meaning.
const ReportVersion = 1

// Report is what is known about the NAT or firewall in front of a host. It is
// data: whoever holds it may copy and change it. Every field's zero value says
// that it was not measured. Its JSON names are stable.
type Report struct {
	Version int          `json:"version"`
	Time    time.Time    `json:"time,omitzero"`    // when it was measured
	Public  []netip.Addr `json:"public,omitempty"` // the IPv4 addresses that servers saw: several if pooled
	Local   []netip.Addr `json:"local,omitempty"`  // probed from; never in the wire form

	Mapping        Mapping `json:"mapping,omitzero"`
	PortPreserving Tri     `json:"port_preserving,omitzero"` // the public port is the local one
	Delta          int     `json:"delta,omitzero"`           // ports between one new mapping and the next; 0 unknown or none
	Samples        int     `json:"samples,omitzero"`         // mappings that these and Ports rest on
	Ports          Ports   `json:"ports,omitzero"`

	Filtering     Filtering `json:"filtering,omitzero"`
	Unsolicited   Reply     `json:"unsolicited,omitzero"`    // to a SYN that is not let in
	UnsolicitedMS int       `json:"unsolicited_ms,omitzero"` // milliseconds until then, or silent for so long
	OnRST         Effect    `json:"on_rst,omitzero"`         // of an inbound RST on a half-open mapping
	OnICMP        Effect    `json:"on_icmp,omitzero"`
	Hairpin       Tri       `json:"hairpin,omitzero"` // hosts behind the NAT meet at its public address

	// PortMapping is what the router has said and done; never in the wire form.
	PortMapping PortMapping `json:"port_mapping,omitzero"`

	Path      Path `json:"path,omitzero"`
	LifetimeS int  `json:"lifetime_s,omitzero"` // seconds that an idle connection kept its mapping, at least; measured only if asked for

	// Ambiguous says what could not be told apart, and why. Where it names two
	// kinds, the field has the one that is safer to assume; of EIM and ADM it
	// has EIM, which is far more common.
	Ambiguous []string `json:"ambiguous,omitempty"`

	IPv6 IPv6 `json:"ipv6,omitzero"`
}

// Saw reports whether a is an address that servers saw this host at.
func (r *Report) Saw(a netip.Addr) bool {
	return slices.Contains(r.Public, a) || a.IsValid() && r.IPv6.Public == a
}

// Ports is how a NAT picks the public endpoint of a new mapping.
type Ports struct {
	Assignment Assignment `json:"assignment,omitzero"`

	// Lo and Hi bound, both inclusive, where random ports are drawn from; 1024
	// and 65535 if nothing narrower was seen. Zero with other assignments.
	Lo uint16 `json:"lo,omitzero"`
	Hi uint16 `json:"hi,omitzero"`

	// Drift is how many mappings a second other hosts behind a sequential NAT
	// make; each takes Delta ports. 0 with few samples means less than about 1.
	Drift float64 `json:"drift,omitzero"`

	// Confidence is how sure Assignment, Delta, Lo and Hi are, 0 (unknown) to 1.
	Confidence float64 `json:"confidence,omitzero"`

	Parity     Tri     `json:"parity,omitzero"`     // even local ports get even public ones, odd ones odd
	Contiguity Tri     `json:"contiguity,omitzero"` // adjacent local ports get adjacent public ones
	Pooling    Pooling `json:"pooling,omitzero"`
	Pool       int     `json:"pool,omitzero"` // public addresses seen; there may be more
}

// Path is what lies between a host and a server of the Internet.
type Path struct {
	Hops    int `json:"hops,omitzero"`     // routers, NATs among them, to the server
	NATs    int `json:"nats,omitzero"`     // on the way, at least
	LastNAT int `json:"last_nat,omitzero"` // which router the outermost NAT or firewall is, from 1

	// TTL is the least one with which a SYN opens every NAT on our side. One
	// that is higher by a few dies before it can reach a peer's.
	TTL int `json:"ttl,omitzero"`

	SeqPreserved Tri `json:"seq_preserved,omitzero"` // TCP sequence numbers arrive as they were sent
}

// IPv6 is what is known about a host's IPv6.
type IPv6 struct {
	Global        Tri        `json:"global,omitzero"`  // an interface has a global unicast address
	Public        netip.Addr `json:"public,omitzero"`  // the address that a server saw
	Mapping       Mapping    `json:"mapping,omitzero"` // NoNAT, unless somebody translates IPv6
	Filtering     Filtering  `json:"filtering,omitzero"`
	Unsolicited   Reply      `json:"unsolicited,omitzero"`
	UnsolicitedMS int        `json:"unsolicited_ms,omitzero"`

	PortMapping PortMapping `json:"port_mapping,omitzero"` // of a firewall; never in the wire form
}

// PortMapping is what came of asking the router to pass on a public port.
// [Run] does not ask: a node does, for its own port.
type PortMapping struct {
	// Protocol is the one that the router spoke: "pcp", "nat-pmp" or "upnp".
	// NoPortMapping: it spoke none, or refused. Empty: it was not asked.
	Protocol string `json:"protocol,omitzero"`

	// Public is where a stranger has got in; invalid if none has.
	Public netip.AddrPort `json:"public,omitzero"`
}

// NoPortMapping is the Protocol of a router that was asked in vain.
const NoPortMapping = "none"

// Bounds of the wire form.
const (
	MaxReport = 1024 // bytes

	maxPublic    = 8
	maxAmbiguous = 8
	maxNote      = 160 // bytes of one Ambiguous
	maxCount     = 1024
	maxDelta     = 4096
	maxDrift     = 10_000
	maxHops      = 255
	maxLifetime  = 7 * 24 * 3600 // seconds; nobody measures a week
)

// Encode returns the wire form: the JSON without Local, in at most MaxReport
// bytes. What does not fit is left out, notes first.
func (r *Report) Encode() []byte {
	w := *r
	w.Local, w.PortMapping, w.IPv6.PortMapping = nil, PortMapping{}, PortMapping{}
	w.Time = w.Time.UTC().Truncate(time.Second)
	w.Public = w.Public[:min(len(w.Public), maxPublic)]
	w.Ambiguous = w.Ambiguous[:min(len(w.Ambiguous), maxAmbiguous)]
	for {
		b, err := json.Marshal(&w)
		switch {
		case err == nil && len(b) <= MaxReport:
			return b
		case len(w.Ambiguous) > 0:
			w.Ambiguous = w.Ambiguous[:len(w.Ambiguous)-1]
		case !w.Time.IsZero():
			w.Time = time.Time{} // a year that JSON cannot write
		default:
			w.Public = nil // addresses with zones of any length
		}
	}
}

// DecodeReport reads a wire form that anybody may have written. It bounds
// every field, so that the result can be kept, printed on a terminal and
// planned with; kinds that it does not know are unknown.
func DecodeReport(b []byte) (*Report, error) {
	if len(b) > MaxReport {
		return nil, fmt.Errorf("report of %d bytes is longer than %d", len(b), MaxReport)
	}
	r := new(Report)
	if err := json.Unmarshal(b, r); err != nil {
		return nil, fmt.Errorf("report: %w", err)
	}
	r.Local, r.PortMapping, r.IPv6.PortMapping = nil, PortMapping{}, PortMapping{}
	r.Time = r.Time.UTC().Truncate(time.Second)
	if err := r.check(); err != nil {
		return nil, fmt.Errorf("report: %w", err)
	}
	return r, nil
}

func (r *Report) check() error {
	switch {
	case r.Version < 1 || r.Version > maxCount:
		return fmt.Errorf("version %d", r.Version)
	case !r.Time.IsZero() && (r.Time.Year() < 2000 || r.Time.Year() > 9998):
		return errors.New("no plausible time")
	case len(r.Public) > maxPublic || len(r.Ambiguous) > maxAmbiguous:
		return errors.New("too many entries")
	case r.Delta < -maxDelta || r.Delta > maxDelta:
		return fmt.Errorf("delta %d", r.Delta)
	case r.Samples < 0 || r.Samples > maxCount:
		return fmt.Errorf("%d samples", r.Samples)
	case r.LifetimeS < 0 || r.LifetimeS > maxLifetime:
		return fmt.Errorf("a lifetime of %d s", r.LifetimeS)
	case !r.Ports.plausible():
		return errors.New("no plausible ports")
	case !r.Path.plausible():
		return errors.New("no plausible path")
	case !plausibleMS(r.UnsolicitedMS) || !plausibleMS(r.IPv6.UnsolicitedMS):
		return errors.New("no plausible duration")
	case r.IPv6.Public.IsValid() && (!host(r.IPv6.Public) || !r.IPv6.Public.Is6()):
		return errors.New("no IPv6 address")
	}
	for _, a := range r.Public {
		if !host(a) || !a.Is4() {
			return errors.New("no IPv4 address")
		}
	}
	for _, s := range r.Ambiguous {
		if !printable(s) {
			return errors.New("note is not short printable ASCII")
		}
	}
	return nil
}

func (p *Ports) plausible() bool {
	return p.Lo <= p.Hi && (p.Lo == 0) == (p.Hi == 0) && p.Drift >= 0 && p.Drift <= maxDrift &&
		p.Confidence >= 0 && p.Confidence <= 1 && p.Pool >= 0 && p.Pool <= maxCount
}

func (p *Path) plausible() bool {
	for _, n := range []int{p.Hops, p.NATs, p.LastNAT, p.TTL} {
		if n < 0 || n > maxHops {
			return false
		}
	}
	return true
}

func plausibleMS(ms int) bool { return ms >= 0 && ms <= maxDialMS }

// host reports whether a is an address that a host may have. Loopback is one
// in tests, a private one where the server stands in the same network.
func host(a netip.Addr) bool {
	return a.Zone() == "" && !a.Is4In6() && (a.IsGlobalUnicast() || a.IsLoopback())
}

func printable(s string) bool {
	if len(s) > maxNote {
		return false
	}
	for _, c := range []byte(s) {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return true
}
