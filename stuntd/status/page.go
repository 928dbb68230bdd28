package status

import (
	"bytes"
	"cmp"
	"embed"
	"fmt"
	"html/template"
	"net/http"
	"path"
	"slices"
	"time"

	"github.com/gostunt/stunt/rendezvous"
)

//go:embed assets
var assets embed.FS

var pageTemplate = template.Must(template.ParseFS(assets, "assets/page.html"))

// A view is all that the page shows.
type view struct {
	Version string
	Now     time.Time
	Facts   []Fact
	Tiles   []tile
	Charts  []chart
	Heat    heat
	Methods []methodRow
	Relay   []Fact
	Cluster clusterView
	Limits  []limitRow
	Peers   peersView
	Recent  []dialRow
}

// A tile is a number to be seen at a glance.
type tile struct{ Name, Value, Note string }

// page serves the page as it is at the moment. The script on it asks for it
// again and again; without script a browser that honours refresh does, less often.
func (b *Board) page(w http.ResponseWriter, r *http.Request) {
	var out bytes.Buffer // so that an error is one, and not half a page
	if err := pageTemplate.Execute(&out, b.look(time.Now(), r.URL.Query().Get("peer"))); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Write(out.Bytes())
}

// asset serves what the page is made of.
func asset(w http.ResponseWriter, r *http.Request) {
	switch name := r.PathValue("name"); name {
	case "page.css", "page.js", "icon.svg":
		w.Header().Set("Cache-Control", "no-cache")
		http.ServeFileFS(w, r, assets, path.Join("assets", name))
	default:
		http.NotFound(w, r)
	}
}

// look collects what there is to see. who is the peer that is asked for; empty
// is all.
func (b *Board) look(now time.Time, who string) *view {
	dials := b.recent.list()
	peers, some := b.peers(who)
	rows := peerRows(peers, dials, now)
	v := &view{
		Version: b.config.Version,
		Now:     now,
		Facts:   append([]Fact{{"Running for", since(now.Sub(b.began))}}, b.config.Facts...),
		Heat:    heatOf(b.pairs.all()),
		Methods: b.methodRows(dials),
		Relay:   b.relayFacts(),
		Cluster: clusterOf(b.config.Meet.Cluster()),
		Limits:  b.limitRows(),
		Peers:   peersView{Asked: who, Rows: rows, Some: some},
		Recent:  dialRows(dials, rows, now),
	}
	past := minutesOf(append(b.past.list(), b.now(now)), now)
	v.Charts = []chart{dialChart(past), relayChart(past), sessionChart(past)}
	v.Tiles = b.tiles(past)
	return v
}

func (b *Board) tiles(past []minute) []tile {
	st, port := b.config.Meet.Stats(), b.config.Port()
	var sum minute
	for _, m := range past {
		for r := range sum.dials {
			sum.dials[r] += m.dials[r]
		}
	}
	all := sum.dials[direct] + sum.dials[relayed] + sum.dials[failed]
	tiles := []tile{
		{"Sessions", count(int64(st.Sessions)), count(int64(st.Names)) + " names"},
		{"Dials", count(all), "in the last hour"},
		{"Direct", percent(sum.dials[direct], all), count(sum.dials[relayed]) + " relayed, " + count(sum.dials[failed]) + " failed"},
		{"Connections", count(int64(port.Conns)), "of " + count(int64(port.MaxConns)) + "; " + count(int64(port.HalfOpen)) + " half-open"},
	}
	memory := tile{"Memory", size(int64(port.Memory)), "no limit"}
	if port.MaxMemory > 0 {
		memory.Note = "of " + size(int64(port.MaxMemory))
	}
	if port.Refusing != "" {
		memory.Note = "refusing " + port.Refusing
	}
	tiles = append(tiles, memory)
	if b.config.Relay != nil {
		last := past[len(past)-1]
		tiles = append(tiles, tile{"Relay", size(last.bytes/60) + "/s", count(int64(b.config.Relay.Stats().Pairs)) + " pairs now"})
	}
	if t := b.config.Expiry(); !t.IsZero() {
		tiles = append(tiles, tile{"Certificate", since(time.Until(t)), "until " + t.UTC().Format(time.DateOnly)})
	}
	return tiles
}

func (b *Board) relayFacts() []Fact {
	if b.config.Relay == nil {
		return nil
	}
	st := b.config.Relay.Stats()
	facts := []Fact{
		{"Pairs now", count(int64(st.Pairs))},
		{"Pairs so far", count(st.Paired)},
		{"Carried so far", size(st.Bytes)},
		{"Streams that wait for their other end", count(int64(st.Waiting))},
	}
	for _, s := range refusalOrder {
		if n := st.Refused[s]; n > 0 {
			facts = append(facts, Fact{"Refused: " + refusals[s], count(n)})
		}
	}
	return facts
}

// clusterView is what the server knows of the others of its cluster.
type clusterView struct {
	Name         string // of this server; empty: it is alone
	Names, Known string
	Members      []memberRow
}

type memberRow struct{ Name, Relay, Delay, Lends string }

func clusterOf(st rendezvous.ClusterState) clusterView {
	v := clusterView{Name: st.Name, Names: count(int64(st.Names)), Known: count(int64(st.Known))}
	for _, m := range st.Members {
		row := memberRow{Name: m.Name, Relay: m.Relay}
		if m.Delay > 0 {
			row.Delay = fmt.Sprintf("%.1f ms", float64(m.Delay)/float64(time.Millisecond))
		}
		for i, a := range m.Lends {
			if i > 0 {
				row.Lends += ", "
			}
			row.Lends += a.String()
		}
		v.Members = append(v.Members, row)
	}
	slices.SortFunc(v.Members, func(a, b memberRow) int { return cmp.Compare(a.Name, b.Name) })
	return v
}

// A limitRow is a limit that somebody has met.
type limitRow struct{ Text, Name, Flag, Count string }

func (b *Board) limitRows() (rows []limitRow) {
	met := b.met()
	for _, l := range limits {
		if n := met[l.name]; n > 0 {
			rows = append(rows, limitRow{l.text, l.name, l.flag, count(n)})
		}
	}
	return rows
}
