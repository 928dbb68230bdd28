package crowd

import "io"

// WriteSieges writes a table of attacks.
func WriteSieges(w io.Writer, sieges []Siege) error {
	p := &printer{w: w}
	p.line("| attack | tried, per second | as asked | held at once | dials, quiet: p50 | p99 | under attack: p50 | p99 | p99, times | failed |")
	p.line("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
	for _, s := range sieges {
		failed, of := s.Failed()
		p.line("| **%s**: %s | %.0f | %.1f %% | %d | %s | %s | %.1f | %d of %d |", s.Attack, s.About, s.perSecond(),
			100*float64(s.Score.In)/float64(max(s.Score.Tried, 1)), s.Score.Most, typical(s.Quiet), typical(s.Under),
			s.Ratio(), failed, of)
	}
	return p.err
}

func (s Siege) perSecond() float64 { return float64(s.Score.Tried) / s.Lasted.Seconds() }
