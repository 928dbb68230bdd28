package crowd

import (
	"fmt"
	"io"
	"time"
)

// WriteMarkdown writes the tables.
func (r *Result) WriteMarkdown(w io.Writer) error {
	p := &printer{w: w}
	p.line("| nodes | registrations/s | processor time of one | of a ping | memory a node, KiB | of it heap | before a collection | the kernel's | goroutines |")
	p.line("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
	for _, row := range r.Rows {
		s, n := row.Server, int64(row.Nodes)
		p.line("| %d | %.0f | %d µs | %d µs | %.1f | %.1f | %.1f | %.1f | %d |", row.Nodes, float64(row.Arrived)/row.Arrival.Seconds(),
			row.Handshake.Microseconds(), row.Ping.Microseconds(),
			kib(s.Resident-r.Empty.Resident, n), kib(s.Heap-r.Empty.Heap, n), kib(s.Running-r.Empty.Running, n), kib(row.Kernel, 2*n), s.Goroutines)
	}
	p.line("")
	p.line("| nodes | dials | failed | the server's part, p50 | p99 | Dial to Ringing, p50 | p99 | Dial to Answer, p50 | p99 |")
	p.line("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
	for _, row := range r.Rows {
		p.line("| %d | %d | %d | %s | %s | %s |", row.Nodes, row.Dials, row.DialFailed, row.Part, row.Ringing, row.Answer)
	}
	if len(r.Returns) > 0 {
		p.line("")
		p.line("| the server ends by | the next is ready after | half are back | all are back | attempts that failed | most that left in 100 ms |")
		p.line("| --- | --- | --- | --- | --- | --- |")
		for _, b := range r.Returns {
			p.line("| %s | %s | %s | %s | %d | %.1f %% |", b.How, seconds(b.Away), seconds(b.Half), seconds(b.Back), b.Failed, 100*b.Spread)
		}
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
