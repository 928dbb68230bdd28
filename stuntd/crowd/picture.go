package crowd

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"time"
)

// Measures of the picture, in pixels.
const (
	pictureGap                  = 56 // between two charts, and on the left: room for the numbers of an axis
	pictureRight                = 16
	chartWidth, chartHeight     = 220, 150
	chartTop                    = 58 // room for its name and unit
	chartBelow                  = 62 // room for the sizes, and the text under all
	pictureHeight               = chartTop + chartHeight + chartBelow
	chartSteps              int = 4 // of an axis, at most
)

// pictureStyle has a second set of colours for readers who have it dark.
const pictureStyle = `<style>
text{font:12px ui-sans-serif,system-ui,sans-serif;fill:#1f2328}
.name{font-weight:600}
.axis{fill:#656d76;font-size:11px}.right{text-anchor:end}.middle{text-anchor:middle}
path{fill:none;stroke-width:2;stroke-linejoin:round}
.grid{stroke:#d1d9e0;stroke-width:1}.aim{stroke:#656d76;stroke-width:1;stroke-dasharray:4 3}
path.first{stroke:#0969da}circle.first,text.first{fill:#0969da}
path.second{stroke:#9a6700}circle.second,text.second{fill:#9a6700}
@media (prefers-color-scheme:dark){text{fill:#e6edf3}.axis{fill:#9198a1}.grid{stroke:#3d444d}.aim{stroke:#9198a1}
path.first{stroke:#4493f8}circle.first,text.first{fill:#4493f8}
path.second{stroke:#d29922}circle.second,text.second{fill:#d29922}}
</style>
`

// A chart is one cost against the number of nodes.
type chart struct {
	name, unit string
	format     string // of a value
	aim        float64
	lines      []curve
}

// A curve has a value for each size. Its class is a colour of pictureStyle.
type curve struct {
	class, name string
	values      []float64
}

