package grid

import (
	"bufio"
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt"
	"github.com/gostunt/stunt/natlab"
)

var update = flag.Bool("update", false, "write testdata/grid.golden anew")

func TestMain(m *testing.M) { natlab.Main(m) }

// TestGolden measures what fits into a test run and compares who meets whom,
// and how, with the golden file. A pair that meets only sometimes is a failure
// whatever the file says, unless it depends on chance; so is a change for the
// better until the file has it.
func TestGolden(t *testing.T) {
	natlab.Need(t)
	t.Parallel()
	sides, err := Find("none", "eim-eif", "eim-apdf", "kernel", "eim-rst", "eim-icmp", "no-syn-in", "apdm-delta1")
	require.NoError(t, err)
	lists, err := FindLists("shared", "far")
	require.NoError(t, err)
	c := Config{Sides: sides, Lists: lists, N: 2, Seed: 1, RTT: 40 * time.Millisecond, Jobs: 32, TraceDir: t.TempDir()}
	g, err := Run(t.Context(), c)
	require.NoError(t, err)
	got := golden(g)
	file := filepath.Join("testdata", "grid.golden")
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(got), 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	for _, r := range g.results() {
		if line := goldenLine(r); !strings.Contains(string(want), line) {
			t.Errorf("not as in %s: %s%v\n%s", file, line, r.failure(), story(c.TraceDir, r.Case))
		}
	}
	if !t.Failed() {
		require.Equal(t, string(want), got, "the golden file has pairs that are not measured")
	}
}

// golden is what must stay: method and success of each pair, but not times and
// SYNs, which depend on the machine.
func golden(g *Grid) string {
	var b strings.Builder
	for _, r := range g.results() {
		b.WriteString(goldenLine(r))
	}
	return b.String()
}

func goldenLine(r *Result) string {
	met, word := "always", r.method()
	// Of two SYNs that could both arrive, the machine decides which is first.
	if m := r.Methods(); len(m) > 0 && (m[0] == stunt.Direct || m[0] == stunt.Reversed) {
		word = "direct"
	}
	switch {
	case r.OK() == 0:
		met = "never"
	case chancy(r.Case):
		met, word = "mostly", "foreseen" // by either end's SYN, of which each names its method
	case r.OK() < len(r.Dials):
		met = "SOMETIMES"
	}
	return fmt.Sprintf("%-45s %-10s %s\n", r.Case, word, met)
}

// chancy reports whether a pair meets by a port that has to be foreseen: one
// NAT gives each destination another, and the other one wants to know it.
func chancy(c Case) bool {
	perDestination := func(side string) bool { return strings.HasPrefix(side, "apdm-") }
	open := func(side string) bool { return side == "none" || side == "eim-eif" }
	return (perDestination(c.Listener) || perDestination(c.Dialer)) && !open(c.Listener) && !open(c.Dialer)
}

// story is what a trace tells of a case's dials, without the talk with the server.
func story(dir string, c Case) string {
	f, err := os.Open(filepath.Join(dir, c.file()+"-0.txt"))
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	var b strings.Builder
	dialling := false
	for sc := bufio.NewScanner(f); sc.Scan() && b.Len() < 1<<15; {
		line := sc.Text()
		dialling = dialling || strings.Contains(line, "-- dial 0")
		if dialling && !strings.Contains(line, ":3478 ") && !strings.Contains(line, ":3479 ") {
			b.WriteString(line + "\n")
		}
	}
	return b.String()
}

