package grid

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt"
)

// measured is a grid of two sides with every kind of result.
func measured(t *testing.T) *Grid {
	sides, err := Find("none", "eim-apdf")
	require.NoError(t, err)
	shared := List{"shared", "Both behind", []Case{{Name: "same LAN", About: "a < b | c"}}}
	g := newGrid(Config{Sides: sides, Lists: []List{shared, {"orders", "In the orders of others", Compared()[:4]}}, N: 2}.orDefault())
	worked := func(m stunt.Method, ms int) Dial {
		return Dial{Method: m, Took: time.Duration(ms) * time.Millisecond, SYNs: 2}
	}
	failed := Dial{SYNs: 5, Err: &stunt.DialError{Err: stunt.ErrNoPath, Help: "a <reason>"}}
	g.Cells[0][0].Dials = []Dial{worked(stunt.Direct, 200), worked(stunt.Direct, 300)}
	g.Cells[0][1].Dials = []Dial{failed, worked(stunt.SimultaneousOpen, 260)}
	g.Cells[1][0].Dials = []Dial{failed, failed}
	g.Cells[1][1].Dials = []Dial{failed, {SYNs: 1, Err: errors.New("another\nreason")}}
	g.Lists[0].Results[0].Dials = []Dial{worked(stunt.LAN, 100), worked(stunt.Hairpin, 100)}
	orders := g.Lists[1].Results
	orders[0].Dials = []Dial{worked(stunt.SimultaneousOpen, 150), worked(stunt.SimultaneousOpen, 150)}
	orders[1].Dials = []Dial{worked("one connect", 120), failed}
	orders[2].Dials = []Dial{worked("same again", 120), worked("same again", 120)}
	orders[3].Dials = []Dial{failed, failed}
	g.Took, g.Repeated = 61*time.Second, 3
	return g
}

func TestResult(t *testing.T) {
	g := measured(t)
	r := &g.Cells[0][0]
	require.Equal(t, 2, r.OK())
	require.InDelta(t, 2.5, r.Median(), 1e-9, "in round trips of 100 ms")
	require.InDelta(t, 2, r.SYNs(), 1e-9)
	require.Empty(t, r.Reason())
	r = &g.Cells[0][1]
	require.Equal(t, 1, r.OK())
	require.InDelta(t, 2.6, r.Median(), 1e-9, "of those that worked")
	require.InDelta(t, 3.5, r.SYNs(), 1e-9, "of all")
	require.Equal(t, "a <reason>", r.Reason())
	r = &g.Cells[1][0]
	require.Zero(t, r.Median())
	require.Empty(t, r.Methods())
	require.Equal(t, []stunt.Method{stunt.Hairpin, stunt.LAN}, g.Lists[0].Results[0].Methods(), "as often: by name")
}

const measuredText = `2 dials each, 100ms round trip between any two of the server and the outermost NATs, seed 0, in 1m1s; 3 labs run once more, as the machine stood still

listener  dialer    method   worked  95 %      trips  SYNs  reason
none      none      direct   2/2     34–100 %  2.5    2.0
none      eim-apdf  open     1/2     9–91 %    2.6    3.5  no path found; a <reason>
eim-apdf  none      no path  0/2     0–66 %    –      5.0  a <reason>
eim-apdf  eim-apdf  no path  0/2     0–66 %    –      3.0  a <reason>

both behind  method       worked  95 %      trips  SYNs  reason
same LAN     hairpin+lan  2/2     34–100 %  1.0    2.0

in the orders of others              method       worked  95 %      trips  SYNs  reason
eim-apdf from eim-apdf, stunt        open         2/2     34–100 %  2.5    2.0
eim-apdf from eim-apdf, one connect  one connect  1/2     9–91 %    2.0    3.5  no path found; a <reason>
eim-apdf from eim-apdf, same again   same again   2/2     34–100 %  2.0    2.0
eim-apdf from eim-apdf, STUNT-2      no path      0/2     0–66 %    –      5.0  a <reason>

target                                                               wanted  measured     95 %    met
one port for all on both sides, any filtering, any answer            all     0/2 (0.0 %)  0–66 %  no
… where both drop: within a server round trip and three to the peer  all     0/2 (0.0 %)  0–66 %  no
`

func TestWriteText(t *testing.T) {
	var b strings.Builder
	require.NoError(t, measured(t).WriteText(&b))
	require.Equal(t, measuredText, b.String())
}

const measuredSummary = "Measured by `stunt lab grid`: 2 dials each, 100ms round trip between any two of the server and the outermost NATs, seed 0, in 1m1s; 3 labs run once more, as the machine stood still.\n" + `
| target | wanted | measured | 95 % interval | met |
| --- | --- | --- | --- | --- |
| one port for all on both sides, any filtering, any answer | all | 0/2 (0.0 %) | 0–66 % | no |
| … where both drop: within a server round trip and three to the peer | all | 0/2 (0.0 %) | 0–66 % | no |

| 60ms, 5ms jitter, 1 % loss | stunt | one connect | same again | STUNT-2 |
| --- | --- | --- | --- | --- |
| eim-apdf from eim-apdf | 2/2, 2.5 | **1/2** (9–91 %), 2.0 | 2/2, 2.0 | **0/2** |
`