// charts are what the picture shows.
func (r *Result) charts() []chart {
	of := func(value func(Row) float64) (values []float64) {
		for _, row := range r.Rows {
			values = append(values, value(row))
		}
		return values
	}
	micros := func(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
	return []chart{
		{name: "Memory of a node", unit: "KiB", format: "%.1f", aim: memoryAim, lines: []curve{
			{"first", "the process", of(r.resident)},
			{"second", "the kernel", of(Row.kernel)}}},
		{name: "Processor time of a registration", unit: "µs", format: "%.0f", lines: []curve{
			{"first", "", of(func(row Row) float64 { return micros(row.Handshake) })}}},
		{name: "The server's part of a dial", unit: "µs", format: "%.0f", lines: []curve{
			{"first", "the slowest of 100", of(func(row Row) float64 { return micros(row.Part.P99) })},
			{"second", "the median", of(func(row Row) float64 { return micros(row.Part.P50) })}}},
	}
}

// WriteSVG writes a picture of what a node costs, for each number of them.
func (r *Result) WriteSVG(w io.Writer) error {
	all := r.charts()
	width := len(all)*(pictureGap+chartWidth) + pictureRight
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img">`+"\n", width, pictureHeight, width, pictureHeight)
	fmt.Fprintf(&b, "<title>What a node costs a server, against the number of nodes</title>\n%s", pictureStyle)
	for i, c := range all {
		fmt.Fprintf(&b, `<g transform="translate(%d,%d)">`+"\n", pictureGap+i*(pictureGap+chartWidth), chartTop)
		c.draw(&b, r.Rows)
		fmt.Fprintln(&b, "</g>")
	}
	fmt.Fprintf(&b, `<text class="axis" x="%d" y="%d">Against the number of nodes, on a logarithmic axis. %s</text>`+"\n</svg>\n",
		pictureGap, pictureHeight-8, r.Conditions)
	_, err := w.Write(b.Bytes())
	return err
}

// draw draws a chart, whose top left corner is at the origin.
func (c *chart) draw(b *bytes.Buffer, rows []Row) {
	fmt.Fprintf(b, `<text class="name" y="-40">%s, %s</text>`+"\n", c.name, c.unit)
	top := c.aim
	for _, l := range c.lines {
		top = max(top, slices.Max(append(l.values, 0)))
	}
	step := axisStep(top)
	top = max(math.Ceil(top/step), 1) * step
	y := func(v float64) float64 { return chartHeight * (1 - v/top) }
	for v := 0.0; v < top+step/2; v += step {
		fmt.Fprintf(b, `<path class="grid" d="M0 %.1fH%d"/><text class="axis right" x="-6" y="%.1f">%s</text>`+"\n",
			y(v), chartWidth, y(v)+4, fmt.Sprintf("%.4g", v))
	}
	if c.aim > 0 {
		fmt.Fprintf(b, `<path class="aim" d="M0 %.1fH%d"/><text class="axis" x="4" y="%.1f">aim: %g</text>`+"\n",
			y(c.aim), chartWidth, y(c.aim)+13, c.aim)
	}
	x := sizeAxis(rows)
	for _, row := range rows {
		fmt.Fprintf(b, `<text class="axis middle" x="%.1f" y="%d">%s</text>`+"\n", x(row.Nodes), chartHeight+16, thousands(row.Nodes))
	}
	for i, l := range c.lines {
		if l.name != "" {
			fmt.Fprintf(b, `<circle class="%s" cx="4" cy="%d" r="4"/><text class="axis" x="12" y="%d">%s</text>`+"\n", l.class, -26+14*i, -22+14*i, l.name)
		}
		l.draw(b, rows, func(i int) (float64, float64) { return x(rows[i].Nodes), y(l.values[i]) }, c.format+" "+c.unit)
		if last := len(l.values) - 1; last >= 0 {
			above := y(l.values[last]) - 8
			if c.aim > 0 && math.Abs(above-4-y(c.aim)) < 12 { // where it would be struck through
				above += 26
			}
			fmt.Fprintf(b, `<text class="%s right" x="%.1f" y="%.1f">%s</text>`+"\n", l.class, x(rows[last].Nodes), above, fmt.Sprintf(c.format+" "+c.unit, l.values[last]))
		}
	}
}

// draw draws a line through the points, each of which says its value when pointed
// at.
func (l *curve) draw(b *bytes.Buffer, rows []Row, at func(int) (x, y float64), format string) {
	var line, points bytes.Buffer
	for i, v := range l.values {
		x, y := at(i)
		fmt.Fprintf(&line, "%c%.1f %.1f", "ML"[min(i, 1)], x, y)
		fmt.Fprintf(&points, `<circle class="%s" cx="%.1f" cy="%.1f" r="3.5"><title>%d nodes: %s</title></circle>`+"\n", l.class, x, y, rows[i].Nodes, fmt.Sprintf(format, v))
	}
	if len(l.values) == 0 {
		return
	}
	fmt.Fprintf(b, `<path class="%s" d="%s"/>`+"\n%s", l.class, &line, &points)
}

// sizeAxis says where on the axis a number of nodes is: the same factor is the
// same way everywhere.
func sizeAxis(rows []Row) func(nodes int) float64 {
	if len(rows) < 2 {
		return func(int) float64 { return chartWidth / 2 }
	}
	const margin = 14 // of the first and the last
	least, most := math.Log(float64(rows[0].Nodes)), math.Log(float64(rows[len(rows)-1].Nodes))
	return func(nodes int) float64 {
		return margin + (chartWidth-2*margin)*(math.Log(float64(nodes))-least)/(most-least)
	}
}

// axisStep is the smallest of 1, 2, 5, 10, 20… and their tenths that reaches top in
// chartSteps.
func axisStep(top float64) float64 {
	for unit := 0.1; ; unit *= 10 {
		for _, step := range []float64{unit, 2 * unit, 5 * unit} {
			if step*float64(chartSteps) >= top {
				return step
			}
		}
	}
}

// thousands is a number of nodes, short.
func thousands(n int) string {
	if n < 1000 {
		return strconv.Itoa(n)
	}
	return strconv.FormatFloat(float64(n)/1000, 'f', -1, 64) + "k"
}
