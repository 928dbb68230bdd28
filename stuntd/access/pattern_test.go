package access

import (
	"path"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt/rendezvous"
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
		{"*a", []string{"a", "ba", "a/a"}, []string{keyA, "a\\"}},
		{"a*a", []string{"aa", "aba"}, []string{"a"}}, // not one a for both ends
		{"*b*b*", []string{"bb", "abcbd"}, []string{"b", "abc"}},
		{"a*bc*c", []string{"abcc", "abcbcc"}, []string{"abc"}},
	} {
		p, err := parsePattern(tt.pattern)
		require.NoError(t, err)
		set := patterns{}
		set.add(p)
		for _, id := range tt.yes {
			require.True(t, p.match(id) && set.match(id), "%s matches %q", tt.pattern, id)
		}
		for _, id := range tt.no {
			require.False(t, p.match(id) || set.match(id), "%s does not match %q", tt.pattern, id)
		}
	}
}

func TestPatternsThatAreNone(t *testing.T) {
	for _, s := range []string{"", "A", "a b", "a_b", "-a", "a-", "a?", "[a]", `a\*`, "**", "a**b", "ä", strings.Repeat("a", 64), strings.Repeat("a*", 32)} {
		_, err := parsePattern(s)
		require.Error(t, err, "%q", s)
	}
}

// FuzzPattern holds the pattern against path.Match, of whose special characters
// only * can be in one.
func FuzzPattern(f *testing.F) {
	f.Add("team-*", "team-a")
	f.Add("a*b*c", "abbc")
	f.Fuzz(func(t *testing.T, text, id string) {
		p, err := parsePattern(text)
		if err != nil || strings.ContainsRune(id, '/') || !utf8.ValidString(id) || rendezvous.IsFingerprint(id) {
			return
		}
		if want, err := path.Match(text, id); err != nil || p.match(id) != want {
			t.Fatalf("%q and %q: %v, not %v (%v)", text, id, !want, want, err)
		}
	})
}
