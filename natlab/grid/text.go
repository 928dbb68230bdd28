package grid

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/gostunt/stunt"
)

// short are the words of the tables for methods with long names.
var short = map[stunt.Method]string{"simultaneous-open": "open", "predicted-port": "predicted", "guessed-port": "guessed"}

// method returns the methods of a result in short words, or "no path".
func (r *Result) method() string {
	var words []string
	for _, m := range r.Methods() {
		w := short[m]
		if w == "" {
			w = string(m)
		}
		words = append(words, w)
	}
	if words == nil {
		return "no path"
	}
	return strings.Join(words, "+")
}

// trips returns the median in words.
func (r *Result) trips() string {
	if m := r.Median(); m > 0 {
		return fmt.Sprintf("%.1f", m)
	}
	return "–"
}

// syns returns the SYNs per dial in words.
func (r *Result) syns() string {
	if n := r.SYNs(); n < 10 {
		return fmt.Sprintf("%.1f", n)
	}
	return fmt.Sprintf("%.0f", r.SYNs())
}

// conditions says in words what the numbers hold for.
func (g *Grid) conditions() string {
	c := g.Config
	s := fmt.Sprintf("%d dials each, %v round trip between any two of the server and the outermost NATs, ", c.N, c.RTT)
	if c.Jitter > 0 {
		s += fmt.Sprintf("up to %v jitter on each of three links, ", c.Jitter)
	}
	if c.Loss > 0 {
		s += fmt.Sprintf("%g %% loss on each, ", c.Loss*100)
	}
	return s + fmt.Sprintf("seed %d", c.Seed)
}

// WriteText writes one line per pair, with columns that a program can split
// at two spaces: listener, dialer, method, successes of dials, median time in
// round trips, SYNs per dial, and the reason where one failed.
func (g *Grid) WriteText(w io.Writer) error {
	fmt.Fprintf(w, "%s\n\n", g.conditions())
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "listener\tdialer\tmethod\tworked\ttrips\tSYNs\treason")
	for _, row := range g.Cells {
		for i := range row {
			r := &row[i]
			fmt.Fprintf(t, "%s\t%s\t%s\n", r.Case.Listener, r.Case.Dialer, r.columns())
		}
	}
	for i := range g.Shared {
		r := &g.Shared[i]
		fmt.Fprintf(t, "%s\t\t%s\n", r.Case.Name, r.columns())
	}
	return t.Flush()
}

func (r *Result) columns() string {
	s := fmt.Sprintf("%s\t%d/%d\t%s\t%s", r.method(), r.OK(), len(r.Dials), r.trips(), r.syns())
	if reason := r.Reason(); r.OK() == 0 {
		s += "\t" + reason
	} else if reason != "" {
		s += "\t" + r.failure().Error() // others worked: how this one ended says more
	}
	return s
}
