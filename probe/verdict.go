package probe

import (
	"fmt"
	"strings"
)

// Verdict says in plain words what the host is behind, which peers it reaches
// directly and by which method and, if there are others, what would help; one
// string for each. docs/grid.md has the measurements that it repeats.
func (r *Report) Verdict() []string {
	v := []string{r.what()}
	reach := r.reach()
	v = append(v, reach.peers...)
	v = append(v, r.remarks()...)
	v6 := r.over6()
	v = append(v, v6.peers...)
	if !reach.limited {
		return v
	}
	if v6.peers != nil && !v6.limited {
		return v // the way round it was named
	}
	return append(v, r.remedy())
}

// what the host is behind.
func (r *Report) what() string {
	switch r.Mapping {
	case NoNAT:
		return firewall("no NAT", r.Filtering)
	case EIM:
		return r.nested() + "that keeps one public port for a local port, whoever the peer is"
	case ADM, APDM, SessionDependent:
		per := map[Mapping]string{ADM: "address", APDM: "endpoint", SessionDependent: "connection"}[r.Mapping]
		return r.nested() + "that takes another public port for each remote " + per + r.drawn()
	}
	if len(r.Public) == 0 {
		return "IPv4 was not measured: no server was met over it"
	}
	return "not enough is known: the server needs a second address and a second port to tell"
}

func firewall(nat string, f Filtering) string {
	switch f {
	case Open:
		return nat + " and no firewall: uninvited connections arrive"
	case FilteringUnknown:
		return nat + "; whether a firewall keeps uninvited connections out is not known"
	}
	return nat + ", but a firewall keeps uninvited connections out"
}

func (r *Report) nested() string {
	if r.Path.NATs > 1 {
		return fmt.Sprintf("%d NATs in a row, together one ", r.Path.NATs)
	}
	return "a NAT "
}

// drawn is how a new mapping gets its port.
func (r *Report) drawn() string {
	switch {
	case r.Delta != 0:
		return fmt.Sprintf(", %+d from the last", r.Delta)
	case r.Ports.Assignment == Block:
		return fmt.Sprintf(", at random among about %d", r.span())
	case r.Ports.Assignment == Random, r.PortPreserving == No:
		return ", at random"
	}
	return ""
}

// remarks are what makes a dial slower or less certain.
func (r *Report) remarks() (v []string) {
	known := r.Filtering == Open || r.Filtering == EIF // and nobody's order matters
	if !known && (r.Unsolicited == RST || r.Unsolicited == ICMP) {
		v = append(v, "an error answers uninvited connections, so this side has to fire first, which it does; a firewall that drops instead of rejecting would help")
	}
	if r.Ports.Pooling == Arbitrary {
		v = append(v, fmt.Sprintf("the public address changes from connection to connection: peers have to guess it as well, one of %d at least", r.Ports.Pool))
	}
	if r.Ports.Drift >= 5 {
		v = append(v, fmt.Sprintf("others behind this NAT make %.0f connections a second, so its next port is one of several", r.Ports.Drift))
	}
	if r.Hairpin == No && r.Path.NATs > 1 {
		v = append(v, "not directly to peers in other networks behind the same outer NAT: it does not loop packets back")
	}
	if p := r.PortMapping; p.Protocol != "" && p.Protocol != NoPortMapping && !p.Public.IsValid() {
		v = append(v, "the router maps ports ("+p.Protocol+"), but nobody gets in by them: there is another NAT before it")
	}
	if r.LifetimeS > 0 && r.LifetimeS < 60 {
		v = append(v, fmt.Sprintf("idle connections are forgotten after about %d s: send keepalives more often", r.LifetimeS))
	}
	return v
}

// remedy is what would make the peers reachable that are not.
func (r *Report) remedy() string {
	ways := []string{"a public address"}
	if !r.IPv6.Public.IsValid() {
		ways = append(ways, "IPv6")
	}
	asked := r.PortMapping.Protocol != "" && r.PortMapping.Protocol != NoPortMapping // and it has no effect
	if r.Mapping > NoNAT && r.Path.NATs < 2 && !asked {
		ways = append(ways, "port mapping on the router (UPnP, NAT-PMP or PCP)")
	}
	if r.Mapping >= ADM && r.Path.NATs < 2 {
		ways = append(ways, "a router whose NAT keeps one port for all peers (on Linux: masquerade without \"random\")")
	}
	last := len(ways) - 1
	if last > 0 {
		ways = []string{strings.Join(ways[:last], ", "), ways[last]}
	}
	return strings.Join(ways, " or ") + " would make the others reachable directly"
}
