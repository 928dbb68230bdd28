package probe

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
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
	Samples        int     `json:"samples,omitzero"`         // mappings that the two rest on

	Filtering     Filtering `json:"filtering,omitzero"`
	Unsolicited   Reply     `json:"unsolicited,omitzero"`    // to a SYN that is not let in
	UnsolicitedMS int       `json:"unsolicited_ms,omitzero"` // milliseconds until then, or silent for so long
	OnRST         Effect    `json:"on_rst,omitzero"`         // of an inbound RST on a half-open mapping
	OnICMP        Effect    `json:"on_icmp,omitzero"`
	Hairpin       Tri       `json:"hairpin,omitzero"` // hosts behind the NAT meet at its public address

	// Ambiguous says what could not be told apart, and why. Where it names two
	// kinds, the field has the one that is safer to assume.
	Ambiguous []string `json:"ambiguous,omitempty"`

	IPv6 IPv6 `json:"ipv6,omitzero"`
}

// IPv6 is what is known about a host's IPv6.
type IPv6 struct {
	Global        Tri        `json:"global,omitzero"`  // an interface has a global unicast address
	Public        netip.Addr `json:"public,omitzero"`  // the address that a server saw
	Mapping       Mapping    `json:"mapping,omitzero"` // NoNAT, unless somebody translates IPv6
	Filtering     Filtering  `json:"filtering,omitzero"`
	Unsolicited   Reply      `json:"unsolicited,omitzero"`
	UnsolicitedMS int        `json:"unsolicited_ms,omitzero"`
}

// Bounds of the wire form.
const (
	MaxReport = 1024 // bytes

	maxPublic    = 8
	maxAmbiguous = 8
	maxNote      = 160 // bytes of one Ambiguous
	maxCount     = 1024
	maxDelta     = 4096
)

// Encode returns the wire form: the JSON without Local, in at most MaxReport
// bytes. What does not fit is left out, notes first.
func (r *Report) Encode() []byte {
	w := *r
	w.Local = nil
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
	r.Local = nil
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
