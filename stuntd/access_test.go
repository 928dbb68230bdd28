package stuntd

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt/rendezvous"
)

// token runs stuntd token and returns what it prints.
func token(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	var out, err bytes.Buffer
	require.Zero(t, tokenMain(args, strings.NewReader(stdin), &out, &err), "%s", err.String())
	require.Empty(t, err.String())
	return strings.TrimSpace(out.String())
}

func with(text string) rendezvous.ClientConfig {
	return rendezvous.ClientConfig{Token: func() (string, error) { return text, nil }}
}

func TestTokensLetIn(t *testing.T) {
	state := t.TempDir()
	// Before the server has ever run, as well as beside it.
	team := token(t, "", "new", "-state", state, "-names", "team-*,ops", "-expires", "12h")
	s := start(t, Config{StateDir: state, Access: Access{Tokens: true}})
	guest := token(t, "", "new", "-state", state, "-dial")

	a := client(t, s, with(team))
	require.NoError(t, a.Register(t.Context(), "team-a"))
	require.NoError(t, a.Register(t.Context(), "ops"))
	require.ErrorIs(t, a.Register(t.Context(), "alice"), rendezvous.CodeNotAllowed)

	g := client(t, s, with(guest))
	require.ErrorIs(t, g.Register(t.Context(), ""), rendezvous.CodeNotAllowed, "it may dial, and nothing else")
	w, err := g.Ready(t.Context())
	require.NoError(t, err)
	require.Empty(t, w.Relays)
	_, err = g.Lookup(t.Context(), "ops")
	require.NoError(t, err)

	other := token(t, "", "new", "-state", t.TempDir())
	for text, code := range map[string]rendezvous.Code{"": rendezvous.CodeTokenRequired, other: rendezvous.CodeBadToken} {
		_, err := client(t, s, with(text)).Ready(t.Context())
		require.ErrorIs(t, err, code)
		final := &rendezvous.FinalError{}
		require.ErrorAs(t, err, &final, "nobody tries that again")
	}
}

func TestTokenCommand(t *testing.T) {
	state := t.TempDir()
	key := strings.Repeat("a", 52)
	text := token(t, "", "new", "-state", state, "-names", "team-*", "-names", "ops", "-listen", "-relay", "-key", key, "-expires", "2d")
	for _, got := range []string{token(t, "", "show", "-state", state, text), token(t, text+"\n", "show", "-state", state)} {
		require.Regexp(t, `(?s)^id +[a-z2-7]{16}\nnames +team-\*, ops\nrights +listen, relay\nfor +`+key+`\nissued +\S+\nexpires +\S+$`, got)
	}
	forever := token(t, "", "new", "-state", state, "-expires", "never")
	require.Regexp(t, `(?s)names +none\nrights +listen, dial, relay\nfor +whoever has it\n.*expires +never$`, token(t, forever, "show", "-state", state))

	public := filepath.Join(t.TempDir(), "public.pem")
	pub, _, err := readTokenKey(filepath.Join(state, "token.key"))
	require.NoError(t, err)
	der, err := x509.MarshalPKIXPublicKey(pub)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(public, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600))
	token(t, text, "show", "-token-key", public) // the half of the key that a server needs
	s := start(t, Config{Access: Access{Tokens: true, TokenKey: public}})
	_, err = client(t, s, with(forever)).Ready(t.Context())
	require.NoError(t, err)

	for _, tt := range []struct {
		args []string
		code int
		err  string
	}{
		{nil, 2, "wants new, or show"},
		{[]string{"old"}, 2, "wants new, or show"},
		{[]string{"new", "x"}, 2, "wants new, or show"},
		{[]string{"new", "-bogus"}, 2, "-bogus"},
		{[]string{"new", "-expires", "soon"}, 2, "neither 30d"},
		{[]string{"new", "-expires", "-1h"}, 2, "neither 30d"},
		{[]string{"new", "-expires", "99999999999d"}, 2, "neither 30d"},
		{[]string{"new", "-state", state, "-names", "A"}, 1, `"A"`},
		{[]string{"new", "-state", state, "-dial", "-names", "a"}, 1, "no right to listen"},
		{[]string{"new", "-token-key", public}, 1, "only the public half"},
		{[]string{"show", "-state", state, text + "x"}, 1, "not a good token"},
		{[]string{"show", "-state", t.TempDir(), text}, 1, "token.key"},
	} {
		var out, stderr bytes.Buffer
		require.Equal(t, tt.code, Main(t.Context(), append([]string{"token"}, tt.args...), &out, &stderr), tt.args)
		require.Contains(t, stderr.String(), tt.err)
		require.Equal(t, 1, strings.Count(stderr.String(), "\n"), stderr.String())
		require.Empty(t, out.String())
	}
}

