package crowd

import (
	"bytes"
	"context"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if Child() {
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// TestRun is a small measurement, of whose numbers only those that no machine's
// load can change are looked at.
func TestRun(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("all of 127.0.0.0/8 is there on Linux only")
	}
	t.Parallel()
	const nodes = 200
	var progress bytes.Buffer
	res, err := Run(t.Context(), Config{Sizes: []int{50, nodes}, Rate: 100, For: 500 * time.Millisecond, Keepalive: time.Second,
		Kill: true, Drain: 200 * time.Millisecond, Patience: time.Minute, Progress: &progress})
	require.NoError(t, err, progress.String())
	require.Len(t, res.Rows, 2)
	for i, row := range res.Rows {
		require.Equal(t, []int{50, 150}[i], row.Arrived)
		require.Positive(t, row.Dials)
		require.Zero(t, row.DialFailed)
		require.Less(t, row.Server.Goroutines, 30, "an idle session has none")
		require.Positive(t, row.Server.Heap)
		for _, q := range []Quantile{row.Part, row.Ringing, row.Answer} {
			require.Positive(t, q.P50)
			require.LessOrEqual(t, q.P50, q.P99)
		}
		require.Less(t, row.Part.P50, row.Answer.P50, "the server's part is a part")
	}
	require.Len(t, res.Returns, 2, "from a crash, and from a stop")
	for _, b := range res.Returns {
		require.Positive(t, b.Half)
		require.LessOrEqual(t, b.Half, b.Back)
	}
	var tables bytes.Buffer
	require.NoError(t, res.WriteMarkdown(&tables))
	require.Contains(t, tables.String(), "\n| 200 | SIGKILL |")
}

// A measurement that is given up leaves nothing behind, and one that cannot be
// made says why before it begins.
func TestRunEnds(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("all of 127.0.0.0/8 is there on Linux only")
	}
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	_, err := Run(ctx, Config{Sizes: []int{20}, Servers: 2, Rate: 10, For: time.Hour, Progress: onLine(cancel)})
	require.ErrorIs(t, err, context.Canceled)
	for _, sizes := range [][]int{nil, {1}, {20, 10}} {
		_, err = Run(t.Context(), Config{Sizes: sizes})
		require.ErrorContains(t, err, "sizes")
	}
	_, err = Run(t.Context(), Config{Sizes: []int{1 << 30}})
	require.ErrorContains(t, err, "open files")
}

// onLine calls a func for each write.
type onLine func()

func (f onLine) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte("nodes after")) {
		f()
	}
	return len(b), nil
}

// What a node says is what the server reads: a wrong number of a field would be
// skipped as unknown.
func TestFrames(t *testing.T) {
	f := frame{Kind: kindDial, DialID: make([]byte, 16), ID: name(7), Noise: someNoise}
	got, err := readFrame(bytes.NewReader(encode(f)), func() {})
	require.NoError(t, err)
	require.Equal(t, f, *got)
	_, err = readFrame(bytes.NewReader([]byte{255, 0, 0, 0}), func() {})
	require.Error(t, err)
	require.NotEqual(t, local(0), local(99_999))
	require.True(t, local(99_999).IsLoopback())
}
