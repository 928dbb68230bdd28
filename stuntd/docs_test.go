package stuntd

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt/rendezvous"
	"github.com/gostunt/stunt/stuntd/access"
)

// TestUnit: the flags of the systemd unit are ones, and the folder that it writes
// to is the one that it has.
func TestUnit(t *testing.T) {
	unit, err := os.ReadFile("../deploy/stuntd.service")
	require.NoError(t, err)
	start := regexp.MustCompile(`(?m)^ExecStart=/usr/local/bin/stuntd (.*)$`).FindStringSubmatch(string(unit))
	require.NotNil(t, start)
	var o options
	_, err = o.parse(strings.Fields(start[1]))
	require.NoError(t, err)
	require.Equal(t, "/var/lib/stuntd", filepath.Dir(o.Record))
	require.Contains(t, string(unit), "\nStateDirectory=stuntd\n")
	require.True(t, o.Admin.local())
}

// TestDocumentedRules takes the example of docs/server.md for what it is said
// to be: a server for a team, with a guest who may reach one machine.
func TestDocumentedRules(t *testing.T) {
	page, err := os.ReadFile("../docs/server.md")
	require.NoError(t, err)
	m := regexp.MustCompile("(?s)```\n# /etc/stuntd/access\n(.*?)```").FindStringSubmatch(string(page))
	require.NotNil(t, m)
	require.Contains(t, m[1], "dial guest -> team-printer")
	path := filepath.Join(t.TempDir(), "access")
	require.NoError(t, os.WriteFile(path, []byte(m[1]), 0o600))
	state := t.TempDir()
	s := start(t, Config{StateDir: state, Access: Access{Tokens: true, File: path}})
	shown := func(names string) *rendezvous.Client {
		return client(t, s, with(token(t, "", "new", "-state", state, "-names", names)))
	}
	printer, guest, team := shown("team-*"), shown("guest"), shown("team-*")
	require.NoError(t, printer.Register(t.Context(), "team-printer"))
	require.NoError(t, printer.Register(t.Context(), "team-files"))
	require.ErrorIs(t, shown("ops").Register(t.Context(), "ops"), rendezvous.CodeNotAllowed, "another key than the reserved")
	for _, tt := range []struct {
		who  *rendezvous.Client
		whom string
		may  bool
	}{{guest, "team-printer", true}, {guest, "team-files", false}, {team, "team-printer", true}, {team, "team-files", true}} {
		if _, err := tt.who.Lookup(t.Context(), tt.whom); tt.may {
			require.NoError(t, err, tt.whom)
		} else {
			require.ErrorIs(t, err, rendezvous.CodeUnknownPeer, tt.whom)
		}
	}

	// All rules of the table are ones, whatever stands in for the capitals.
	fill := strings.NewReplacer("FINGERPRINT", strings.Repeat("a", 52), "KEY…", strings.Repeat("a", 52), "PREFIX", "10.0.0.0/8",
		"PATTERN", "a*", "ID", strings.Repeat("a", 16), "WHO…", "a b", "WHOM…", "c")
	rows := regexp.MustCompile("(?m)^\\| `((?:deny|allow|reserve|dial) [^`]+)` \\|").FindAllStringSubmatch(string(page), -1)
	require.Len(t, rows, 9)
	for _, row := range rows {
		_, err := access.ParseRules(fill.Replace(row[1]))
		require.NoError(t, err, row[1])
	}
}
