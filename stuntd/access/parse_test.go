package access

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt/rendezvous"
)

func parse(t *testing.T, lines ...string) *Rules {
	t.Helper()
	r, err := ParseRules(strings.Join(lines, "\n"))
	require.NoError(t, err)
	return r
}

var here = netip.MustParseAddr("192.0.2.1")

func TestEmptyRulesAllowEverything(t *testing.T) {
	for _, r := range []*Rules{nil, parse(t, ""), parse(t, "# nothing", "", "   \t # here \r")} {
		require.NoError(t, r.mayCome(keyA, here, "token"))
		require.NoError(t, r.mayHave(keyA, "alice"))
		require.True(t, r.mayDial(keyA, nil, "bob"))
	}
}

func TestWhoMayCome(t *testing.T) {
	id := strings.Repeat("a", tokenIDLen)
	for _, tt := range []struct {
		rules string
		from  string
		want  rendezvous.Code
	}{
		{"deny key " + keyA, "192.0.2.1", rendezvous.CodeNotAllowed},
		{"deny key " + keyB, "192.0.2.1", rendezvous.CodeNone},
		{"allow key " + keyB, "192.0.2.1", rendezvous.CodeNotAllowed},
		{"allow key " + keyB + "\nallow key " + keyA, "192.0.2.1", rendezvous.CodeNone},
		{"allow key " + keyA + "\ndeny key " + keyA, "192.0.2.1", rendezvous.CodeNotAllowed},
		{"deny from 192.0.2.0/24", "192.0.2.1", rendezvous.CodeNotAllowed},
		{"deny from 192.0.2.0/24", "::ffff:192.0.2.1", rendezvous.CodeNotAllowed},
		{"deny from 192.0.2.0/24", "192.0.3.1", rendezvous.CodeNone},
		{"deny from ::/0", "192.0.2.1", rendezvous.CodeNone},
		{"deny from 0.0.0.0/0", "192.0.2.1", rendezvous.CodeNotAllowed},
		{"deny from 2001:db8::/32", "2001:db8:1::1", rendezvous.CodeNotAllowed},
		{"deny from 2001:db8::1", "2001:db8::1", rendezvous.CodeNotAllowed},
		{"deny from 2001:db8::1", "2001:db8::2", rendezvous.CodeNone},
		{"deny from fe80::1", "fe80::1%eth0", rendezvous.CodeNotAllowed},
		{"allow from 10.0.0.0/8", "192.0.2.1", rendezvous.CodeNotAllowed},
		{"allow from 10.0.0.0/8\nallow from 192.0.2.1", "192.0.2.1", rendezvous.CodeNone},
		{"allow from 10.0.0.0/8\ndeny from 10.1.0.0/16", "10.1.2.3", rendezvous.CodeNotAllowed},
		{"allow from 10.0.0.0/8\nallow key " + keyB, "10.1.2.3", rendezvous.CodeNotAllowed}, // both, not one of them
		{"deny token " + id, "192.0.2.1", rendezvous.CodeBadToken},
	} {
		err := parse(t, tt.rules).mayCome(keyA, netip.MustParseAddr(tt.from), id)
		if tt.want == rendezvous.CodeNone {
			require.NoError(t, err, tt.rules)
		} else {
			require.ErrorIs(t, err, tt.want, "%s from %s", tt.rules, tt.from)
		}
	}
	require.NoError(t, parse(t, "deny token "+id).mayCome(keyA, here, ""), "who has no token has not that one")
	require.Error(t, parse(t, "allow from 10.0.0.0/8").mayCome(keyA, netip.Addr{}, ""), "from where is not known is not from there")
}

func TestWhoMayHaveAName(t *testing.T) {
	r := parse(t, "allow name team-*", "allow name alice", "deny name team-root",
		"reserve team-a "+keyA+" "+keyB, "reserve team-b "+keyB, "reserve team-* "+keyA)
	for name, may := range map[string][2]bool{ // A, B
		"alice": {true, true}, "bob": {}, "team-root": {}, "team-a": {true, true}, "team-b": {false, true},
		"team-c": {true, false}, "": {true, true},
	} {
		for i, key := range []string{keyA, keyB} {
			err := r.mayHave(key, name)
			require.Equal(t, may[i], err == nil, "%s for %s: %v", name, key[:1], err)
			require.True(t, err == nil || errors.Is(err, rendezvous.CodeNotAllowed))
		}
	}
	require.NoError(t, r.mayHave(keyA, keyA), "its own fingerprint")
	require.Error(t, r.mayHave(keyA, keyB), "no rule, but no name of anybody's either")
}

func TestWhoMayDialWhom(t *testing.T) {
	r := parse(t, "dial team-* ops -> db-* web", "dial "+keyA+" -> secret", "dial * -> public", "dial boss -> * # all of them")
	for _, tt := range []struct {
		key   string
		names []string
		whom  string
		may   bool
	}{
		{keyB, nil, "public", true},
		{keyB, nil, "web", false},
		{keyB, nil, keyA, false},
		{keyB, []string{"x", "team-1"}, "web", true},
		{keyB, []string{"ops"}, "db-1", true},
		{keyB, []string{"ops"}, "secret", false},
		{keyB, []string{"ops"}, "webx", false},
		{keyA, nil, "secret", true},
		{keyA, nil, "db-1", false},
		{keyB, []string{"boss"}, "secret", true},
		{keyB, []string{"boss"}, keyA, true},
	} {
		require.Equal(t, tt.may, r.mayDial(tt.key, tt.names, tt.whom), "%+v", tt)
	}
}

