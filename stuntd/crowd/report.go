package crowd

import (
	"cmp"
	"fmt"
	"io"
	"time"
)

// memoryAim is what a node may take of the server's process, in KiB: issue 5.
const memoryAim = 12

// conditions says what rows were measured under.
func (c *Config) conditions(cores int) string {
	s := fmt.Sprintf("%d cores for server and nodes", cores)
	if c.Servers > 1 {
		s = fmt.Sprintf("%d cores for %d servers and nodes", cores, c.Servers)
	}
	if c.Apart {
		s += "; each server with nodes of its own"
	}
	if c.Rate > 0 {
		s += fmt.Sprintf("; %d dials a second for %v at each size", c.Rate, c.For)
	}
	return s + "."
}

// mark is where the result belongs in docs/scale.md.
func (c *Config) mark() string {
	switch {
	case c.Apart:
		return "crowd apart"
	case c.Servers > 1:
		return "crowd cluster"
	}
	return "crowd"
}

// resident is what the process has for a node, in KiB.
func (r *Result) resident(row Row) float64 {
	return kib(row.Server.Resident-r.Empty.Resident, int64(row.Nodes))
}

// kernel is what the kernel has for the server's end of a session, in KiB.
func (row Row) kernel() float64 { return kib(row.Kernel, 2*int64(row.Nodes)) }

// WriteMarkdown writes all tables.
func (r *Result) WriteMarkdown(w io.Writer) error {
	err := r.writeCosts(w)
	if err == nil && len(r.Returns) > 0 {
		_, err = fmt.Fprintln(w)
		err = cmp.Or(err, r.writeReturns(w))
	}
	return err
}

// WriteInto writes the tables into a Markdown file: between <!-- crowd --> and
// <!-- /crowd --> what nodes cost, at <!-- crowd back --> how they come back; or
// with another Mark in these.
func (r *Result) WriteInto(file string) error {
	err := WriteInto(file, r.Mark, r.writeCosts)
	if err == nil && len(r.Returns) > 0 {
		err = WriteInto(file, r.Mark+" back", r.writeReturns)
	}
	return err
}

func (r *Result) writeCosts(w io.Writer) error {
	p := &printer{w: w}
	p.line("%s", r.Conditions)
	p.line("")
	p.line("| nodes | registrations/s | processor time of one | of a ping | memory a node, KiB | of it heap | before a collection | the kernel's | goroutines |")
	p.line("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
	for _, row := range r.Rows {
		s, n := row.Server, int64(row.Nodes)
		p.line("| %d | %.0f | %d µs | %d µs | %.1f | %.1f | %.1f | %.1f | %d |", row.Nodes, float64(row.Arrived)/row.Arrival.Seconds(),
			row.Handshake.Microseconds(), row.Ping.Microseconds(),
			r.resident(row), kib(s.Heap-r.Empty.Heap, n), kib(s.Running-r.Empty.Running, n), row.kernel(), s.Goroutines)
	}
	p.line("")
	p.line("| nodes | dials | failed | the server's part, p50 | p99 | Dial to Ringing, p50 | p99 | Dial to Answer, p50 | p99 |")
	p.line("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
	for _, row := range r.Rows {
		p.line("| %d | %d | %d | %s | %s | %s |", row.Nodes, row.Dials, row.DialFailed, row.Part, row.Ringing, row.Answer)
	}
	return p.err
}

func (r *Result) writeReturns(w io.Writer) error {
	p := &printer{w: w}
	p.line("| nodes | the server ends by | the next is ready after | half are back | all are back | attempts that failed | most that left in 100 ms |")
	p.line("| --- | --- | --- | --- | --- | --- | --- |")
	for _, b := range r.Returns {
		p.line("| %d | %s | %s | %s | %s | %d | %.1f %% |", b.Nodes, b.How, seconds(b.Away), seconds(b.Half), seconds(b.Back), b.Failed, 100*b.Spread)
	}
	return p.err
}

// A printer writes lines until one fails.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format+"\n", args...)
	}
}

func kib(bytes, of int64) float64 { return float64(bytes) / 1024 / float64(of) }

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

// String is two cells of a table, in microseconds.
func (q Quantile) String() string {
	return fmt.Sprintf("%d µs | %d µs", q.P50.Microseconds(), q.P99.Microseconds())
}
