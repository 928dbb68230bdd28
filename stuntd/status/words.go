package status

import (
	"fmt"
	"strconv"
	"time"
)

// count writes a number with spaces between its thousands.
func count(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "\u202f" + s[i:] // narrow, and no line breaks there
	}
	return s
}

// percent never says all or nothing of what is only nearly so.
func percent(part, all int64) string {
	if all == 0 {
		return "–"
	}
	p := 100 * float64(part) / float64(all)
	switch {
	case part == all:
		return "100 %"
	case part == 0:
		return "0 %"
	case p > 99:
		return fmt.Sprintf("%.1f %%", min(p, 99.9))
	}
	return fmt.Sprintf("%.0f %%", max(p, 1))
}

// size writes a number of bytes.
func size(n int64) string {
	v, unit := float64(n), 0
	for v >= 1000 && unit < 4 {
		v, unit = v/1024, unit+1
	}
	if unit == 0 {
		return fmt.Sprintf("%d B", n)
	}
	digits := 1
	if v >= 10 {
		digits = 0
	}
	return fmt.Sprintf("%.*f %s", digits, v, [...]string{"B", "KiB", "MiB", "GiB", "TiB"}[unit])
}

// since writes a duration in one unit, as people do.
func since(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

func milliseconds(d time.Duration) string { return fmt.Sprintf("%d ms", d.Milliseconds()) }
