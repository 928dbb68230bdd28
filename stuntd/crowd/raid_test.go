package crowd

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt/relay"
	"github.com/gostunt/stunt/stuntd"
)

// TestRaids has a server with small limits attacked in each way. Each limit holds,
// and nodes dial each other meanwhile and after all of them, as if nothing were.
func TestRaids(t *testing.T) {
	const honest = 20
	limits := stuntd.Limits{HalfOpenPerSource: 8, IDsPerKey: 4, PendingDials: 32, MessageRate: 200,
		HandshakeRate: 500} // all come from four addresses; TestHandshakesOfOneSource is about that
	server, err := stuntd.Start(stuntd.Config{Listen: []string{"127.0.0.1:0"}, StateDir: t.TempDir(), Limits: limits,
		Relay: stuntd.Relay{Limits: relay.Limits{StreamsPerKey: 8, WaitingPerSource: 8}}})
	require.NoError(t, err)
	t.Cleanup(func() { server.Close() })
	c, err := newNodes(server.Address(), 25*time.Second)
	require.NoError(t, err)
	t.Cleanup(c.goHome)
	require.NoError(t, c.grow(Growth{0, honest, 1, 8}))
	require.EqualValues(t, honest, c.standing.Load())

	// What each has to show before it is enough, and what it may never have.
	type bound struct {
		enough func(*raiders) bool
		most   int64 // that the server did as it was asked; -1: any number
	}
	refused := func(r *raiders) bool { return r.refused.Load() > 20 }
	tried := func(r *raiders) bool { return r.tried.Load() > 20 }
	holding := func(n int64) func(*raiders) bool {
		return func(r *raiders) bool { return r.holding.Load() == n && refused(r) }
	}
	bounds := map[string]bound{
		"half-open":     {holding(raidSources * 8), 0}, // nobody was let in for good
		"handshakes":    {tried, -1},
		"slowloris":     {tried, -1}, // let in, and then out: TestMuxSilentClientsAreDropped, TestSlowFrame
		"garbage":       {refused, 0},
		"registrations": {refused, 32 * 4}, // so many keys of four names
		"stolen names":  {refused, 0},
		"dials at one":  {tried, -1},
		"no answers":    {refused, 16 * 32}, // so many callees of 32 calls
		"messages":      {tried, -1},        // what is more waits with the sender: TestFlood
		"slow readers":  {tried, -1},        // and are cut: TestSlowReaderIsCut
		"replays":       {refused, 0},
		"lies":          {tried, -1},
		"relay hogs":    {func(r *raiders) bool { return r.in.Load() > 0 && refused(r) }, 8},
		"relay strays":  {refused, 0},
	}
	for _, x := range raids {
		t.Run(x.name, func(t *testing.T) {
			want, ok := bounds[x.name]
			require.True(t, ok, "nothing is shown of it")
			r, err := newRaiders(server.Address(), 2000, honest)
			require.NoError(t, err)
			ctx, end := context.WithCancel(t.Context())
			over := make(chan struct{})
			go func() { // ends with ctx
				defer close(over)
				x.run(ctx, r)
			}()
			defer func() { end(); <-over }()
			require.Eventually(t, func() bool { return want.enough(r) }, 10*time.Second, time.Millisecond, "the limit is met")
			done := c.run(Dialling{Rate: 200, Last: honest, Step: 1, For: 100 * time.Millisecond})
			require.Positive(t, len(done.Answer))
			require.Zero(t, done.Failed, "honest nodes dial as before, %d did", len(done.Answer))
			end()
			<-over
			if want.most >= 0 {
				require.LessOrEqual(t, r.in.Load(), want.most, "%+v", r.told())
			}
			require.Zero(t, r.holding.Load())
		})
	}
	require.EqualValues(t, honest, c.standing.Load())
	require.Zero(t, c.lost.Load(), "not one of their sessions has ended")
}

// TestDocsNameTests: what docs/attacks.md says that something is shown by exists,
// and no attack is left out of its table.
func TestDocsNameTests(t *testing.T) {
	doc, err := os.ReadFile("../../docs/attacks.md")
	require.NoError(t, err)
	var tests strings.Builder
	err = filepath.WalkDir("../..", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		b, err := os.ReadFile(path)
		tests.Write(b)
		return err
	})
	require.NoError(t, err)
	named := regexp.MustCompile("`((?:Test|Fuzz)[A-Z]\\w*)`").FindAllStringSubmatch(string(doc), -1)
	require.NotEmpty(t, named)
	for _, m := range named {
		require.Contains(t, tests.String(), "\nfunc "+m[1]+"(", "docs/attacks.md")
	}
	for _, x := range raids {
		require.Contains(t, string(doc), "| **"+x.name+"**: "+x.about+" |", "go run ./cmd/siege -into docs/attacks.md")
	}
}
