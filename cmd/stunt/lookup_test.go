package main

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
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
