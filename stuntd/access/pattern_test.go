package access

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Two fingerprints, as keys have them.
var (
	keyA = strings.Repeat("a", 52)
	keyB = strings.Repeat("b", 52)
)

func TestPatternMatches(t *testing.T) {
	for _, tt := range []struct {
		pattern string
		yes, no []string
	}{
		{"alice", []string{"alice"}, []string{"alic", "alicee", "", "*", keyA}},
		{"*", []string{"alice", "a", keyA}, nil},
		{"team-*", []string{"team-", "team-a", "team-a-b"}, []string{"team", "xteam-a", "TEAM-a", "team_a"}},
		{"*-db", []string{"a-db", "-db"}, []string{"db", "a-db-b"}},
		{"a*c*e", []string{"ace", "abcde", "acce"}, []string{"ac", "aec"}},
		{"a*", []string{"a", "alice"}, []string{keyA}}, // a key that begins with a is soon made
		{keyA, []string{keyA}, []string{keyB, "a"}},
		{"*a", []string{"a", "ba"}, []string{keyA, "a/a", "a\\"}},
	} {
		p, err := parsePattern(tt.pattern)
		require.NoError(t, err)
		set := patterns{}
		set.add(p)
		for _, id := range tt.yes {
			require.True(t, p.match(id) && set.match(id), "%s matches %q", p, id)
		}
		for _, id := range tt.no {
			require.False(t, p.match(id) || set.match(id), "%s does not match %q", p, id)
		}
	}
}

func TestPatternsThatAreNone(t *testing.T) {
	for _, s := range []string{"", "A", "a b", "a_b", "-a", "a-", "a?", "[a]", `a\*`, "**", "a**b", "ä", strings.Repeat("a", 64), strings.Repeat("a*", 32)} {
		_, err := parsePattern(s)
		require.Error(t, err, "%q", s)
	}
}
