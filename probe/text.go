package probe

import (
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// WriteText writes the report for people and for grep: a line "key: value" for
// each property, always in the same order and under the same names, and at the
// end the verdict. What was not measured is "unknown" and never empty. Errors
// are those of w.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	line := func(key, value string) { fmt.Fprintf(&b, "%s: %s\n", key, value) }
	if !r.Time.IsZero() {
		line("time", r.Time.UTC().Format(time.RFC3339))
	}
	line("local", addresses(r.Local))
	line("public", addresses(r.Public))
	line("mapping", r.Mapping.String())
	line("port-preserving", r.PortPreserving.String())
	line("assignment", r.Ports.Assignment.String())
	line("delta", delta(r.Delta))
	line("drift", drift(r))
	line("range", portRange(r.Ports))
	line("confidence", known(r.Ports.Confidence > 0, "%.2f", r.Ports.Confidence))
	line("parity", r.Ports.Parity.String())
	line("contiguity", r.Ports.Contiguity.String())
	line("pooling", pooling(r.Ports))
	line("samples", strconv.Itoa(r.Samples))
	line("filtering", r.Filtering.String())
	line("unsolicited", reply(r.Unsolicited, r.UnsolicitedMS))
	line("on-rst", r.OnRST.String())
	line("on-icmp", r.OnICMP.String())
	line("hairpin", r.Hairpin.String())
	line("port-mapping", r.PortMapping.String())
	line("nats", number(r.Path.NATs))
	line("last-nat", known(r.Path.LastNAT > 0, "hop %d", r.Path.LastNAT))
	line("ttl", number(r.Path.TTL))
	line("hops", number(r.Path.Hops))
	line("seq-preserved", r.Path.SeqPreserved.String())
	line("lifetime", known(r.LifetimeS > 0, "at least %d s", r.LifetimeS))
	line("ipv6-global", r.IPv6.Global.String())
	if r.IPv6.Public.IsValid() {
		line("ipv6-public", r.IPv6.Public.String())
		line("ipv6-mapping", r.IPv6.Mapping.String())
		line("ipv6-filtering", r.IPv6.Filtering.String())
		line("ipv6-unsolicited", reply(r.IPv6.Unsolicited, r.IPv6.UnsolicitedMS))
		line("ipv6-port-mapping", r.IPv6.PortMapping.String())
	}
	for _, s := range r.Ambiguous {
		line("ambiguous", s)
	}
	for _, s := range r.Verdict() {
		line("verdict", s)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// String returns the protocol and what it has given.
func (p PortMapping) String() string {
	switch {
	case p.Protocol == "":
		return Unknown.String()
	case p.Public.IsValid():
		return p.Protocol + " at " + p.Public.String()
	case p.Protocol == NoPortMapping:
		return p.Protocol
	}
	return p.Protocol + ", but nobody gets in"
}

// Summary returns the report in one line.
func (r *Report) Summary() string {
	if r.Mapping == NoNAT {
		return "no NAT, filtering " + r.Filtering.String() + ", unsolicited " + r.Unsolicited.String()
	}
	ports := "unknown"
	switch a := r.Ports.Assignment; {
	case r.PortPreserving == Yes:
		ports = "preserved"
	case r.Delta != 0:
		ports = "delta " + delta(r.Delta)
	case a == Block:
		ports = "random in " + portRange(r.Ports)
	case a == Random, r.PortPreserving == No:
		ports = "unpredictable"
	}
	return fmt.Sprintf("mapping %v, ports %s, filtering %v, unsolicited %v", r.Mapping, ports, r.Filtering, r.Unsolicited)
}

func addresses(as []netip.Addr) string {
	if len(as) == 0 {
		return Unknown.String()
	}
	s := make([]string, len(as))
	for i, a := range as {
		s[i] = a.String()
	}
	return strings.Join(s, " ")
}

// known is a value where there is one.
func known(is bool, format string, v any) string {
	if !is {
		return Unknown.String()
	}
	return fmt.Sprintf(format, v)
}

func number(n int) string { return known(n > 0, "%d", n) }

func delta(d int) string { return known(d != 0, "%+d", d) }

func drift(r *Report) string {
	return known(r.Ports.Assignment == Sequential, "%.1f/s", r.Ports.Drift)
}

func portRange(p Ports) string {
	if p.Hi == 0 {
		return Unknown.String()
	}
	return fmt.Sprintf("%d-%d", p.Lo, p.Hi)
}

func pooling(p Ports) string {
	if p.Pool < 2 {
		return p.Pooling.String()
	}
	return fmt.Sprintf("%v of %d", p.Pooling, p.Pool)
}

func reply(r Reply, ms int) string {
	if r == ReplyUnknown {
		return r.String()
	}
	return fmt.Sprintf("%v after %d ms", r, ms)
}
