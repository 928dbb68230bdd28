package stuntd

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

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
	start(t, Config{Access: Access{Tokens: true, File: path}})

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
