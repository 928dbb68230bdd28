package grid

import (
	"bytes"
	"cmp"
	"encoding/xml"
	"fmt"
	"io"

	"github.com/gostunt/stunt"
)

// Measures of the picture, in pixels.
const (
	svgCellW, svgCellH = 46, 30
	svgLeft, svgTop    = 136, 120 // of the cells: room for the names
	svgRight           = 88       // of the last slanted name
	svgLine            = 22       // of the legend and of the list below
	svgGap             = 2
)

// svgStyle has colours that hold on white and on black: the cells bring their
// own background, the rest follows the reader's scheme.
const svgStyle = `<style>
text{font:12px ui-sans-serif,system-ui,sans-serif;fill:#1f2328}
.in{font-size:11px;font-weight:600;fill:#fff;text-anchor:middle}
.sub{font-size:9px;font-weight:400}
.axis{fill:#656d76}
.direct{fill:#1f6feb}.local{fill:#0e7c86}.open{fill:#1a7f37}.foreseen{fill:#8250df}.part{fill:#9a6700}.relay{fill:#57606a}.none{fill:#a40e26}
@media (prefers-color-scheme:dark){text{fill:#e6edf3}.in{fill:#fff}.axis{fill:#9198a1}}
</style>
`

// legend is the meaning of the colours, which are classes of svgStyle.
var legend = []struct{ class, text string }{
	{"direct", "direct or reversed"}, {"local", "LAN or hairpin"}, {"open", "simultaneous open"},
	{"foreseen", "port predicted or guessed"}, {"part", "not every time"}, {"relay", "relay"}, {"none", "no path"},
}

// class returns the colour of a result: of a foreseen port where one was
// needed once, else of the most frequent method.
func (r *Result) class() string {
	switch {
	case r.OK() == 0:
		return "none"
	case r.OK() < len(r.Dials):
		return "part"
	}
	class := ""
	for _, m := range r.Methods() {
		switch m {
		case stunt.Direct, stunt.Reversed:
			class = cmp.Or(class, "direct")
		case stunt.LAN, stunt.Hairpin:
			class = cmp.Or(class, "local")
		case stunt.SimultaneousOpen:
			class = cmp.Or(class, "open")
		case stunt.Relayed:
			class = cmp.Or(class, "relay")
		default:
			return "foreseen"
		}
	}
	return class
}

// WriteSVG writes the table as a heat map: a cell's colour is the method, its
// numbers are the successes and the median time in round trips; what it says
// when pointed at has the interval. The pairs that share something are below it.
func (g *Grid) WriteSVG(w io.Writer) error {
	n := len(g.Config.Sides)
	width := max(svgLeft+n*(svgCellW+svgGap)+svgRight, 790)
	below := svgTop + n*(svgCellH+svgGap)
	shared := g.list("shared")
	height := below + svgLine*(len(shared)+4)

	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img">`+"\n", width, height, width, height)
	fmt.Fprintf(&b, "<title>Which NATs are crossed: %s</title>\n%s", text(g.conditions()), svgStyle)
	if n > 0 {
		g.svgTable(&b)
	}
	for i := range shared {
		r := shared[i].Shown()
		y := below + svgLine*i + svgLine/2
		fmt.Fprintf(&b, `<rect class="%s" x="8" y="%d" width="%d" height="18" rx="3"/><text class="in" x="%d" y="%d">%d/%d</text>`,
			r.class(), y, svgCellW, 8+svgCellW/2, y+13, r.OK(), len(r.Dials))
		fmt.Fprintf(&b, `<text x="%d" y="%d">%s: %s, %s round trips</text>`+"\n", 8+svgCellW+8, y+13, text(r.Case.String()), r.method(), r.trips())
	}
	svgLegend(&b, below+svgLine*len(shared)+svgLine)
	fmt.Fprintf(&b, `<text class="axis" x="8" y="%d">In a cell: how many dials worked; their median time in round trips. %s.</text>`, height-8-svgLine, text(g.allWorked()))
	fmt.Fprintf(&b, `<text class="axis" x="8" y="%d">%s</text>`+"\n</svg>\n", height-8, text(g.conditions()))
	_, err := w.Write(b.Bytes())
	return err
}

func (g *Grid) svgTable(b *bytes.Buffer) {
	fmt.Fprintf(b, `<text class="axis" x="8" y="%d">listener ↓ dialer →</text>`+"\n", svgTop-8)
	for i, s := range g.Config.Sides {
		x, y := svgLeft+i*(svgCellW+svgGap)+svgCellW/2, svgTop+i*(svgCellH+svgGap)+svgCellH/2
		fmt.Fprintf(b, `<text transform="translate(%d,%d) rotate(-45)">%s</text>`, x, svgTop-8, text(s.Name))
		fmt.Fprintf(b, `<text x="8" y="%d">%s</text>`+"\n", y+4, text(s.Name))
	}
	for i, row := range g.Cells {
		for j := range row {
			r := row[j].Shown()
			x, y := svgLeft+j*(svgCellW+svgGap), svgTop+i*(svgCellH+svgGap)
			fmt.Fprintf(b, `<g><title>%s: %s %d/%d, %s, %s SYNs</title><rect class="%s" x="%d" y="%d" width="%d" height="%d" rx="4"/>`,
				text(r.Case.String()), r.method(), r.OK(), len(r.Dials), between(r.OK(), len(r.Dials)), r.syns(), r.class(), x, y, svgCellW, svgCellH)
			fmt.Fprintf(b, `<text class="in" x="%d" y="%d">%d/%d</text><text class="in sub" x="%d" y="%d">%s</text></g>`+"\n",
				x+svgCellW/2, y+13, r.OK(), len(r.Dials), x+svgCellW/2, y+25, r.trips())
		}
	}
}

func svgLegend(b *bytes.Buffer, y int) {
	x := 8
	for _, l := range legend {
		fmt.Fprintf(b, `<rect class="%s" x="%d" y="%d" width="12" height="12" rx="2"/><text x="%d" y="%d">%s</text>`,
			l.class, x, y, x+17, y+10, l.text)
		x += 32 + 6*len(l.text)
	}
	fmt.Fprintln(b)
}

// text escapes what stands between tags.
func text(s string) string {
	var b bytes.Buffer
	xml.EscapeText(&b, []byte(s)) // a Buffer takes everything
	return b.String()
}
