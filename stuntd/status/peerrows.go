package status

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/gostunt/stunt/rendezvous"
)

// mostPeers is how many are on the page; a name finds the others.
const mostPeers = 200

// peersView is the table of peers.
type peersView struct {
	Asked string // for which peer
	Rows  []peerRow
	Some  bool // there are more
}

// A peerRow is a node with a session.
type peerRow struct {
	Names       string
	Fingerprint string
	NAT, Means  string // its class, in a word and in words
	Kind        string // as the node says
	Address     string
	Since       string
	Asks        bool
	Works       string // what came of its last dials, to it and from it
	Relayed     int
	Failed      int
}

// peers returns the one that is asked for, or all up to mostPeers.
func (b *Board) peers(who string) (list []rendezvous.Peer, some bool) {
	if who = strings.TrimSpace(who); who != "" {
		if p, ok := b.config.Meet.Peer(who); ok {
			return []rendezvous.Peer{p}, false
		}
		return nil, false
	}
	list = b.config.Meet.Peers(mostPeers + 1)
	return list[:min(len(list), mostPeers)], len(list) > mostPeers
}

func peerRows(peers []rendezvous.Peer, dials []dial, now time.Time) []peerRow {
	had := make(map[[32]byte]*met)
	for _, d := range dials {
		for _, k := range [][32]byte{d.caller, d.callee} {
			if had[k] == nil {
				had[k] = &met{by: make(map[string]int)}
			}
			had[k].add(d)
		}
	}
	rows := make([]peerRow, 0, len(peers))
	for _, p := range peers {
		c := classOf(p.Info.Kind)
		row := peerRow{
			Names: strings.Join(p.IDs, ", "), Fingerprint: rendezvous.Fingerprint(p.Key),
			NAT: c.String(), Means: c.text(), Kind: p.Info.Kind,
			Address: p.Observed.String(), Since: since(now.Sub(p.Since)), Asks: p.Info.Ask,
		}
		if m := had[key(p.Key)]; m != nil {
			row.Works, row.Relayed, row.Failed = m.String(), m.relayed, m.failed
		}
		rows = append(rows, row)
	}
	slices.SortFunc(rows, func(a, b peerRow) int {
		// Those without a name last; else in the order in which one would look.
		return cmp.Or(-cmp.Compare(min(1, len(a.Names)), min(1, len(b.Names))), cmp.Compare(a.Names, b.Names), cmp.Compare(a.Fingerprint, b.Fingerprint))
	})
	return rows
}

// met is what came of the dials of one node.
type met struct {
	by              map[string]int // direct ones, by method
	relayed, failed int
}

func (m *met) add(d dial) {
	switch d.result {
	case direct:
		m.by[d.method]++
	case relayed:
		m.relayed++
	case failed:
		m.failed++
	}
}

// String returns the direct methods, the most frequent first.
func (m *met) String() string {
	var names []string
	for name := range m.by {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(-cmp.Compare(m.by[a], m.by[b]), cmp.Compare(a, b)) })
	for i, name := range names {
		names[i] = name + " " + count(int64(m.by[name]))
	}
	return strings.Join(names, ", ")
}

// mostDials is how many of the last dials are on the page.
const mostDials = 25

// A dialRow is one of the last dials.
type dialRow struct {
	Ago               string
	From, To          endOfDial
	Result, How, Took string
}

type endOfDial struct{ Name, Key, NAT string }

// dialRows names the ends by what they are called now, if they are among peers.
func dialRows(dials []dial, peers []peerRow, now time.Time) []dialRow {
	called := make(map[string]string)
	for _, p := range peers {
		called[p.Fingerprint] = p.Names
	}
	end := func(k [32]byte, c class) endOfDial {
		fingerprint := rendezvous.Fingerprint(k[:])
		return endOfDial{called[fingerprint], fingerprint, c.String()}
	}
	var rows []dialRow
	for _, d := range dials[:min(len(dials), mostDials)] {
		rows = append(rows, dialRow{Ago: since(now.Sub(d.at)), From: end(d.caller, d.from), To: end(d.callee, d.to),
			Result: d.result.String(), How: d.method, Took: milliseconds(d.took)})
	}
	return rows
}

// A methodRow is a way in which dials connected.
type methodRow struct {
	Method, Result string
	Count, Share   string
	Median         string // of the last dials
}

func (b *Board) methodRows(dials []dial) (rows []methodRow) {
	took := make(map[string][]time.Duration)
	for _, d := range dials {
		took[d.method] = append(took[d.method], d.took)
	}
	counts := b.outcomes.all()
	var all int64
	for _, n := range counts {
		all += n
	}
	for _, m := range append(slices.Clone(methods), "") {
		e := ending{m, "ok"}
		if m == "" {
			e.result = "failed"
		}
		if counts[e] == 0 {
			continue
		}
		row := methodRow{Method: m, Result: resultOf(e).String(), Count: count(counts[e]), Share: percent(counts[e], all)}
		if ts := took[m]; len(ts) > 0 {
			slices.Sort(ts)
			row.Median = milliseconds(ts[len(ts)/2])
		}
		rows = append(rows, row)
	}
	return rows
}
