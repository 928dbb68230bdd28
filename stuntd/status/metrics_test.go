package status

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt/probe"
	"github.com/gostunt/stunt/relay"
	"github.com/gostunt/stunt/rendezvous"
)

// TestMetricsAreDocumented compares the table of docs/operate.md with what there
// is: names and labels.
func TestMetricsAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/operate.md")
	require.NoError(t, err)
	var got []string
	for _, row := range regexp.MustCompile("(?m)^\\| `(stuntd_[a-z_]+(?:\\{[a-z_,]+\\})?)` \\|").FindAllStringSubmatch(string(page), -1) {
		got = append(got, row[1])
	}
	want := []string{"stuntd_dial_answer_seconds", "stuntd_dial_connect_seconds{method}"}
	for _, m := range metrics {
		name := m.name
		for i, l := range m.labels {
			name += map[bool]string{true: "{", false: ","}[i == 0] + l
		}
		if len(m.labels) > 0 {
			name += "}"
		}
		want = append(want, name)
	}
	require.ElementsMatch(t, want, got)
	for _, name := range regexp.MustCompile("stuntd_[a-z_]+").FindAllString(string(page), -1) { // alerts too
		require.True(t, slices.ContainsFunc(want, func(w string) bool { return w == name || strings.HasPrefix(w, name+"{") }), name)
	}
}

// TestLimitsAreKnown: what the parts count has a place in the list, and a word
// for the operator.
func TestLimitsAreKnown(t *testing.T) {
	names := limitNames()
	for _, name := range rendezvous.LimitNames() {
		require.Contains(t, names, name)
	}
	for name := range new(probe.Server).Stats().Met {
		require.Contains(t, names, name)
	}
	for name := range new(relay.Server).Stats().Met {
		require.Contains(t, names, name)
	}
	b := New(Config{Meet: new(rendezvous.Server), STUN: new(probe.Server)})
	b.Limited("what-nobody-has-heard-of")
	b.Limited("half_open")
	require.Equal(t, int64(1), b.met()[limitOther])
	require.Equal(t, int64(1), b.met()["half_open"])
	require.Equal(t, len(limits), len(b.met()), "all are there from the beginning")
	require.True(t, slices.ContainsFunc(b.limitRows(), func(r limitRow) bool { return r.Flag == "-max-half-open" && r.Count == "1" }))
}