const measuredTable = `
In a cell: method, how many dials worked, and the interval of that chance where some did not; median time in round trips · SYNs of both ends per dial. 2/2 means a chance of 34–100 % (95 % confidence).

| listener ↓ dialer → | none | eim-apdf |
| --- | --- | --- |
| **none** | direct 2/2<br>2.5 · 2.0 | open **1/2** (9–91 %) <sup>a</sup><br>2.6 · 3.5 |
| **eim-apdf** | — <sup>a</sup> | — <sup>a</sup> |

| both behind | method | worked | round trips | SYNs |
| --- | --- | --- | --- | --- |
| **same LAN**: a &lt; b \| c | hairpin+lan | 2/2 (34–100 %) | 1.0 | 2.0 |

- a: a &lt;reason>
`

func TestInsert(t *testing.T) {
	g := measured(t)
	doc, err := g.Insert([]byte("before\n<!-- grid -->\nold\n<!-- /grid -->\nafter\n"))
	require.NoError(t, err)
	summary, rest, found := strings.Cut(string(doc), "\nHow many dials worked")
	require.True(t, found)
	require.Equal(t, "before\n<!-- grid -->\n\n"+measuredSummary, summary)
	require.Contains(t, rest, "\n- **STUNT-2**: ", "each order is explained")
	_, table, _ := strings.Cut(rest, "XSTUNT does\n")
	require.Equal(t, measuredTable+"\n<!-- /grid -->\nafter\n", table)
	again, err := g.Insert(doc)
	require.NoError(t, err)
	require.Equal(t, string(doc), string(again))

	doc, err = g.Insert([]byte("<!-- grid summary --><!-- /grid summary -->"))
	require.NoError(t, err)
	require.Contains(t, string(doc), measuredSummary)
	require.NotContains(t, string(doc), "In a cell", "the whole is elsewhere")
	for _, bad := range []string{"", "<!-- grid -->", "<!-- /grid --> <!-- grid -->", "<!-- grid summary -->"} {
		_, err := g.Insert([]byte(bad))
		require.Error(t, err, "%q has no place for the table", bad)
	}
}

func TestFootnotes(t *testing.T) {
	var notes footnotes
	other := &Result{Dials: []Dial{{Err: errors.New("other")}}}
	require.Empty(t, notes.mark(&Result{Dials: []Dial{{}}}), "nothing failed")
	require.Contains(t, notes.mark(&Result{Dials: []Dial{{Err: errors.New("one")}}}), ">a<")
	require.Contains(t, notes.mark(other), ">b<")
	require.Contains(t, notes.mark(other), ">b<", "the same reason has the same letter")
	require.Equal(t, "z", letter(25))
	require.Equal(t, "a1", letter(26))
}

func TestWriteSVG(t *testing.T) {
	var b bytes.Buffer
	require.NoError(t, measured(t).WriteSVG(&b))
	for _, s := range []string{`class="direct"`, `class="part"`, `class="none"`, `class="local"`, "prefers-color-scheme"} {
		require.Contains(t, b.String(), s)
	}
	d := xml.NewDecoder(&b)
	for {
		_, err := d.Token()
		if err == io.EOF {
			break
		}
		require.NoError(t, err, "the picture is well-formed")
	}
}

func TestInterval(t *testing.T) {
	for _, c := range []struct {
		k, n   int
		lo, hi float64
	}{{20, 20, 0.839, 1}, {0, 20, 0, 0.161}, {19, 20, 0.764, 0.991}, {980, 1000, 0.969, 0.987}, {0, 0, 0, 1}} { // published tables of Wilson's
		lo, hi := interval(c.k, c.n)
		require.InDelta(t, c.lo, lo, 6e-4, "%d of %d", c.k, c.n)
		require.InDelta(t, c.hi, hi, 6e-4, "%d of %d", c.k, c.n)
	}
	require.Equal(t, "99.9", percent(9999, 10000), "that is not all")
}

func TestVerdicts(t *testing.T) {
	sides, err := Find("eim-apdf", "eim-rst", "apdm-delta1", "apdm-random", "no-syn-in")
	require.NoError(t, err)
	g := newGrid(Config{Sides: sides, Lists: []List{}}.orDefault())
	slow := Dial{Took: 450 * time.Millisecond, SYNs: 2}
	late := &stunt.DialError{Err: stunt.ErrNoPath, Help: "both NATs refuse SYNs"}
	for i, row := range g.Cells {
		for j := range row {
			row[j].Dials = []Dial{{Took: 250 * time.Millisecond, SYNs: 2}, slow}
			if i == 4 && j == 4 {
				row[j].Dials = []Dial{{Took: time.Second, Err: late}, {Took: 4 * time.Second, Err: late}, {Err: stunt.ErrNoPath}}
			}
		}
	}
	g.Cells[3][0].Dials = []Dial{{Took: time.Second, SYNs: 1501}}
	got := map[string]string{}
	for _, v := range g.Verdicts() {
		got[v.Claim] = v.measured() + " " + v.met()
	}
	require.Equal(t, map[string]string{
		"one port for all on both sides, any filtering, any answer":            "8/8 (100 %) yes",
		"… where both drop: within a server round trip and three to the peer":  "1/2 (50.0 %) no",
		"a counter against one port for all, or a counter":                     "10/10 (100 %) yes",
		"random ports against one for all: in 2s and 4 round trips, 1500 SYNs": "6/7 (85.7 %) no",
		"both refuse SYNs: no path, and why, within 3s":                        "1/3 (33.3 %) no",
		"both random over all ports: no path, and why, within 3s":              "0/2 (0.0 %) no",
	}, got)
	for _, target := range Targets() {
		found := false
		for _, l := range Core() {
			for _, d := range Core() {
				found = found || target.cells(l.Name, d.Name)
			}
		}
		require.True(t, found, "the table has cells for: %s", target.Claim)
	}
}
