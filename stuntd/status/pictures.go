package status

import (
	"fmt"
	"slices"
	"time"
)

// A minute is what happened in one.
type minute struct {
	at       time.Time // its end
	dials    [results]int64
	bytes    int64
	sessions int // at its end
}

// minutesOf cuts the last hour into minutes, the last of which ends now. Before
// the first sample there was nothing.
func minutesOf(past []sample, now time.Time) []minute {
	const n = int(hour / time.Minute)
	at := func(t time.Time) sample {
		i, found := slices.BinarySearchFunc(past, t, func(s sample, t time.Time) int { return s.at.Compare(t) })
		switch {
		case found:
			return past[i]
		case i == 0:
			return sample{}
		}
		return past[i-1]
	}
	all := make([]minute, 0, n)
	before := at(now.Add(-hour))
	for i := range n {
		end := now.Add(-time.Duration(n-1-i) * time.Minute)
		s := at(end)
		m := minute{at: end, bytes: s.bytes - before.bytes, sessions: s.sessions}
		for r := range m.dials {
			m.dials[r] = s.dials[r] - before.dials[r]
		}
		all = append(all, m)
		before = s
	}
	return all
}

// Measures of a picture, in its own units: it is stretched to the width there is.
const (
	chartWidth, chartHeight = 600, 100
	barWidth                = chartWidth / 60
	barGap                  = 2
)

// A chart is bars over the last hour, a minute each.
type chart struct {
	Name, Summary, Top string
	Keys               []string // classes of what the bars are made of; none if of one thing only
	Bars               []bar
	Width, Height      int
}

type bar struct {
	X, Width int
	Text     string
	Parts    []part // from the bottom
}

type part struct {
	Class     string
	Y, Height float64
}

// chartOf makes bars of values, one or several on top of each other.
func chartOf(past []minute, classes []string, values func(minute) []int64, text func(minute) string) (c chart, top int64) {
	for _, m := range past {
		top = max(top, sum(values(m)))
	}
	c = chart{Width: chartWidth, Height: chartHeight}
	for i, m := range past {
		b := bar{X: i * barWidth, Width: barWidth - barGap, Text: m.at.UTC().Format("15:04") + " UTC: " + text(m)}
		y := float64(chartHeight)
		for j, v := range values(m) {
			if v <= 0 {
				continue
			}
			h := max(float64(v)*chartHeight/float64(top), 1) // what is there can be seen
			y -= h
			b.Parts = append(b.Parts, part{classes[j], y, h})
		}
		c.Bars = append(c.Bars, b)
	}
	return c, top
}

func sum(values []int64) (s int64) {
	for _, v := range values {
		s += v
	}
	return s
}

func dialChart(past []minute) chart {
	names := []string{direct.String(), relayed.String(), failed.String()}
	text := func(n [results]int64) string {
		return fmt.Sprintf("%d direct, %d relayed, %d failed", n[direct], n[relayed], n[failed])
	}
	c, top := chartOf(past, names, func(m minute) []int64 { return m.dials[:] }, func(m minute) string { return text(m.dials) })
	var all [results]int64
	for _, m := range past {
		for r := range all {
			all[r] += m.dials[r]
		}
	}
	c.Name, c.Keys, c.Top = "Dials per minute", names, count(top)
	c.Summary = "Dials in the last hour: " + text(all)
	return c
}

func relayChart(past []minute) chart {
	rate := func(m minute) string { return size(m.bytes/60) + "/s" }
	c, top := chartOf(past, []string{"relayed"}, func(m minute) []int64 { return []int64{m.bytes} }, rate)
	var all int64
	for _, m := range past {
		all += m.bytes
	}
	c.Name, c.Top = "Relay", size(top/60)+"/s"
	c.Summary = "The relay carried " + size(all) + " in the last hour, in its busiest minute " + c.Top
	return c
}

func sessionChart(past []minute) chart {
	text := func(m minute) string { return count(int64(m.sessions)) + " sessions" }
	c, top := chartOf(past, []string{"plain"}, func(m minute) []int64 { return []int64{int64(m.sessions)} }, text)
	c.Name, c.Top = "Sessions", count(top)
	c.Summary = "Sessions in the last hour: " + count(top) + " at most, " + text(past[len(past)-1]) + " now"
	return c
}

// heat is the table of who reached whom.
type heat struct {
	Columns []natName
	Rows    []heatRow
}

type natName struct{ Name, Text string }

type heatRow struct {
	natName
	Cells []cell
}

// A cell is what came of the dials from one class to another.
type cell struct{ Class, Share, Count, Text string }

func heatOf(pairs map[pair]int64) (h heat) {
	type ends struct{ from, to class }
	var seen [classes]bool
	by := make(map[ends][results]int64)
	for p, n := range pairs {
		seen[p.caller], seen[p.callee] = true, true
		c := by[ends{p.caller, p.callee}]
		c[p.result] += n
		by[ends{p.caller, p.callee}] = c
	}
	var order []class // what is not known comes last
	for i := range classes {
		if c := (i + classPublic) % classes; seen[c] {
			order = append(order, c)
			h.Columns = append(h.Columns, natName{c.String(), c.text()})
		}
	}
	for _, from := range order {
		row := heatRow{natName: natName{from.String(), from.text()}}
		for _, to := range order {
			row.Cells = append(row.Cells, cellOf(by[ends{from, to}], from, to))
		}
		h.Rows = append(h.Rows, row)
	}
	return h
}

func cellOf(n [results]int64, from, to class) cell {
	all := sum(n[:])
	if all == 0 {
		return cell{Class: "empty", Text: fmt.Sprintf("no dial from %s to %s", from, to)}
	}
	class := fmt.Sprintf("s%d", step(n[direct], all))
	if n[direct] == 0 && n[failed] > 0 {
		class = "none"
	}
	return cell{
		Class: class, Share: percent(n[direct], all), Count: count(all),
		Text: fmt.Sprintf("from %s to %s: %d direct, %d relayed, %d failed", from, to, n[direct], n[relayed], n[failed]),
	}
}

// step is the shade of a share, 0 of none: half and more, most, nearly all and all are what
// an operator tells apart.
func step(part, all int64) int {
	switch share := float64(part) / float64(all); {
	case part == 0:
		return 0
	case share < .5:
		return 1
	case share < .8:
		return 2
	case share < .95:
		return 3
	case part < all:
		return 4
	}
	return 5
}