func TestRunEnds(t *testing.T) {
	natlab.Need(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Run(ctx, Config{Seed: 1})
	require.ErrorIs(t, err, context.Canceled)
}

// TestOrders holds the orders of others to what is known of them: they cross
// what the literature says, and STUNT-2 as it was published fails at a NAT that
// follows sequence numbers, as the SYN-ACK is another connection's.
func TestOrders(t *testing.T) {
	natlab.Need(t)
	t.Parallel()
	want := map[string]string{
		"eim-apdf from eim-apdf":    "stunt one connect same again STUNT-2",
		"kernel from kernel":        "stunt one connect same again",
		"apdm-delta1 from eim-apdf": "stunt STUNT-2", // foreseen by both
	}
	var cases []Case
	for _, c := range Compared() {
		c.Link = Link{} // one that loses packets proves nothing in two dials
		if want[c.sides()] != "" {
			cases = append(cases, c)
		}
	}
	g, err := Run(t.Context(), Config{Sides: []Side{}, Lists: []List{{"orders", "", cases}}, N: 2, Seed: 1, RTT: 40 * time.Millisecond})
	require.NoError(t, err)
	for _, r := range g.list("orders") {
		crosses := strings.Contains(want[r.Case.sides()], r.Case.order.String())
		require.Equal(t, crosses, r.OK() == len(r.Dials), "%v: %d of %d, %v", r.Case, r.OK(), len(r.Dials), r.failure())
		require.Equal(t, crosses, r.OK() > 0, "%v: %d of %d, %v", r.Case, r.OK(), len(r.Dials), r.failure())
	}
}

func TestStandstill(t *testing.T) {
	s := watch()
	defer s.close()
	began := time.Now()
	require.False(t, s.since(began))
	s.saw(began, began.Add(tooLong))
	require.False(t, s.since(began))
	s.saw(began, began.Add(2*tooLong))
	require.True(t, s.since(began))
	require.False(t, s.since(began.Add(2*tooLong)))
}

func TestSides(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range Sides() {
		require.False(t, seen[s.Name], "%s: a name stands for one behaviour", s.Name)
		require.NotEmpty(t, s.About)
		seen[s.Name] = true
	}
	require.GreaterOrEqual(t, len(Core()), 20)
	_, err := Find("none", "nonsense")
	require.ErrorContains(t, err, "nonsense")
}

func TestPerWorld(t *testing.T) {
	sides, err := Find("none", "eim-apdf")
	require.NoError(t, err)
	c := Config{Sides: sides, Lists: []List{}, N: 12, PerWorld: 5}.orDefault()
	jobs := newGrid(c).jobs()
	require.Len(t, jobs, 4*3)
	dials := map[*Result]int{}
	for _, j := range jobs {
		dials[j.result] += j.dials
		require.Equal(t, []int{5, 5, 2}[j.world], j.dials, "each world has another seed and its share")
	}
	require.Len(t, dials, 4)
	for _, n := range dials {
		require.Equal(t, 12, n, "every pair makes its dials, over as many worlds as that takes")
	}
}

func TestTraceCountsPunching(t *testing.T) {
	var b bytes.Buffer
	tr := &trace{file: &b, began: time.Now()}
	for _, line := range []string{
		"   1.000000 dialer         send               10.2.0.2:45793 > 198.18.128.1:42285 S seq 1 ack 0 len 0",
		"   1.000000 listener       send               10.1.0.2:42285 > [2001:db8::1]:45793 S seq 1 ack 0 len 0",
		"   1.000000 dialer         send               10.2.0.2:45793 > 198.18.0.1:3478 S seq 1 ack 0 len 0",
		"   1.000000 dialer         send               10.2.0.2:45793 > 198.18.128.1:42285 SA seq 1 ack 2 len 0",
		"   1.000000 dialer         receive            198.18.128.1:42285 > 10.2.0.2:45793 S seq 1 ack 0 len 0",
		"   1.000000 nat-dialer     out                198.18.128.2:45793 > 198.18.128.1:42285 S seq 1 ack 0 len 0",
		"   1.000000 server         send               198.18.0.1:41000 > 198.18.128.1:42285 S seq 1 ack 0 len 0",
		"",
	} {
		_, err := tr.Write([]byte(line + "\n"))
		require.NoError(t, err)
	}
	tr.note(dialerHost, "a step")
	require.Equal(t, 2, tr.count(), "the SYNs that nodes send to each other")
	require.Equal(t, 9, strings.Count(b.String(), "\n"), "everything is in the file")
}
