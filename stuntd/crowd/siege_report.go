package crowd

import (
	"fmt"
	"io"
	"time"
)

// WriteSieges writes a table of attacks.
func WriteSieges(w io.Writer, sieges []Siege) error {
	p := &printer{w: w}
	p.line("| attack | tried, per second | as asked | held at once | p50: quiet, beside it, under it | p99 | times quiet | times beside it | the server's part, p99: quiet, under it | its processor | failed |")
	p.line("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
	for _, s := range sieges {
		failed, of := s.Failed()
		quiet, beside, under := typical(s.Quiet, answers), typical(s.Beside, answers), typical(s.Under, answers)
		p.line("| **%s**: %s | %.0f | %.1f %% | %d | %s, %s, %s ms | %s, %s, %s ms | %.1f | %.1f | %s, %s ms | %.0f, %.0f %% | %d of %d |", s.Attack, s.About, s.perSecond(),
			100*float64(s.Score.In)/float64(max(s.Score.Tried, 1)), s.Score.Most, millis(quiet.P50), millis(beside.P50), millis(under.P50),
			millis(quiet.P99), millis(beside.P99), millis(under.P99), s.Ratio(), s.Beyond(),
			millis(typical(s.Quiet, parts).P99), millis(typical(s.Under, parts).P99), 100*busy(s.Quiet), 100*busy(s.Under), failed, of)
	}
	return p.err
}

func millis(d time.Duration) string { return fmt.Sprintf("%.2f", d.Seconds()*1000) }

func (s Siege) perSecond() float64 { return float64(s.Score.Tried) / s.Lasted.Seconds() }
