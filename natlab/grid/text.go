package grid

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

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
	s += fmt.Sprintf("seed %d", c.Seed)
	if g.Took > 0 {
		s += fmt.Sprintf(", in %v", g.Took.Round(time.Second))
	}
	if g.Repeated > 0 {
		s += fmt.Sprintf("; %d labs run once more, as the machine stood still", g.Repeated)
	}
	return s
}

// allWorked says what a cell without a failure means.
func (g *Grid) allWorked() string {
	return fmt.Sprintf("%d/%d means a chance of %s (95 %% confidence)", g.Config.N, g.Config.N, between(g.Config.N, g.Config.N))
}

// rate returns the successes of all dials with their interval.
func (r *Result) rate() string {
	return fmt.Sprintf("%d/%d\t%s", r.OK(), len(r.Dials), between(r.OK(), len(r.Dials)))
}

// WriteText writes one line per pair, with columns that a program can split
// at two spaces: listener, dialer, method, successes of dials, the interval
// that the chance of one is in with 95 % confidence, median time in round
// trips, SYNs per dial, and the reason where one failed or took the relay. The lists follow, with
// a name instead of the two sides, and the targets.
func (g *Grid) WriteText(w io.Writer) error {
	fmt.Fprintf(w, "%s\n", g.conditions())
	const columns = "method\tworked\t95 %\ttrips\tSYNs\treason"
	if len(g.Cells) > 0 {
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, "\nlistener\tdialer\t"+columns)
		for _, row := range g.Cells {
			for i := range row {
				r := row[i].Shown()
				fmt.Fprintf(t, "%s\t%s\t%s\n", r.Case.Listener, r.Case.Dialer, r.columns())
			}
		}
		if err := t.Flush(); err != nil {
			return err
		}
	}
	for _, l := range g.Lists {
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintf(t, "\n%s\t%s\n", strings.ToLower(l.List.Title), columns)
		for i := range l.Results {
			r := l.Results[i].Shown()
			fmt.Fprintf(t, "%s\t%s\n", r.Case, r.columns())
		}
		if err := t.Flush(); err != nil {
			return err
		}
	}
	return g.writeVerdicts(w)
}

func (g *Grid) writeVerdicts(w io.Writer) error {
	vs := g.Verdicts()
	if len(vs) == 0 {
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\ntarget\twanted\tmeasured\t95 %\tmet")
	for _, v := range vs {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", v.Claim, v.Want(), v.measured(), between(v.K, v.N), v.met())
	}
	return t.Flush()
}

func (v Verdict) measured() string {
	return fmt.Sprintf("%d/%d (%s %%)", v.K, v.N, percent(v.K, v.N))
}

// percent never rounds up to all.
func percent(k, n int) string {
	if k == n {
		return "100"
	}
	return fmt.Sprintf("%.1f", float64(1000*k/n)/10)
}

func (v Verdict) met() string {
	if v.Met() {
		return "yes"
	}
	return "no"
}

func (r *Result) columns() string {
	s := fmt.Sprintf("%s\t%s\t%s\t%s", r.method(), r.rate(), r.trips(), r.syns())
	if reason := r.Reason(); r.OK() == 0 || r.why != "" {
		s += "\t" + reason
	} else if reason != "" {
		s += "\t" + r.failure().Error() // others worked: how this one ended says more
	}
	return s
}