func TestTokenKeyIsNotReplaced(t *testing.T) {
	for name, text := range map[string]string{"empty": "", "of another kind": "-----BEGIN PRIVATE KEY-----\nMIGH\n-----END PRIVATE KEY-----\n"} {
		state := t.TempDir()
		path := filepath.Join(state, "token.key")
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		_, err := Start(Config{Listen: []string{"127.0.0.1:0"}, StateDir: state, Access: Access{Tokens: true}})
		require.ErrorContains(t, err, path, name)
		kept, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, text, string(kept), "all tokens that were given out depend on it")
	}
}

// A book is a file of rules, and what the server says about it.
type book struct {
	t    *testing.T
	path string
	mu   sync.Mutex // guards following
	log  bytes.Buffer
}

func newBook(t *testing.T, lines ...string) *book {
	b := &book{t: t, path: filepath.Join(t.TempDir(), "rules")}
	b.write(lines...)
	return b
}

func (b *book) write(lines ...string) {
	require.NoError(b.t, os.WriteFile(b.path, []byte(strings.Join(lines, "\n")), 0o600))
}

func (b *book) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.log.Write(p)
}

func (b *book) logged() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.log.String()
}

func (b *book) waitLog(text string) {
	b.t.Helper()
	require.Eventually(b.t, func() bool { return strings.Contains(b.logged(), text) }, 20*time.Second, time.Millisecond, text)
}

func (b *book) start() *Server {
	return start(b.t, Config{Access: Access{File: b.path}, Logger: slog.New(slog.NewTextHandler(b, nil))})
}

func newKey(t *testing.T) (ed25519.PrivateKey, string) {
	public, private, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	return private, rendezvous.Fingerprint(public)
}

func TestRulesHold(t *testing.T) {
	alice, aliceID := newKey(t)
	denied, deniedID := newKey(t)
	b := newBook(t, "deny key "+deniedID, "reserve alice "+aliceID, "deny name admin", "dial alice -> bob", "dial * -> alice")
	s := b.start()
	_, err := client(t, s, rendezvous.ClientConfig{Key: denied}).Ready(t.Context())
	require.ErrorIs(t, err, rendezvous.CodeNotAllowed)

	a := client(t, s, rendezvous.ClientConfig{Key: alice})
	bob := client(t, s, rendezvous.ClientConfig{})
	require.ErrorIs(t, bob.Register(t.Context(), "alice"), rendezvous.CodeNotAllowed, "though nobody has it yet")
	require.ErrorIs(t, bob.Register(t.Context(), "admin"), rendezvous.CodeNotAllowed)
	require.NoError(t, bob.Register(t.Context(), "bob"))
	require.NoError(t, a.Register(t.Context(), "alice"))
	_, err = bob.Lookup(t.Context(), "alice")
	require.NoError(t, err)
	_, err = a.Lookup(t.Context(), "bob")
	require.NoError(t, err)
	eve := client(t, s, rendezvous.ClientConfig{})
	_, err = eve.Lookup(t.Context(), "bob")
	require.ErrorIs(t, err, rendezvous.CodeUnknownPeer)
}

