package status

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestMinutes(t *testing.T) {
	now := time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	past := []sample{ // a server that started 90 s ago
		{at: ago(90 * time.Second)},
		{at: ago(70 * time.Second), dials: [results]int64{direct: 2}, sessions: 3},
		{at: ago(30 * time.Second), dials: [results]int64{direct: 5, failed: 1}, bytes: 600, sessions: 7},
		{at: now, dials: [results]int64{direct: 6, failed: 1}, bytes: 900, sessions: 5},
	}
	all := minutesOf(past, now)
	require.Len(t, all, 60)
	require.Equal(t, minute{at: now, dials: [results]int64{direct: 4, failed: 1}, bytes: 900, sessions: 5}, all[59])
	require.Equal(t, minute{at: ago(time.Minute), dials: [results]int64{direct: 2}, sessions: 3}, all[58])
	require.Equal(t, minute{at: ago(2 * time.Minute)}, all[57], "before it started there was nothing")
}

// TestHourIsAllThatIsKept: what came before the hour is not in its first minute.
func TestHourIsAllThatIsKept(t *testing.T) {
	now := time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)
	past := []sample{
		{at: now.Add(-2 * time.Hour), dials: [results]int64{relayed: 10}},
		{at: now.Add(-time.Hour - time.Second), dials: [results]int64{relayed: 20}},
		{at: now.Add(-time.Hour + time.Second), dials: [results]int64{relayed: 21}},
		{at: now, dials: [results]int64{relayed: 21}},
	}
	all := minutesOf(past, now)
	require.Equal(t, int64(1), all[0].dials[relayed])
	var n int64
	for _, m := range all {
		n += m.dials[relayed]
	}
	require.Equal(t, int64(1), n)
}

func TestChartIsWithinItsFrame(t *testing.T) {
	now := time.Now()
	past := minutesOf([]sample{{at: now.Add(-time.Hour)}, {at: now, dials: [results]int64{1000, 1, 1}}}, now)
	c := dialChart(past)
	require.Equal(t, "Dials in the last hour: 1000 direct, 1 relayed, 1 failed", c.Summary)
	require.Equal(t, "1\u202f002", c.Top)
	parts := c.Bars[59].Parts
	require.Len(t, parts, 3, "one of a thousand can be seen")
	for _, p := range parts {
		require.GreaterOrEqual(t, p.Height, 1.0)
		require.GreaterOrEqual(t, p.Y, -2.0) // two were made a unit high, which they are not
		require.LessOrEqual(t, p.Y+p.Height, 100.0)
	}
	require.Empty(t, c.Bars[0].Parts)
}

func TestHeat(t *testing.T) {
	h := heatOf(map[pair]int64{
		{classOnePort, classDraws, direct}:    999,
		{classOnePort, classDraws, relayed}:   1,
		{classDraws, classOnePort, failed}:    3,
		{classUnknown, classOnePort, relayed}: 2,
		{classUnknown, classDraws, relayed}:   2,
		{classUnknown, classDraws, failed}:    1,
	})
	require.Equal(t, []string{"eim", "apdm-random", "unknown"}, []string{h.Columns[0].Name, h.Columns[1].Name, h.Columns[2].Name}, "what is not known is last")
	require.Equal(t, cell{"s4", "99.9 %", "1\u202f000", "from eim to apdm-random: 999 direct, 1 relayed, 0 failed"}, h.Rows[0].Cells[1])
	require.Equal(t, cell{"none", "0 %", "3", "from apdm-random to eim: 0 direct, 0 relayed, 3 failed"}, h.Rows[1].Cells[0])
	require.Equal(t, "s0", h.Rows[2].Cells[0].Class, "the relay did it")
	require.Equal(t, "none", h.Rows[2].Cells[1].Class)
	require.Equal(t, "empty", h.Rows[0].Cells[0].Class)
}

func TestWords(t *testing.T) {
	require.Equal(t, []string{"0", "999", "1\u202f000", "1\u202f234\u202f567"}, []string{count(0), count(999), count(1000), count(1234567)})
	require.Equal(t, []string{"–", "0 %", "1 %", "50 %", "99.9 %", "100 %"},
		[]string{percent(0, 0), percent(0, 5), percent(1, 1e6), percent(1, 2), percent(1e6-1, 1e6), percent(7, 7)})
	require.Equal(t, []string{"0 B", "999 B", "1.0 KiB", "12 MiB", "2.0 TiB"}, []string{size(0), size(999), size(1024), size(12 << 20), size(2 << 40)})
	require.Equal(t, []string{"59 s", "59 min", "47 h", "2 days"},
		[]string{since(59 * time.Second), since(59*time.Minute + 59*time.Second), since(47 * time.Hour), since(50 * time.Hour)})
}

func TestRecentForgetsTheOldest(t *testing.T) {
	var r recent
	for i := range kept + 3 {
		r.add(dial{took: time.Duration(i)})
	}
	all := r.list()
	require.Len(t, all, kept)
	require.Equal(t, time.Duration(kept+2), all[0].took, "the latest is first")
	require.Equal(t, time.Duration(3), all[kept-1].took)
}