func TestRulesThatAreNone(t *testing.T) {
	for line, want := range map[string]string{
		"permit key " + keyA:                      `no rule "permit"`,
		"Deny key " + keyA:                        `no rule "Deny"`,
		"deny":                                    "0 words",
		"deny key":                                "1 words",
		"deny key " + keyA + " " + keyB:           "3 words",
		"deny key alice":                          `"alice" is not the fingerprint`,
		"deny keys " + keyA:                       `"keys" is neither`,
		"allow token " + strings.Repeat("a", 16):  "by its signature",
		"deny token a":                            "not the id of a token",
		"deny token " + strings.Repeat("A", 16):   "not the id of a token",
		"deny from nowhere":                       "neither an IP address nor a prefix",
		"deny from 10.1.2.3/8":                    "is it 10.0.0.0/8?",
		"deny from 10.0.0.0/33":                   "neither",
		"deny from ::ffff:10.0.0.0/104":           "write it as IPv4",
		"deny from fe80::1%eth0":                  "neither",
		"deny name a_b":                           "no name",
		"reserve alice":                           "the keys that such names are for",
		"reserve alice bob":                       "not the fingerprint",
		"reserve " + keyA + " " + keyA:            "belongs to its key anyway",
		"dial":                                    "dial wants",
		"dial a b":                                "dial wants",
		"dial -> b":                               "dial wants",
		"dial a ->":                               "dial wants",
		"dial a->b":                               "dial wants",
		"dial a -> b -> c":                        "no name",
		"dial a? -> b":                            "no name",
		"dial a -> " + strings.Repeat("b", 64):    "64 characters",
		"\ufeffdial a -> b":                       "no rule",
		strings.Repeat("x", 1000):                 "…",
		"deny name a\x00b":                        "no name",
		"allow from " + strings.Repeat("1", 1000): "neither",
	} {
		_, err := ParseRules("# first\n\nallow name *\n" + line + "\ndeny name x\n")
		require.ErrorContains(t, err, want)
		var at *LineError
		require.ErrorAs(t, err, &at, line)
		require.Equal(t, 4, at.Line, line)
		require.Less(t, len(err.Error()), 300, "an error is one line")
	}
}

func TestRulesAreBounded(t *testing.T) {
	_, err := ParseRules(strings.Repeat("#", MaxRules+1))
	require.Error(t, err)
	var b strings.Builder
	for i := range maxDialRules + 1 {
		fmt.Fprintf(&b, "dial a -> b-%d\n", i)
	}
	_, err = ParseRules(b.String())
	var at *LineError
	require.ErrorAs(t, err, &at)
	require.Equal(t, maxDialRules+1, at.Line)
}

// FuzzRules: whatever a file says, it is refused at a line of it, or can be asked.
func FuzzRules(f *testing.F) {
	f.Add("deny key "+keyA+"\nallow from 10.0.0.0/8\n", "alice", []byte{10, 0, 0, 1})
	f.Add("reserve a* "+keyA+" # x\r\n\ndial a *-b "+keyB+" -> *\n", "a-b", make([]byte, 16))
	f.Add("dial -> \n", "->", []byte(nil))
	f.Fuzz(func(t *testing.T, text, id string, ip []byte) {
		r, err := ParseRules(text)
		if err != nil {
			var at *LineError
			if !errors.As(err, &at) || at.Line < 1 || at.Line > 1+strings.Count(text, "\n") {
				t.Fatalf("no line: %v", err)
			}
			return
		}
		a, _ := netip.AddrFromSlice(ip)
		come := r.mayCome(id, a, id)
		if has(r.deny.keys, id) && come == nil {
			t.Fatal("a denied key may come")
		}
		r.mayHave(id, id+"x")
		if len(r.dials) == 0 && !r.mayDial(id, []string{id}, id) {
			t.Fatal("no rule is no obstacle")
		}
		// Blank lines mean nothing.
		again, err := ParseRules("#\n" + strings.ReplaceAll(text, "\n", " \n\n"))
		if err != nil {
			t.Fatalf("with blank lines in it: %v", err)
		}
		if c := again.mayCome(id, a, id); (c == nil) != (come == nil) {
			t.Fatalf("with blank lines in it: %v, was %v", c, come)
		}
	})
}

func BenchmarkMayDial(b *testing.B) {
	var text strings.Builder
	for i := range maxDialRules {
		fmt.Fprintf(&text, "dial team-%d-* -> *-db-%d\n", i, i)
	}
	r, err := ParseRules(text.String())
	require.NoError(b, err)
	for b.Loop() {
		r.mayDial(keyA, []string{"team-4095-x"}, "a-db-4095")
	}
}
