package punch

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"time"

	"github.com/gostunt/stunt/predict"
	"github.com/gostunt/stunt/probe"
)

// numbering is what can be said of the public port of an end's next mapping.
type numbering uint8

const (
	known      numbering = iota // the one that the server saw
	sequential                  // a few steps after the last that the server saw
	scattered                   // anywhere in a block
)

func (s Side) numbering() numbering {
	switch {
	case !perDestination(s.Report):
		return known // or nothing is known: then the plain thing is tried
	case s.Report.Delta != 0:
		return sequential
	}
	return scattered
}

const (
	// paceOfSYNs is what a budget lets through in a second by default; a plan
	// that waits for the other's SYNs to be out reckons with it.
	paceOfSYNs = 1500
	// sampleAge is how old the sample of a counter is when the SYNs leave: the
	// dialer's has been to the listener and back through the server.
	sampleAge, sampleAgeDialer = 300 * time.Millisecond, 600 * time.Millisecond
	// mostSweep bounds the dials of a sweep: what two counters need of which
	// each gives other hosts 20 ports a second.
	mostSweep = 256
	// driftSpan is how long a probe watches a counter for other hosts' traffic:
	// none seen in that time is not none at all.
	driftSpan = 2 * time.Second
	// firstWindow is how much of a counter's likely ports are tried at once;
	// the rest follows after a moment, because in a quiet network the first few
	// do, and a firewall may count.
	firstWindow, secondWave = 0.9, 250 * time.Millisecond
	// maxPool bounds the addresses of a pool: of more than four there is little
	// hope, and they need not be the peer's.
	maxPool = 4
	// fewPorts is how many ports are worth the mappings that a guess needs for
	// each of them: a dial takes 1,024 sockets at most.
	fewPorts = 4
)

// hard returns the attempts for ends of which at least one has a NAT that maps
// per destination. As a table of the two ends' numberings:
//
//	ours        theirs       what we do
//	known       sequential   a window of their likely next ports, in two waves
//	known       scattered    a SYN each to many ports of their block
//	sequential  known        from two more ports: each has its chance in the window
//	scattered   known        from many ports: the more mappings, the sooner one is guessed
//	sequential  sequential   two sweeps that meet (see predict.Meet)
//	per address scattered    a SYN each to many ports of their block: all leave from one port
//	scattered   per address  from many ports, to each of the few that it is likely to be
//	others                   a SYN each to many ports of their block, if that has a tenth of a chance
//
// "per address" is sequential with one port for all that goes to an address, so
// that it is as good as known when it is foreseen.
//
// What the plain plan tries beside it stays: it opens the filter of a NAT that
// looks at addresses only, and reaches an end that is open to all.
func (m Meeting) hard(lead time.Duration) []Attempt {
	mine, theirs := m.Mine.numbering(), m.Theirs.numbering()
	switch {
	case mine == known && theirs == known:
		return nil
	case m.Mine.OpenToAll(), m.Theirs.OpenToAll():
		return nil // one connects, the other need not be predicted
	case theirs == known:
		return m.fromMany(lead)
	case mine == known && theirs == sequential:
		return m.window(lead)
	case mine == known:
		return m.guess(lead)
	case mine == sequential && theirs == sequential:
		return m.meet(lead)
	case theirs == scattered && m.Mine.perAddress():
		return m.guess(lead)
	case mine == scattered && m.Theirs.perAddress():
		return m.fromManyToFew(lead)
	}
	return m.guessBoth(lead)
}

// window aims at the ports that the other end's counter is likely to give next.
func (m Meeting) window(lead time.Duration) []Attempt {
	last, ok := m.Theirs.last()
	if !ok {
		return nil
	}
	model, age := m.Theirs.model(last), m.age(!m.Dialer)
	first := model.Window(0, age, firstWindow)
	var rest []uint16
	for _, r := range model.Rank(0, age+secondWave, few) {
		if !slices.Contains(first, r.Port) {
			rest = append(rest, r.Port)
		}
	}
	var plan []Attempt
	for _, ip := range m.Theirs.addresses() {
		to := netip.AddrPortFrom(ip, last)
		plan = append(plan, Attempt{To: to, Method: Predicted, Start: lead, Ports: first})
		if len(rest) > 0 {
			plan = append(plan, Attempt{To: to, Method: Predicted, Start: lead + secondWave, Ports: rest})
		}
	}
	return plan
}

