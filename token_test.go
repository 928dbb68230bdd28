package stunt_test

import (
	"bufio"
	"bytes"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt"
	"github.com/gostunt/stunt/rendezvous"
	"github.com/gostunt/stunt/stuntd"
)

// A server that asks for tokens lets in who has one, and tells others why not.
func TestToken(t *testing.T) {
	state := t.TempDir()
	s, err := stuntd.Start(stuntd.Config{Listen: []string{"127.0.0.1:0"}, StateDir: state, Access: stuntd.Access{Tokens: true}})
	require.NoError(t, err)
	defer s.Close()
	token := func(args ...string) string {
		var out, stderr bytes.Buffer
		require.Zero(t, stuntd.Main(t.Context(), append([]string{"token", "new", "-state", state}, args...), &out, &stderr), stderr.String())
		return strings.TrimSpace(out.String())
	}
	node := func(token string) *stunt.Node {
		n := &stunt.Node{Config: stunt.Config{Server: s.Address(), ID: "alice", Token: token, NoPortMapping: true}}
		t.Cleanup(func() { n.Close() })
		return n
	}
	file := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(file, []byte(token("-names", "alice")+"\n"), 0o600))
	ln, err := node("@"+file).Listen(t.Context(), 80)
	require.NoError(t, err)
	defer ln.Close()

	_, err = node(token("-names", "team-*")).Listen(t.Context(), 80)
	require.ErrorIs(t, err, stunt.ErrNotAuthorized, "another name than its own")
	require.ErrorIs(t, err, rendezvous.CodeNotAllowed)
	for text, code := range map[string]rendezvous.Code{"": rendezvous.CodeTokenRequired, "stunt1.abc": rendezvous.CodeBadToken} {
		_, err = node(text).Dial(t.Context(), "stunt", "alice:80")
		require.ErrorIs(t, err, stunt.ErrNotAuthorized)
		require.ErrorIs(t, err, code)
	}
	_, err = node(token("-listen", "-names", "bob")).Dial(t.Context(), "stunt", "alice:80")
	require.ErrorIs(t, err, stunt.ErrNotAuthorized, "it may listen, and not dial")

	for _, text := range []string{"@", strings.Repeat("t", rendezvous.MaxToken+1)} {
		require.ErrorContains(t, node(text).Up(t.Context()), "Config.Token")
	}
}

// A node that is shut out while it listens says so, though nobody asks it.
func TestShutOut(t *testing.T) {
	rules := filepath.Join(t.TempDir(), "rules")
	require.NoError(t, os.WriteFile(rules, nil, 0o600))
	s, err := stuntd.Start(stuntd.Config{Listen: []string{"127.0.0.1:0"}, StateDir: t.TempDir(), Access: stuntd.Access{File: rules}})
	require.NoError(t, err)
	defer s.Close()
	said, log := io.Pipe()
	n := &stunt.Node{Config: stunt.Config{Server: s.Address(), NoPortMapping: true,
		Logger: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelWarn}))}}
	defer n.Close()
	ln, err := n.Listen(t.Context(), 80)
	require.NoError(t, err)
	defer ln.Close()
	defer said.Close() // first: nobody reads then
	require.NoError(t, os.WriteFile(rules, []byte("deny key "+stunt.Fingerprint(n.Key())), 0o600))
	s.Reload()
	line, err := bufio.NewReader(said).ReadString('\n')
	require.NoError(t, err)
	require.Contains(t, line, "session ended for good")
	require.Contains(t, line, "this key is denied")
	_, err = n.Dial(t.Context(), "stunt", "alice:80")
	require.ErrorIs(t, err, stunt.ErrNotAuthorized)
	for range 2 { // http.Serve gives up, and whoever asks again hears it again
		_, err = ln.Accept()
		require.ErrorIs(t, err, stunt.ErrNotAuthorized)
		require.NotErrorIs(t, err, net.ErrClosed)
	}
	require.NoError(t, ln.Close())
	_, err = ln.Accept()
	require.ErrorIs(t, err, net.ErrClosed)
}
