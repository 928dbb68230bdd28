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
	line("delta", delta(r.Delta))
	line("samples", strconv.Itoa(r.Samples))
	line("filtering", r.Filtering.String())
	line("unsolicited", reply(r.Unsolicited, r.UnsolicitedMS))
	line("on-rst", r.OnRST.String())
	line("on-icmp", r.OnICMP.String())
	line("hairpin", r.Hairpin.String())
	line("ipv6-global", r.IPv6.Global.String())
	if r.IPv6.Public.IsValid() {
		line("ipv6-public", r.IPv6.Public.String())
		line("ipv6-mapping", r.IPv6.Mapping.String())
		line("ipv6-filtering", r.IPv6.Filtering.String())
		line("ipv6-unsolicited", reply(r.IPv6.Unsolicited, r.IPv6.UnsolicitedMS))
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

// Summary returns the report in one line.
func (r *Report) Summary() string {
	if r.Mapping == NoNAT {
		return "no NAT, filtering " + r.Filtering.String() + ", unsolicited " + r.Unsolicited.String()
	}
	ports := "unknown"
	switch {
	case r.PortPreserving == Yes:
		ports = "preserved"
	case r.Delta != 0:
		ports = "delta " + delta(r.Delta)
	case r.PortPreserving == No:
		ports = "unpredictable"
	}
	return fmt.Sprintf("mapping %v, ports %s, filtering %v, unsolicited %v", r.Mapping, ports, r.Filtering, r.Unsolicited)
}

// Verdict says in plain words what the host is behind, which peers it reaches
// directly and, if there are others, what would help; one string for each.
func (r *Report) Verdict() []string {
	what, peers, help := r.verdict()
	v := []string{what}
	if peers != "" {
		v = append(v, peers)
	}
	if r.Unsolicited == RST || r.Unsolicited == ICMP {
		v = append(v, "an error answers uninvited connections, so this side has to fire first; a firewall that drops instead of rejecting would help")
	}
	if help && r.IPv6.Public.IsValid() {
		v = append(v, "peers with IPv6 are reached over IPv6")
	} else if help {
		v = append(v, "port mapping on the router (UPnP, NAT-PMP or PCP), a forwarded port, or IPv6 would make the others reachable")
	}
	return v
}

// What a host can expect, by how easily others can come in.
const (
	reachesAll = "direct to every peer"
	reachesADF = "direct to every peer that this host can send to first, which punching does"
	reachesKey = "direct to public peers, and by punching to peers whose public port is kept or predictable; " +
		"not to peers behind NATs that draw ports at random"
	reachesPredicted = "direct to public peers; to peers whose public port is kept, by predicting this NAT's next port, mostly at once; " +
		"seldom to peers behind NATs like this one"
	reachesLax = "direct to public peers and to peers whose NAT lets in every port of an address; " +
		"to others by guessing ports, or over a relay"
)

func (r *Report) verdict() (what, peers string, help bool) {
	inward, limited := r.inward()
	switch r.Mapping {
	case NoNAT:
		switch r.Filtering {
		case Open:
			return "no NAT and no firewall: uninvited connections arrive", reachesAll, false
		case FilteringUnknown:
			return "no NAT; whether a firewall keeps uninvited connections out is not known", inward, false
		}
		return "no NAT, but a firewall keeps uninvited connections out", inward, limited
	case EIM:
		return "a NAT that keeps one public port for a local port, whoever the peer is", inward, limited
	case ADM, APDM, SessionDependent:
		per := map[Mapping]string{ADM: "address", APDM: "endpoint", SessionDependent: "connection"}[r.Mapping]
		what = "a NAT that takes another public port for each remote " + per
		if r.Delta != 0 {
			return fmt.Sprintf("%s, %+d from the last", what, r.Delta), reachesPredicted, true
		}
		return what + ", at random", reachesLax, true
	}
	return "not enough is known: the server needs a second address and a second port to tell", "", false
}

// inward is whom a host reaches whose public port is known to its peers.
func (r *Report) inward() (peers string, limited bool) {
	switch r.Filtering {
	case Open, EIF:
		return reachesAll, false
	case ADF:
		return reachesADF, false
	}
	return reachesKey, true
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

func delta(d int) string {
	if d == 0 {
		return Unknown.String()
	}
	return fmt.Sprintf("%+d", d)
}

func reply(r Reply, ms int) string {
	if r == ReplyUnknown {
		return r.String()
	}
	return fmt.Sprintf("%v after %d ms", r, ms)
}