func TestRulesAreReadAgain(t *testing.T) {
	key, id := newKey(t)
	b := newBook(t, "# nobody is denied")
	s := b.start()
	ended := make(chan error, 16)
	c := client(t, s, rendezvous.ClientConfig{Key: key, OnDown: func(err error) { ended <- err }})
	_, err := c.Ready(t.Context())
	require.NoError(t, err)

	b.write("deny key "+id, "denny key "+id)
	s.Reload()
	b.waitLog("line 2: there is no rule")
	require.Contains(t, b.logged(), "keeping the access rules in use")
	c.Check()
	_, err = c.Lookup(t.Context(), "nobody")
	require.ErrorIs(t, err, rendezvous.CodeUnknownPeer, "no half of a broken file is used")

	require.NoError(t, os.Remove(b.path))
	s.Reload()
	b.waitLog("rules: no such file")

	b.write("deny key " + id)
	s.Reload()
	b.waitLog("access rules read")
	require.ErrorIs(t, <-ended, rendezvous.CodeNotAllowed, "it ends who was in")
	_, err = c.Ready(t.Context())
	require.ErrorIs(t, err, rendezvous.CodeNotAllowed)
}

// Rules take a name from a key that may not have it any more, and all from one that
// is denied, also what is only held: here and, with a file of names, after a restart.
func TestRulesTakeNames(t *testing.T) {
	squatter, squatterID := newKey(t)
	owner, ownerID := newKey(t)
	b := newBook(t, "# all may have all")
	cfg := Config{StateDir: t.TempDir(), NameHold: 24 * time.Hour, Names: filepath.Join(t.TempDir(), "names"),
		Access: Access{File: b.path}, Logger: slog.New(slog.NewTextHandler(b, nil))}
	s := start(t, cfg)
	lost := make(chan string, 16)
	c := client(t, s, rendezvous.ClientConfig{Key: squatter, OnLost: func(id string, _ error) { lost <- id }})
	for _, name := range []string{"ops", "laptop"} {
		require.NoError(t, c.Register(t.Context(), name))
	}
	rightful := client(t, s, rendezvous.ClientConfig{Key: owner})
	require.ErrorIs(t, rightful.Register(t.Context(), "ops"), rendezvous.CodeIDTaken)

	b.write("reserve ops " + ownerID)
	s.Reload()
	require.Equal(t, "ops", <-lost)
	require.NoError(t, rightful.Register(t.Context(), "ops"))

	other := client(t, s, rendezvous.ClientConfig{})
	require.ErrorIs(t, other.Register(t.Context(), "laptop"), rendezvous.CodeIDTaken)
	require.NoError(t, s.Close())
	b.write("deny key " + squatterID)
	s = start(t, cfg)
	other = client(t, s, rendezvous.ClientConfig{})
	require.NoError(t, other.Register(t.Context(), "laptop"), "what was kept on disk is looked at, too")
	require.ErrorIs(t, other.Register(t.Context(), "ops"), rendezvous.CodeIDTaken, "the rest is held")
}

// A file that somebody is writing is not taken for what it is at that moment.
func TestRulesAreReadWhenTheyHaveSettled(t *testing.T) {
	b := newBook(t, "deny name a")
	gate, file, err := (&Config{Access: Access{File: b.path}}).gate()
	require.NoError(t, err)
	require.NotNil(t, gate)
	load := func() bool {
		loaded, err := file.load()
		require.NoError(t, err)
		return loaded
	}
	require.False(t, load(), "it is as it was")
	b.write() // as an editor begins
	require.False(t, load())
	b.write("deny name a", "deny name b")
	require.False(t, load())
	require.True(t, load(), "twice the same")
	require.False(t, load())
	b.write("deny name c", "deny name d")
	file.forget()
	require.True(t, load(), "or when somebody says that it is done")
}

func TestServerDoesNotStartWithBrokenRules(t *testing.T) {
	b := newBook(t, "", "deny everybody")
	_, err := Start(Config{Listen: []string{"127.0.0.1:0"}, StateDir: t.TempDir(), Access: Access{File: b.path}})
	require.ErrorContains(t, err, b.path+": line 2: ")
	_, err = Start(Config{Listen: []string{"127.0.0.1:0"}, StateDir: t.TempDir(), Access: Access{File: b.path + "x"}})
	require.ErrorIs(t, err, os.ErrNotExist)
}
