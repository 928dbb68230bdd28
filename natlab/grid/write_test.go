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
	g := newGrid(Config{Sides: sides, Shared: []Case{{Name: "same LAN", About: "a < b | c"}}, N: 2}.orDefault())
	worked := func(m stunt.Method, ms int) Dial {
		return Dial{Method: m, Took: time.Duration(ms) * time.Millisecond, SYNs: 2}
	}
	failed := Dial{SYNs: 5, Err: &stunt.DialError{Err: stunt.ErrNoPath, Help: "a <reason>"}}
	g.Cells[0][0].Dials = []Dial{worked(stunt.Direct, 200), worked(stunt.Direct, 300)}
	g.Cells[0][1].Dials = []Dial{failed, worked(stunt.SimultaneousOpen, 260)}
	g.Cells[1][0].Dials = []Dial{failed, failed}
	g.Cells[1][1].Dials = []Dial{failed, {SYNs: 1, Err: errors.New("another\nreason")}}
	g.Shared[0].Dials = []Dial{worked(stunt.LAN, 100), worked(stunt.Hairpin, 100)}
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
	require.Equal(t, []stunt.Method{stunt.Hairpin, stunt.LAN}, g.Shared[0].Methods(), "as often: by name")
}

func TestWriteText(t *testing.T) {
	var b strings.Builder
	require.NoError(t, measured(t).WriteText(&b))
	require.Equal(t, `2 dials each, 100ms round trip between any two of the server and the outermost NATs, seed 0

listener  dialer    method       worked  trips  SYNs  reason
none      none      direct       2/2     2.5    2.0
none      eim-apdf  open         1/2     2.6    3.5  no path found; a <reason>
eim-apdf  none      no path      0/2     –      5.0  a <reason>
eim-apdf  eim-apdf  no path      0/2     –      3.0  a <reason>
same LAN            hairpin+lan  2/2     1.0    2.0
`, b.String())
}

func TestInsert(t *testing.T) {
	g := measured(t)
	doc, err := g.Insert([]byte("before\n<!-- grid -->\nold\n<!-- /grid -->\nafter\n"))
	require.NoError(t, err)
	require.Equal(t, "before\n<!-- grid -->\n\n"+
		"Measured by `stunt lab grid`: 2 dials each, 100ms round trip between any two of the server and the outermost NATs, seed 0. In a cell: method, how many dials worked; median time in round trips · SYNs of both ends per dial.\n"+`
| listener ↓ dialer → | none | eim-apdf |
| --- | --- | --- |
| **none** | direct 2/2<br>2.5 · 2.0 | open **1/2** <sup>a</sup><br>2.6 · 3.5 |
| **eim-apdf** | — <sup>a</sup> | — <sup>a</sup> |

| both behind | method | worked | round trips | SYNs |
| --- | --- | --- | --- | --- |
| **same LAN**: a &lt; b \| c | hairpin+lan | 2/2 | 1.0 | 2.0 |

- a: a &lt;reason>

<!-- /grid -->
after
`, string(doc))
	again, err := g.Insert(doc)
	require.NoError(t, err)
	require.Equal(t, string(doc), string(again))
	for _, bad := range []string{"", "<!-- grid -->", "<!-- /grid --> <!-- grid -->"} {
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
