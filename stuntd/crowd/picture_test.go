package crowd

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// measured is a result of three sizes whose figures are easy to find again.
func measured() *Result {
	r := &Result{Conditions: "2 cores.", Mark: "crowd", Empty: HostStats{Resident: 1 << 20}}
	for _, n := range []int64{1000, 2000, 19000} {
		r.Rows = append(r.Rows, Row{Nodes: int(n), Arrived: int(n), Arrival: time.Second, Handshake: 321 * time.Microsecond,
			Server: HostStats{Resident: 1<<20 + n*10<<10}, Kernel: 2 * n * 4 << 10,
			Part: Quantile{60 * time.Microsecond, 200 * time.Microsecond}})
	}
	return r
}

func TestWriteSVG(t *testing.T) {
	var b bytes.Buffer
	require.NoError(t, measured().WriteSVG(&b))
	for _, want := range []string{"2000 nodes: 10.0 KiB", "19000 nodes: 4.0 KiB", "1000 nodes: 321 µs", "19000 nodes: 200 µs", "aim: 12", ">19k<"} {
		require.Contains(t, b.String(), want)
	}
	circles := wellFormed(t, &b)["circle"]
	require.Equal(t, 3*5+4, circles, "a point for each size and line, and four names of lines")

	for _, rows := range [][]Row{nil, measured().Rows[:1]} { // what there is of a measurement that was cut short
		require.NoError(t, (&Result{Rows: rows}).WriteSVG(&b))
		require.NotContains(t, b.String(), "NaN")
		wellFormed(t, &b)
	}
}

// wellFormed reads XML to its end and counts elements.
func wellFormed(t *testing.T, r io.Reader) map[string]int {
	count := make(map[string]int)
	for d := xml.NewDecoder(r); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return count
		}
		require.NoError(t, err)
		if e, ok := token.(xml.StartElement); ok {
			count[e.Name.Local]++
		}
	}
}

func TestAxisStep(t *testing.T) {
	for top, want := range map[float64]float64{0: 0.1, 0.4: 0.1, 0.5: 0.2, 4: 1, 12: 5, 13.3: 5, 20: 5, 21: 10, 611: 200, 3720: 1000} {
		require.InDelta(t, want, axisStep(top), 1e-9, "%v", top)
	}
}

func TestWriteIntoFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "scale.md")
	r := measured()
	const doc = "a\n<!-- crowd -->\nold\n<!-- /crowd -->\nb\n"
	require.NoError(t, os.WriteFile(file, []byte(doc), 0o600))
	require.NoError(t, r.WriteInto(file))
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(string(text), "a\n<!-- crowd -->\n\n2 cores.\n\n| nodes |"), string(text))
	require.True(t, strings.HasSuffix(string(text), " |\n\n<!-- /crowd -->\nb\n"), string(text))
	require.Contains(t, string(text), "| 2000 | 2000 | 321 µs | 0 µs | 10.0 |")
	require.NotContains(t, string(text), "old")

	r.Returns = []Return{{How: "SIGKILL", Nodes: 19000}}
	require.ErrorContains(t, r.WriteInto(file), "no place for crowd back")
	r.Mark = (&Config{Servers: 2}).mark()
	require.ErrorContains(t, r.WriteInto(file), "no place for crowd cluster")
}
