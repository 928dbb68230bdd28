package probe

import "time"

// knock is one dial back as both ends saw it.
type knock struct {
	outcome outcome
	after   time.Duration
	arrived bool // the token came in by our listener
}

// reached reports whether the SYN came through to this host, and blocked
// whether something on the way kept it out. Neither holds if the test says
// nothing: a NAT that accepts by itself, a server that would not try.
func (k knock) reached() bool { return k.outcome == connected && k.arrived }

// tried reports whether the server did what it was asked for.
func (k knock) tried() bool {
	return k.outcome != untried && k.outcome != declined && k.outcome != failed
}

func (k knock) blocked() bool { return k.reply() != ReplyUnknown }

func (k knock) reply() Reply {
	switch k.outcome {
	case refused, reset:
		return RST
	case unreachable:
		return ICMP
	case timeout:
		return Silence
	}
	return ReplyUnknown
}

// knocks are the filtering tests of traversal.md, each at a port of its own
// that has a listener and that spoke to nobody but the server.
type knocks struct {
	fresh knock // to a port that spoke to nobody, from the farthest endpoint there is
	addr  knock // to a live mapping, from the server's other address
	port  knock // to a live mapping, from the server's other port
}

// open reports whether anybody is let in, at least while there is a mapping.
func (k *knocks) open() bool { return k.fresh.reached() || k.addr.reached() }

// filtering judges the knocks and the holes. The note says what they leave
// open.
func (f *facts) filtering() (kind Filtering, note string) {
	kind, note = f.knocks.filtering()
	if kind != APDF || note != "" || !f.shut() {
		return kind, note
	}
	switch {
	case f.opens():
		return APDF, ""
	case f.refuses():
		return NoSYNIn, ""
	case len(f.holes) == 0:
		return APDF, "filtering APDF or no-syn-in: a SYN against a SYN was not tried"
	}
	return APDF, "filtering APDF or no-syn-in: an error came for every SYN that went out, and no SYN came in"
}

// filtering judges the knocks alone.
func (k *knocks) filtering() (f Filtering, note string) {
	switch {
	case k.fresh.reached():
		return Open, ""
	case k.addr.reached():
		return EIF, ""
	case k.port.reached() && k.addr.blocked():
		return ADF, ""
	case k.port.reached():
		return ADF, "filtering EIF or ADF: nothing came from another address"
	case k.port.blocked():
		// An address that may come in while its neighbour port may not: no
		// NAT does that, so the missing test changes nothing.
		return APDF, ""
	case k.addr.blocked():
		return APDF, "filtering ADF or APDF: the test from the other port failed"
	}
	return FilteringUnknown, ""
}

// unsolicited returns what a SYN got that was not let in, and after how many
// milliseconds. A live mapping says it best: that is what a peer meets.
func (k *knocks) unsolicited() (Reply, int) {
	for _, t := range []knock{k.addr, k.port, k.fresh} {
		if t.blocked() {
			return t.reply(), int(t.after.Milliseconds())
		}
	}
	return ReplyUnknown, 0
}
