package main

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt/natlab/nat"
)

func TestDemoList(t *testing.T) {
	code, out, _ := call(t, "", "demo", "--list")
	require.Zero(t, code)
	for _, p := range nat.Profiles() {
		require.Contains(t, out, p.Name)
	}
}

// told checks the story that the demo tells, whatever the world.
func told(t *testing.T, story string) {
	t.Helper()
	at := 0
	for _, part := range []string{"server  up at ", "alice   serves HTTP", "bob     asks for http://alice/",
		"has a net.Conn to alice:80 after ", "this is alice", "moved 1 MiB", "equals alice's",
		"has a net.Conn to alice:50051 after ", "ping → PING", "streaming call: 5 messages", "demo    done"} {
		i := strings.Index(story[at:], part)
		require.GreaterOrEqual(t, i, 0, "the demo does not tell %q, in this order:\n%s", part, story)
		at += i
	}
}

// TestDemo runs it as a user does.
func TestDemo(t *testing.T) {
	t.Parallel() // most of it is waiting for silence
	c := binary(t, "demo", "--mib", "1", "--rtt", "10ms", "--nat-a", "eim-rst", "--nat-b", "eim-adf")
	out, err := c.CombinedOutput()
	require.NoError(t, err, "%s", out)
	told(t, string(out))
	if _, why, refused := strings.Cut(string(out), "NOT IN THE LAB: "); refused {
		require.NotEqual(t, "required", os.Getenv("STUNT_LAB"), "%s", out)
		require.Contains(t, string(out), "over LOOPBACK")
		t.Skip(strings.TrimSpace(strings.Split(why, "\n")[1]))
	}
	require.Contains(t, string(out), "done: every byte between alice and bob went through both NATs")
	require.Contains(t, string(out), "simultaneous-open, 10.2.0.2:")
	require.Contains(t, string(out), "round trips")
}

// TestDemoOnLoopback is what machines without a lab show.
func TestDemoOnLoopback(t *testing.T) {
	t.Setenv(asProgram, "1") // for the programs that it starts
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	var story, errs text
	d := demoFlags{rtt: 40 * time.Millisecond, mib: 1}
	err := playDemo(t.Context(), &env{out: &story, err: &errs}, &d, loopback{})
	require.NoError(t, err, "%s", &errs)
	told(t, story.String())
	require.Contains(t, story.String(), "over LOOPBACK: the programs work, but no NAT was crossed")
}
