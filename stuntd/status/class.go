package status

import "strings"

// A class is what decides, of a kind of NAT, who gets through it. Nodes choose
// their labels, and of honest ones there are hundreds; there are a dozen classes,
// so that a table of pairs can be read, and nobody can fill our memory.
type class uint8

const (
	classOther     class = iota // a label that this version does not know
	classUnknown                // none: the NAT is not probed yet
	classPublic                 // a public address, open
	classFirewall               // a public address, and something that lets few in
	classOnePort                // one public port for all peers, silent to strangers
	classAnswers                // the same, but answers a stranger's SYN: then the peer must fire first
	classNoSYNIn                // the same, but lets no SYN in, not even one that is expected
	classPerPeer                // a public port for each peer, in an order that is not known
	classPreserves              // … the local one, where it is free
	classCounts                 // … the next one
	classBlocks                 // … one of a small block, at random
	classDraws                  // … any, at random
	classes
)

var classNames = [classes]string{"other", "unknown", "public", "firewall", "eim", "eim-rst", "no-syn-in",
	"apdm", "apdm-preserving", "apdm-sequential", "apdm-block", "apdm-random"}

var classTexts = [classes]string{
	"a label that this server does not know",
	"not probed yet, or not told",
	"a public address",
	"a public address behind a firewall",
	"one public port for all peers",
	"one public port for all peers; answers strangers with RST or ICMP",
	"one public port for all peers; lets no SYN in",
	"a public port for each peer, in an order that is not known",
	"a public port for each peer: the local one where it is free",
	"a public port for each peer: it counts",
	"a public port for each peer: it draws from a small block",
	"a public port for each peer: it draws from all",
}

func (c class) String() string { return classNames[c] }

// text says in words what the class is.
func (c class) text() string { return classTexts[c] }

// classOf sorts a label as package probe makes them: mapping, assignment,
// filtering and answer to strangers, with slashes between.
func classOf(kind string) class {
	if kind == "" {
		return classUnknown
	}
	parts := strings.Split(kind, "/")
	if len(parts) < 4 {
		return classOther
	}
	switch mapping, assignment, filtering, answer := parts[0], parts[1], parts[2], parts[3]; mapping {
	case "none":
		if filtering == "open" || filtering == "unknown" {
			return classPublic
		}
		return classFirewall
	case "eim":
		return onePort(filtering, answer)
	case "adm", "apdm", "session":
		return perPeer(assignment)
	}
	return classOther
}

func onePort(filtering, answer string) class {
	switch {
	case filtering == "no-syn-in":
		return classNoSYNIn
	case answer == "rst" || answer == "icmp":
		return classAnswers
	}
	return classOnePort
}

func perPeer(assignment string) class {
	switch assignment {
	case "preserving":
		return classPreserves
	case "sequential":
		return classCounts
	case "block":
		return classBlocks
	case "random":
		return classDraws
	}
	return classPerPeer
}
