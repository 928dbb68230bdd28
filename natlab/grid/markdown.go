package grid

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
)

// The marks that generated parts stand between: the whole, or a summary.
var marks = []struct {
	begin, end string
	write      func(g *Grid, b *bytes.Buffer)
}{
	{"<!-- grid -->", "<!-- /grid -->", (*Grid).whole},
	{"<!-- grid summary -->", "<!-- /grid summary -->", (*Grid).summary},
}

// Insert returns doc with what stands between its marks replaced by what was
// measured: between "<!-- grid -->" and "<!-- /grid -->" the table and all
// else, between "<!-- grid summary -->" and "<!-- /grid summary -->" the targets
// and the comparison with other orders.
func (g *Grid) Insert(doc []byte) ([]byte, error) {
	found := false
	for _, m := range marks {
		before, rest, ok := bytes.Cut(doc, []byte(m.begin))
		_, after, ok2 := bytes.Cut(rest, []byte(m.end))
		if !ok || !ok2 {
			continue
		}
		found = true
		var b bytes.Buffer
		b.Write(before)
		b.WriteString(m.begin + "\n\n")
		m.write(g, &b)
		b.WriteString("\n" + m.end)
		b.Write(after)
		doc = b.Bytes()
	}
	if !found {
		return nil, fmt.Errorf("no %s with a %s after it, nor %s", marks[0].begin, marks[0].end, marks[1].begin)
	}
	return doc, nil
}

// WriteMarkdown writes the targets, the comparison, the table, the lists, and
// the reasons of failures as footnotes.
func (g *Grid) WriteMarkdown(w io.Writer) error {
	var b bytes.Buffer
	g.whole(&b)
	_, err := w.Write(b.Bytes())
	return err
}

func (g *Grid) whole(b *bytes.Buffer) {
	var notes footnotes
	g.summary(b)
	if len(g.Config.Sides) > 0 {
		fmt.Fprintf(b, "\nIn a cell: method, how many dials worked, and the interval of that chance where some did not; median time in round trips · SYNs of both ends per dial. %s.\n", g.allWorked())
		g.table(b, &notes)
	}
	for _, l := range g.Lists {
		if l.List.Name == "orders" {
			continue // in the summary
		}
		fmt.Fprintf(b, "\n| %s | method | worked | round trips | SYNs |\n| --- | --- | --- | --- | --- |\n", strings.ToLower(l.List.Title))
		for i := range l.Results {
			r := l.Results[i].Shown()
			about := ""
			if r.Case.About != "" {
				about = ": " + escape(r.Case.About)
			}
			fmt.Fprintf(b, "| **%s**%s | %s%s | %d/%d (%s) | %s | %s |\n", r.Case, about, r.method(), notes.mark(r),
				r.OK(), len(r.Dials), between(r.OK(), len(r.Dials)), r.trips(), r.syns())
		}
	}
	for i, reason := range notes {
		if i == 0 {
			fmt.Fprintln(b)
		}
		fmt.Fprintf(b, "- %s: %s\n", letter(i), escape(reason))
	}
}

// summary writes the targets, and what other orders of the same sockets reach.
func (g *Grid) summary(b *bytes.Buffer) {
	fmt.Fprintf(b, "Measured by `stunt lab grid`: %s.\n", g.conditions())
	for i, v := range g.Verdicts() {
		if i == 0 {
			fmt.Fprint(b, "\n| target | wanted | measured | 95 % interval | met |\n| --- | --- | --- | --- | --- |\n")
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s |\n", v.Claim, v.Want(), v.measured(), between(v.K, v.N), v.met())
	}
	results := g.list("orders")
	if len(results) == 0 {
		return
	}
	columns := len(orders) + 1
	fmt.Fprintf(b, "\n| %v |", comparedLink)
	for _, r := range results[:columns] {
		fmt.Fprintf(b, " %v |", r.Case.order)
	}
	fmt.Fprint(b, "\n|"+strings.Repeat(" --- |", columns+1)+"\n")
	for row := range slices.Chunk(results, columns) {
		fmt.Fprintf(b, "| %s |", row[0].Case.sides())
		for i := range row {
			fmt.Fprintf(b, " %s |", row[i].short())
		}
		fmt.Fprintln(b)
	}
	fmt.Fprint(b, "\nHow many dials worked, the interval of that chance where some did not, and the median time in round trips. The other columns use the same sockets, ports and signals in the order of others:\n\n")
	for _, o := range orders {
		fmt.Fprintf(b, "- **%s**: %s\n", o.name, o.about)
	}
}

// short is how many dials worked, and in how many round trips.
func (r *Result) short() string {
	switch r.OK() {
	case 0:
		return fmt.Sprintf("**0/%d**", len(r.Dials))
	case len(r.Dials):
		return fmt.Sprintf("%d/%d, %s", r.OK(), len(r.Dials), r.trips())
	}
	return fmt.Sprintf("**%d/%d** (%s), %s", r.OK(), len(r.Dials), between(r.OK(), len(r.Dials)), r.trips())
}

func (g *Grid) table(b *bytes.Buffer, notes *footnotes) {
	fmt.Fprint(b, "\n| listener ↓ dialer → |")
	for _, s := range g.Config.Sides {
		fmt.Fprintf(b, " %s |", s.Name)
	}
	fmt.Fprint(b, "\n|"+strings.Repeat(" --- |", len(g.Config.Sides)+1)+"\n")
	for i, row := range g.Cells {
		fmt.Fprintf(b, "| **%s** |", g.Config.Sides[i].Name)
		for j := range row {
			fmt.Fprintf(b, " %s |", cell(row[j].Shown(), notes))
		}
		fmt.Fprintln(b)
	}
}

func cell(r *Result, notes *footnotes) string {
	switch r.OK() {
	case 0:
		return "—" + notes.mark(r)
	case len(r.Dials):
		return fmt.Sprintf("%s %d/%d%s<br>%s · %s", r.method(), r.OK(), len(r.Dials), notes.mark(r), r.trips(), r.syns())
	}
	return fmt.Sprintf("%s **%d/%d** (%s)%s<br>%s · %s", r.method(), r.OK(), len(r.Dials), between(r.OK(), len(r.Dials)), notes.mark(r), r.trips(), r.syns())
}

// footnotes are the reasons of failures, each once.
type footnotes []string

// mark returns the mark of a result's reason, empty if nothing failed.
func (f *footnotes) mark(r *Result) string {
	reason := r.Reason()
	if reason == "" {
		return ""
	}
	i := slices.Index(*f, reason)
	if i < 0 {
		i = len(*f)
		*f = append(*f, reason)
	}
	return " <sup>" + letter(i) + "</sup>"
}

// letter is a to z, then a1.
func letter(i int) string {
	s := string(rune('a' + i%26))
	if i >= 26 {
		s += fmt.Sprint(i / 26)
	}
	return s
}

// escape keeps a reason, which may quote an error, from being markup.
func escape(s string) string {
	return strings.NewReplacer("<", "&lt;", "|", "\\|", "\n", " ").Replace(s)
}
