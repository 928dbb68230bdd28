// Package check tells whether a deployed server is right: what nodes would meet
// with, and what to do where it is not so. [Remote] looks at a server from where
// it runs, as a node does, and with nothing but a node's means.
package check

import (
	"fmt"
	"io"
)

// A Grade is how good something is.
type Grade uint8

// The grades.
const (
	OK      Grade = iota
	Warning       // it works, but something is missing, or could not be looked at
	Wrong         // nodes are served badly, or not at all
)

func (g Grade) String() string {
	switch g {
	case OK:
		return "ok"
	case Warning:
		return "warning"
	}
	return "wrong"
}

// A Finding is what was seen of one thing.
type Finding struct {
	Grade Grade
	About string // one word or two
	Says  string
	Do    string // what would make it better; empty if nothing has to
}

// String returns the finding in one line.
func (f Finding) String() string {
	s := fmt.Sprintf("%-8s %-12s %s", f.Grade, f.About, f.Says)
	if f.Do != "" {
		s += "; " + f.Do
	}
	return s
}

// A Report takes findings as they come, writes each, and keeps the worst grade.
// One goroutine uses it.
type Report struct {
	W     io.Writer
	Worst Grade
}

func (r *Report) add(f Finding) {
	r.Worst = max(r.Worst, f.Grade)
	fmt.Fprintln(r.W, f)
}

// Good, Doubt and Bad add a finding of each grade. do says what would make it
// better.
func (r *Report) Good(about, format string, args ...any) {
	r.add(Finding{Grade: OK, About: about, Says: fmt.Sprintf(format, args...)})
}

// Doubt adds a Warning.
func (r *Report) Doubt(about, do, format string, args ...any) {
	r.add(Finding{Warning, about, fmt.Sprintf(format, args...), do})
}

// Bad adds what is Wrong.
func (r *Report) Bad(about, do, format string, args ...any) {
	r.add(Finding{Wrong, about, fmt.Sprintf(format, args...), do})
}
