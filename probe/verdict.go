package probe

import "fmt"

// Verdict says in plain words what the host is behind, which peers it reaches
// directly and by which method and, if there are others, what would help; one
// string for each.
func (r *Report) Verdict() []string {
	what, reach := r.what(), r.reach()
	v := []string{what}
	if reach.peers != "" {
		v = append(v, reach.peers)
	}
	v = append(v, r.remarks()...)
	if !reach.limited {
		return v
	}
	if r.IPv6.Public.IsValid() {
		return append(v, "peers with IPv6 are reached over IPv6")
	}
	return append(v, "port mapping on the router (UPnP, NAT-PMP or PCP), a forwarded port, or IPv6 would make the others reachable")
}

// what the host is behind.
func (r *Report) what() string {
	switch r.Mapping {
	case NoNAT:
		switch r.Filtering {
		case Open:
			return "no NAT and no firewall: uninvited connections arrive"
		case FilteringUnknown:
			return "no NAT; whether a firewall keeps uninvited connections out is not known"
		}
		return "no NAT, but a firewall keeps uninvited connections out"
	case EIM:
		return r.nested() + "that keeps one public port for a local port, whoever the peer is"
	case ADM, APDM, SessionDependent:
		per := map[Mapping]string{ADM: "address", APDM: "endpoint", SessionDependent: "connection"}[r.Mapping]
		return r.nested() + "that takes another public port for each remote " + per + r.drawn()
	}
	return "not enough is known: the server needs a second address and a second port to tell"
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

func (r *Report) span() int { return int(r.Ports.Hi) - int(r.Ports.Lo) + 1 }

// reach is whom a host gets to directly, and how.
type reach struct {
	peers   string
	limited bool // there are others
}

// The largest block in which two hosts find each other by guessing on both
// sides: of 512 ports always, of 2,000 in 8 of 10 cases (measured).
const mutualBlock = 2048

func (r *Report) reach() reach {
	const public = "direct to public peers; "
	switch {
	case r.Mapping == MappingUnknown:
		return reach{}
	case r.Filtering == Open || r.Filtering == EIF:
		if r.Mapping <= EIM {
			return reach{"direct to every peer, and every peer to this host", false}
		}
	case r.Filtering == NoSYNIn:
		return reach{public + "by simultaneous open to peers whose NAT lets a SYN in; not to peers behind NATs that refuse it as this one does", true}
	}
	switch {
	case r.Mapping <= EIM && r.Filtering == ADF:
		return reach{"direct to every peer that this host can send to first, which simultaneous open does", false}
	case r.Mapping <= EIM:
		return reach{public + "by simultaneous open to peers whose port is kept or counts up; by guessing to peers behind NATs that draw ports at random", false}
	case r.Delta != 0:
		return reach{public + "by predicting this NAT's next port to peers whose port is known or counts up, too; seldom to peers behind NATs that draw ports at random", true}
	case r.Ports.Assignment == Block && r.span() <= mutualBlock:
		return reach{public + "by guessing among few ports to peers whose port is known, and on both sides to peers with few ports, too", true}
	}
	return reach{public + "by guessing, with some hundred connection attempts, to peers whose port is known; not to peers behind NATs that draw ports at random, too", true}
}

// remarks are what makes a dial slower or less certain, and what would help.
func (r *Report) remarks() (v []string) {
	if r.Unsolicited == RST || r.Unsolicited == ICMP {
		v = append(v, "an error answers uninvited connections, so this side has to fire first; a firewall that drops instead of rejecting would help")
	}
	if r.Ports.Pooling == Arbitrary {
		v = append(v, "the public address changes from connection to connection, so a predicted port is right only with luck; an own public address would help")
	}
	if r.Ports.Drift >= 5 {
		v = append(v, fmt.Sprintf("others behind this NAT make %.0f connections a second, so its next port is one of many", r.Ports.Drift))
	}
	if r.LifetimeS > 0 && r.LifetimeS < 60 {
		v = append(v, fmt.Sprintf("idle connections are forgotten after about %d s: send keepalives more often", r.LifetimeS))
	}
	return v
}
