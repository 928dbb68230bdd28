package nat

import "time"

// Named is a profile: a behaviour with a name that commands and tests use.
type Named struct {
	Name   string
	About  string // one line
	Config Config
}

// Profile returns the behaviour with that name.
func Profile(name string) (Config, bool) {
	for _, p := range Profiles() {
		if p.Name == name {
			return p.Config, true
		}
	}
	return Config{}, false
}

// Profiles returns the named behaviours, in the order of the grid: from the
// easiest to traverse to the hardest, then the peculiar ones.
func Profiles() []Named {
	closing := Reaction{Close: true}
	// A carrier's share of a range for one subscriber (RFC 6888 REQ-14, RFC 7422).
	block := func(size uint16) Ports { return Ports{Lo: 33792, Hi: 33792 + size - 1} }
	busy := func(rate float64) Config {
		return Config{Mapping: APDM, Assignment: Sequential, First: 40000, Busy: rate}
	}
	sequential := func(m MappingBehavior, delta int) Config {
		return Config{Mapping: m, Assignment: Sequential, First: 40000, Delta: delta}
	}
	return []Named{
		{"eim-eif", "full cone: anyone reaches a mapped port", Config{Filtering: EIF}},
		{"eim-adf", "restricted cone: any port of a contacted address", Config{Filtering: ADF}},
		{"eim-apdf", "port-restricted cone: contacted endpoints only; the zero Config", Config{}},
		{"linux", "a Linux router: masquerade with connection tracking, drops what it calls invalid", linux()},
		{"linux-random", "the same with fully random ports", random(linux())},
		{"eim-open", "full cone with a default host: even unmapped ports are forwarded", Config{Filtering: Open}},
		{"eim-rst", "answers an unsolicited SYN with RST, and closes a half-open mapping on one",
			Config{Unsolicited: RST, OnRST: closing}},
		{"eim-icmp", "answers with ICMP port unreachable, and closes a half-open mapping on ICMP",
			Config{Unsolicited: PortUnreachable, OnICMP: closing}},
		{"eim-req4", "answers with ICMP after 6 s unless a SYN goes out meanwhile (RFC 5382 REQ-4)",
			Config{Unsolicited: PortUnreachable, AnswerAfter: 6 * time.Second}},
		{"adm-delta1", "a port per destination address, the next one each time", sequential(ADM, 1)},
		{"apdm-delta1", "a port per destination endpoint, the next one each time", sequential(APDM, 1)},
		{"apdm-delta2", "a port per destination endpoint, the next but one each time", sequential(APDM, 2)},
		{"apdm-delta1-busy5", "apdm-delta1 with other hosts making 5 mappings a second", busy(5)},
		{"apdm-delta1-busy20", "apdm-delta1 with other hosts making 20 mappings a second", busy(20)},
		{"session-delta1", "a port per connection, the next one each time", sequential(SessionDependent, 1)},
		{"apdm-random", "a random port of all per destination endpoint", Config{Mapping: APDM, Assignment: Random}},
		{"apdm-block512", "a carrier's: a random port of a block of 512 per destination endpoint; destinations share ports",
			Config{Mapping: APDM, Assignment: Random, Ports: block(512), Overload: true}},
		{"apdm-block512-exclusive", "the same where each port serves one destination at a time",
			Config{Mapping: APDM, Assignment: Random, Ports: block(512)}},
		{"apdm-block2048", "a random port of a block of 2,048 per destination endpoint; destinations share ports",
			Config{Mapping: APDM, Assignment: Random, Ports: block(2048), Overload: true}},
		{"apdm-rst", "apdm-delta1 that answers RST and closes on it",
			Config{Mapping: APDM, Assignment: Sequential, First: 40000, Unsolicited: RST, OnRST: closing}},
		{"pool-paired", "several public addresses, one for each inside host", Config{Assignment: Random}},
		{"pool-arbitrary", "several public addresses, any for each mapping",
			Config{Mapping: APDM, Assignment: Random, Pooling: Arbitrary}},
		{"hairpin", "hairpins with the external source address (RFC 5382 REQ-8)",
			Config{Hairpin: HairpinExternal}},
		{"hairpin-internal", "hairpins with the internal source address", Config{Hairpin: HairpinInternal}},
		{"no-hairpin", "drops packets to its own public endpoints; the zero Config", Config{}},
		{"no-syn-in", "refuses a SYN even from where one was just sent: no simultaneous open",
			Config{RefuseSYNIn: true}},
		{"no-synack-out", "drops a SYN-ACK that follows the same host's SYN", Config{RefuseSYNACKOut: true}},
		{"seq-rewrite", "adds a random offset to sequence numbers", Config{RewriteSeq: true}},
	}
}

// linux is what nftables masquerade on a router that drops invalid packets
// does, with the kernel's default timeouts where they have a counterpart here.
// An RST in answer to a SYN puts its conntrack entry into CLOSE, in which a SYN
// from the outside is invalid until another one has gone out: the hole is shut,
// and a preserved port makes it look as if the mapping had stayed.
func linux() Config {
	return Config{
		Mapping: APDM, Overload: true, Strict: true, PickUp: true, OnRST: Reaction{Close: true},
		Timeouts: Timeouts{
			HalfOpen:    2 * time.Minute,
			Established: 5 * 24 * time.Hour,
			Transitory:  2 * time.Minute,
			UDP:         2 * time.Minute,
			Echo:        30 * time.Second,
		},
	}
}

func random(c Config) Config {
	c.Assignment = Random
	return c
}
