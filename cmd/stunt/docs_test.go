package main

import (
	"fmt"
	"maps"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt/probe"
)

var (
	helpFlag    = regexp.MustCompile(`(?m)^  -(\S+)(?: (\S+))?(?:\n    )?\t(.*)$`)
	helpDefault = regexp.MustCompile(`\(default "?(.*?)"?\)$`)
	docFlag     = regexp.MustCompile("(?m)^\\| `--?([a-z0-9-]+)(?: (\\S+))?` \\| (?:`(.*?)`)? *\\| .+ \\|$")
)

// TestFlagsAreDocumented compares the tables of docs/cli.md with what -h says:
// the same flags, the same names for their values, the same defaults.
func TestFlagsAreDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/cli.md")
	require.NoError(t, err)
	_, summary, _ := strings.Cut(string(doc), "| command |")
	summary, _, _ = strings.Cut(summary, "\n\n")
	for _, c := range commands {
		if c.hidden {
			continue
		}
		require.Contains(t, summary, "(#stunt-"+c.name+")", "the list at the top")
		_, section, found := strings.Cut(string(doc), "\n## stunt "+c.name+"\n")
		require.True(t, found, "docs/cli.md has a section on stunt %s", c.name)
		section, _, _ = strings.Cut(section, "\n## ")
		if c.name == "serve" {
			continue // docs/server.md, which stuntd compares
		}
		args := []string{c.name, "-h"}
		if c.name == "lab" {
			args = []string{c.name, "grid", "-h"}
		}
		_, help, _ := call(t, "", args...)
		want := map[string]bool{}
		for _, m := range helpFlag.FindAllStringSubmatch(help, -1) {
			def := ""
			if d := helpDefault.FindStringSubmatch(m[3]); d != nil {
				def = d[1]
			} else if m[2] == "" {
				def = "false" // flag does not say so
			}
			want[fmt.Sprintf("-%s %s default %q", m[1], m[2], def)] = true
		}
		got := map[string]bool{}
		for _, m := range docFlag.FindAllStringSubmatch(section, -1) {
			got[fmt.Sprintf("-%s %s default %q", m[1], m[2], m[3])] = true
		}
		require.NotEmpty(t, want)
		require.Equal(t, slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(got)), "stunt %s: -h and docs/cli.md", c.name)
	}
}

// TestProbeExample holds the example of stunt probe in docs/cli.md against what
// the command prints: the same keys in the same order.
func TestProbeExample(t *testing.T) {
	doc, err := os.ReadFile("../../docs/cli.md")
	require.NoError(t, err)
	_, example, found := strings.Cut(string(doc), "$ stunt probe\n")
	require.True(t, found)
	example, _, _ = strings.Cut(example, "```")
	var b strings.Builder
	r := probe.Report{Time: time.Now(), IPv6: probe.IPv6{Public: netip.IPv6Loopback()}}
	require.NoError(t, r.WriteText(&b))
	require.Equal(t, keys(b.String()), keys(example))
}

// keys returns those of a report, without what is there once or more often.
func keys(report string) (all []string) {
	for line := range strings.Lines(report) {
		if key, _, _ := strings.Cut(line, ": "); key != "verdict" && key != "ambiguous" {
			all = append(all, key)
		}
	}
	return all
}
