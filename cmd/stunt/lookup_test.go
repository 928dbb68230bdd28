package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt/stuntd"
)

// TestLookup asks for a peer before and after a dial of it.
func TestLookup(t *testing.T) {
	address := server(t)
	key, _ := newKey(t)
	lookup := func(id, key string, args ...string) (int, string, string) {
		return call(t, "", append([]string{"lookup", id, "--server", address, "--key", key}, args...)...)
	}
	code, out, errs := lookup("alice", key)
	require.Equal(t, 1, code)
	require.Empty(t, out)
	require.Contains(t, errs, "unknown peer")

	aliceKey, alice := newKey(t)
	said, _ := background(t, "listen", "alice", "--to", service(t), "--server", address, "--key", aliceKey)
	said.await(t, "listening as alice")
	code, out, errs = lookup("alice", key)
	require.Zero(t, code, errs)
	require.Empty(t, errs)
	require.Regexp(t, `^id: alice\nfingerprint: `+alice+`\nsince: \S+Z\nnat: \S.*\nreach: unknown\nmethod: unknown\nmet: unknown\n$`, out)

	code, _, errs = call(t, "hello", "dial", "alice", "--server", address, "--key", key)
	require.Zero(t, code, errs)
	// The listener's word may arrive after the dial is over.
	var f found
	for end := time.Now().Add(30 * time.Second); f.Reach != "direct"; {
		require.True(t, time.Now().Before(end), "both ends report: %+v", f)
		code, out, errs = lookup(alice, key, "--json")
		require.Zero(t, code, errs)
		require.NoError(t, json.Unmarshal([]byte(out), &f))
	}
	require.Equal(t, alice, f.ID)
	require.NotEmpty(t, f.Method)
	require.WithinDuration(t, time.Now(), f.Met, time.Minute)

	stranger, _ := newKey(t)
	_, out, _ = lookup("alice", stranger)
	require.Contains(t, out, "reach: unknown\n", "how two have met is for the two")
}

// TestToken shows one to a server that asks for it, in each of the ways.
func TestToken(t *testing.T) {
	state := t.TempDir()
	s, err := stuntd.Start(stuntd.Config{Listen: []string{"127.0.0.1:0"}, StateDir: state, Access: stuntd.Access{Tokens: true}})
	require.NoError(t, err)
	defer s.Close()
	code, token, errs := call(t, "", "serve", "token", "new", "-state", state)
	require.Zero(t, code, errs)
	file := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(file, []byte(token), 0o600))
	key, _ := newKey(t)
	lookup := func(args ...string) string {
		code, _, errs := call(t, "", append([]string{"lookup", "alice", "--server", s.Address(), "--key", key}, args...)...)
		require.Equal(t, 1, code)
		return errs
	}
	require.Contains(t, lookup(), "token required")
	require.Contains(t, lookup("--token", "stunt1.x"), "token refused")
	require.Contains(t, lookup("--token", strings.TrimSpace(token)), "unknown peer", "it is in, and alice is not")
	require.Contains(t, lookup("--token", "@"+file), "unknown peer")
	t.Setenv("STUNT_TOKEN", "@"+file)
	require.Contains(t, lookup(), "unknown peer")
}