// fromMany gives the other end, whose port we know, more mappings to hit.
func (m Meeting) fromMany(lead time.Duration) []Attempt {
	n, method := 2, Predicted
	if m.Mine.numbering() == scattered {
		g, ok := predict.SizeOneSided(m.Mine.space(), predict.Wanted, predict.Budget{})
		if !ok {
			return nil
		}
		n, method = g.Sockets, Guessed
		if lead > 0 {
			// The other NAT answers RST to what it does not expect: its side's
			// SYNs must all be out before ours come.
			lead += time.Duration(g.SYNs) * time.Second / paceOfSYNs
		}
	}
	var plan []Attempt
	for _, c := range m.Theirs.Candidates {
		if c.Kind == Public && c.Addr.Addr().Is4() && m.Theirs.near(c.Addr.Addr()) {
			plan = append(plan, Attempt{To: c.Addr, Method: method, Start: lead, Fresh: n})
		}
	}
	return plan
}

// fromManyToFew is fromMany where the other end's one port is one of a few.
func (m Meeting) fromManyToFew(lead time.Duration) []Attempt {
	last, ok := m.Theirs.last()
	g, worth := predict.SizeOneSided(m.Mine.space(), predict.Wanted, predict.Budget{})
	if !ok || !worth {
		return nil
	}
	ports := m.Theirs.model(last).Window(0, m.age(!m.Dialer), firstWindow)
	var plan []Attempt
	for _, ip := range m.Theirs.addresses() {
		for _, port := range ports[:min(len(ports), fewPorts)] {
			plan = append(plan, Attempt{To: netip.AddrPortFrom(ip, port), Method: Guessed, Start: lead, Fresh: g.Sockets})
		}
	}
	return plan
}

// guess aims at many ports of the other end's block.
func (m Meeting) guess(lead time.Duration) []Attempt {
	g, ok := predict.SizeOneSided(m.Theirs.space(), predict.Wanted, predict.Budget{})
	if !ok {
		return nil
	}
	return m.scatter(lead, g.SYNs, 0)
}

// guessBoth is guess where our own port is not known either: then every SYN is
// a mapping of ours as well, and a pair of them must meet.
func (m Meeting) guessBoth(lead time.Duration) []Attempt {
	g, ok := predict.SizeTwoSided(m.Mine.space(), m.Theirs.space(), predict.Wanted, predict.Budget{})
	if !ok {
		return nil
	}
	return m.scatter(lead, g.SYNs, g.Sockets-1)
}

// scatter aims n SYNs at random ports of the other end, from the punching port
// and, when that has tried them all, from more.
func (m Meeting) scatter(lead time.Duration, n, more int) []Attempt {
	ips := m.Theirs.addresses()
	if len(ips) == 0 {
		return nil
	}
	lo, hi := m.Theirs.block()
	seed := binary.BigEndian.Uint64(m.ID[:])
	if m.Dialer {
		seed++ // or both would draw the same ports
	}
	var plan []Attempt
	for i, ip := range ips {
		ports := predict.Scatter(seed+uint64(i)<<8, lo, hi, n/len(ips))
		a := Attempt{To: netip.AddrPortFrom(ip, lo), Method: Guessed, Start: lead, Ports: ports}
		plan = append(plan, a)
		if rest := n/len(ips) - len(ports); more > 0 && rest > 0 {
			a.Fresh, a.Ports = 1, predict.Scatter(seed+uint64(i)<<8+1, lo, hi, rest)
			plan = append(plan, a)
		}
	}
	return plan
}

