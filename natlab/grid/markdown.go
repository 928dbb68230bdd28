package grid

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
)

// The marks that a generated table stands between.
const (
	beginMark = "<!-- grid -->"
	endMark   = "<!-- /grid -->"
)

// Insert returns doc with what stands between its marks, "<!-- grid -->" and
// "<!-- /grid -->", replaced by the table.
func (g *Grid) Insert(doc []byte) ([]byte, error) {
	before, rest, ok := bytes.Cut(doc, []byte(beginMark))
	_, after, ok2 := bytes.Cut(rest, []byte(endMark))
	if !ok || !ok2 {
		return nil, fmt.Errorf("no %s with a %s after it", beginMark, endMark)
	}
	var b bytes.Buffer
	b.Write(before)
	b.WriteString(beginMark + "\n\n")
	if err := g.WriteMarkdown(&b); err != nil {
		return nil, err
	}
	b.WriteString("\n" + endMark)
	b.Write(after)
	return b.Bytes(), nil
}

// WriteMarkdown writes the table, the pairs that share something below it, and
// the reasons of failures as footnotes.
func (g *Grid) WriteMarkdown(w io.Writer) error {
	var b bytes.Buffer
	var notes footnotes
	fmt.Fprintf(&b, "Measured by `stunt lab grid`: %s. In a cell: method, how many dials worked; median time in round trips · SYNs of both ends per dial.\n", g.conditions())
	if len(g.Config.Sides) > 0 {
		g.table(&b, &notes)
	}
	if len(g.Shared) > 0 {
		fmt.Fprint(&b, "\n| both behind | method | worked | round trips | SYNs |\n| --- | --- | --- | --- | --- |\n")
		for i := range g.Shared {
			r := &g.Shared[i]
			fmt.Fprintf(&b, "| **%s**: %s | %s%s | %d/%d | %s | %s |\n",
				r.Case.Name, escape(r.Case.About), r.method(), notes.mark(r), r.OK(), len(r.Dials), r.trips(), r.syns())
		}
	}
	for i, reason := range notes {
		if i == 0 {
			fmt.Fprintln(&b)
		}
		fmt.Fprintf(&b, "- %s: %s\n", letter(i), escape(reason))
	}
	_, err := w.Write(b.Bytes())
	return err
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
			r := &row[j]
			fmt.Fprintf(b, " %s |", cell(r, notes))
		}
		fmt.Fprintln(b)
	}
}

func cell(r *Result, notes *footnotes) string {
	switch r.OK() {
	case 0:
		return "—" + notes.mark(r)
	case len(r.Dials):
		return fmt.Sprintf("%s %d/%d<br>%s · %s", r.method(), r.OK(), len(r.Dials), r.trips(), r.syns())
	}
	return fmt.Sprintf("%s **%d/%d**%s<br>%s · %s", r.method(), r.OK(), len(r.Dials), notes.mark(r), r.trips(), r.syns())
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