// meet sweeps over the other end's next ports while it sweeps over ours.
func (m Meeting) meet(lead time.Duration) []Attempt {
	myLast, ok1 := m.Mine.last()
	theirLast, ok2 := m.Theirs.last()
	if !ok1 || !ok2 {
		return nil
	}
	sweep := func(myAge, theirAge time.Duration) (predict.Sweep, bool) {
		pace := predict.Pace{Between: time.Second / paceOfSYNs, Most: mostSweep}
		mine, theirs := m.Mine.counter(myLast, myAge), m.Theirs.counter(theirLast, theirAge)
		if m.Dialer {
			s, _, ok := predict.Meet(mine, theirs, predict.Wanted, pace)
			return s, ok
		}
		_, s, ok := predict.Meet(theirs, mine, predict.Wanted, pace)
		return s, ok
	}
	// How old the samples really are depends on round trips that nobody here
	// knows: begin where a fresh one would have it, and go on as far as an old
	// one may, with what was skipped for it once more.
	fresh, ok1 := sweep(0, 0)
	old, ok2 := sweep(m.age(m.Dialer), m.age(!m.Dialer))
	if !ok1 || !ok2 {
		return nil
	}
	ports := fresh.Target.Sweep(min(2*old.Count, mostSweep), fresh.Stride)
	var plan []Attempt
	for _, ip := range m.Theirs.addresses() {
		plan = append(plan, Attempt{To: netip.AddrPortFrom(ip, theirLast), Method: Predicted, Start: lead, Ports: ports})
	}
	return plan
}

// age returns how old the sample of an end is.
func (m Meeting) age(dialer bool) time.Duration {
	if dialer {
		return sampleAgeDialer
	}
	return sampleAge
}

// last returns the port that an end's newest mapping got.
func (s Side) last() (uint16, bool) {
	i := slices.IndexFunc(s.Candidates, func(c Candidate) bool { return c.Kind == Sample })
	if i < 0 {
		return 0, false
	}
	return s.Candidates[i].Addr.Port(), true
}

// model is the end's NAT as package predict sees it.
func (s Side) model(last uint16) predict.Model {
	r := s.Report
	return predict.Model{Kind: predict.Sequential, Delta: r.Delta, Lo: r.Ports.Lo, Hi: r.Ports.Hi, Drift: r.Ports.Drift, Span: driftSpan,
		Last: last, Samples: r.Samples, Confidence: r.Ports.Confidence}
}

func (s Side) counter(last uint16, age time.Duration) predict.Side {
	return predict.Side{Model: s.model(last), Elapsed: age, Shared: s.perAddress()}
}

// perAddress reports whether an end's NAT counts, and has one port for all
// that goes to an address.
func (s Side) perAddress() bool { return s.numbering() == sequential && s.Report.Mapping == probe.ADM }

// block is where the end's NAT draws its ports from.
func (s Side) block() (lo, hi uint16) {
	if r := s.Report; r != nil && r.Ports.Lo > 0 {
		return r.Ports.Lo, r.Ports.Hi
	}
	return 1024, 65535
}

// space is the block of every address that a mapping may get. That ports are
// shared by mappings to different destinations, as carriers' NATs do to make a
// small block go round, is taken as given: where they are not, a guess on both
// sides succeeds less often than it promises.
func (s Side) space() predict.Space {
	lo, hi := s.block()
	return predict.Space{Ports: (int(hi) - int(lo) + 1) * max(len(s.addresses()), 1), Overload: true}
}

// addresses lists the public IPv4 addresses of an end: several where its NAT
// has a pool and gives them out at random. Only those are listed that its server
// has seen, or that are in one pool with it: hundreds of SYNs go there.
func (s Side) addresses() []netip.Addr {
	var ips []netip.Addr
	add := func(ip netip.Addr) {
		if ip.Is4() && s.near(ip) && !slices.Contains(ips, ip) && len(ips) < maxPool {
			ips = append(ips, ip)
		}
	}
	for _, c := range s.Candidates {
		if c.Kind == Public {
			add(c.Addr.Addr())
		}
	}
	if r := s.Report; r != nil && r.Ports.Pooling == probe.Arbitrary {
		for _, ip := range r.Public {
			add(ip)
		}
	}
	return ips
}

// OpenToAll reports whether anybody's SYN gets in to an end's known port over
// IPv4.
func (s Side) OpenToAll() bool {
	if slices.ContainsFunc(s.Candidates, func(c Candidate) bool { return c.Kind == Mapped && c.Addr.Addr().Is4() }) {
		return true
	}
	r := s.Report
	return r != nil && !perDestination(r) && (r.Mapping == probe.NoNAT && r.Filtering == probe.FilteringUnknown ||
		r.Filtering == probe.Open || r.Filtering == probe.EIF)
}
