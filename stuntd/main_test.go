package stuntd

import (
	"bytes"
	"context"
	"flag"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt/rendezvous"
)

func TestMainRunsUntilItsContextEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	out, w := io.Pipe()
	var log bytes.Buffer // read when Main has returned
	code := make(chan int, 1)
	go func() {
		code <- Main(ctx, []string{"-listen", "127.0.0.1:0", "-state", t.TempDir(), "-log-format", "json"}, w, &log)
		w.Close()
	}()
	line := make([]byte, 256)
	n, err := out.Read(line)
	require.NoError(t, err)
	word, address, _ := strings.Cut(strings.TrimSpace(string(line[:n])), " ")
	require.Equal(t, "ready", word)
	servers, err := rendezvous.ParseServers(address)
	require.NoError(t, err, "what is printed can be pasted")
	require.NotZero(t, servers[0].Pin)
	cancel()
	require.Zero(t, <-code)
	rest, err := io.ReadAll(out)
	require.NoError(t, err)
	require.Empty(t, rest, "stdout has one line")
	require.Contains(t, log.String(), `"msg":"stopped"`)
}

func TestMainArguments(t *testing.T) {
	for _, tt := range []struct {
		args []string
		env  string // NAME=value
		code int
		out  string // on stdout
		err  string // on stderr, one line
	}{
		{args: []string{"-version"}, out: "stuntd "},
		{args: []string{"-help"}, out: "-max-conns-per-source"},
		{args: []string{"-bogus"}, code: 2, err: "-bogus"},
		{args: []string{"-max-conns", "many"}, code: 2, err: `"many"`},
		{args: []string{"-max-conns", "-1"}, code: 2, err: "Conns is negative"},
		{args: []string{"-log-level", "loud"}, code: 2, err: `"loud"`},
		{args: []string{"-log-format", "xml"}, code: 2, err: "neither text nor json"},
		{args: []string{"-listen", ""}, code: 2, err: "empty"},
		{args: []string{"-tls-cert", "x"}, code: 2, err: "its certificate"},
		{args: []string{"-drain", "-1s"}, code: 2, err: "drain time is negative"},
		{args: []string{"-keepalive", "-1s"}, code: 2, err: "keepalive time is negative"},
		{args: []string{"-relay-only"}, code: 2, err: "a secret that they share"},
		{args: []string{"-relay-at", "b:1"}, code: 2, err: "a secret that they share"},
		{args: []string{"-relay-at", "b", "-relay-secret", "x"}, code: 2, err: "not host:port"},
		{args: []string{"-relay-only", "-relay=false", "-relay-secret", "x"}, code: 2, err: "and does not"},
		{args: []string{"-relay-rate", "-1"}, code: 2, err: "Rate is negative"},
		{args: []string{"-listen", "127.0.0.1:0", "-relay-secret", "/nonexistent"}, code: 1, err: "/nonexistent"},
		{args: []string{"-routes", "a:1"}, code: 2, err: "needs a name"},
		{args: []string{"-nats-creds", "x"}, code: 2, err: "needs a name"},
		{args: []string{"-cluster", "c"}, code: 2, err: "a secret that its servers share"},
		{args: []string{"-cluster", "c/d", "-cluster-secret", "x"}, code: 2, err: "c/d"},
		{args: []string{"-cluster", "c", "-cluster-secret", "x", "-routes", "a"}, code: 2, err: "not host:port"},
		{args: []string{"-cluster", "c", "-cluster-secret", "x", "-routes", "a:1", "-nats", "nats://b"}, code: 2, err: "not both"},
		{args: []string{"-cluster", "c", "-cluster-secret", "x", "-relay-only", "-relay-secret", "x"}, code: 2, err: "no use for a cluster"},
		{args: []string{"-listen", "127.0.0.1:0", "-cluster", "c", "-cluster-secret", "/nonexistent"}, code: 1, err: "/nonexistent"},
		{args: []string{"serve"}, code: 2, err: `"serve"`},
		{env: "STUNTD_MAX_CONNS=many", code: 2, err: "$STUNTD_MAX_CONNS"},
		{args: []string{"-listen", "127.0.0.1:99999"}, code: 1, err: "99999"},
	} {
		t.Run(strings.Join(append(tt.args, tt.env), " "), func(t *testing.T) {
			if name, value, ok := strings.Cut(tt.env, "="); ok {
				t.Setenv(name, value)
			}
			var out, err bytes.Buffer
			require.Equal(t, tt.code, Main(t.Context(), tt.args, &out, &err), "%s", err.String())
			require.Contains(t, out.String(), tt.out)
			require.Contains(t, err.String(), tt.err)
			if tt.code != 0 {
				require.Equal(t, 1, strings.Count(err.String(), "\n"), "one clear line: %s", err.String())
				require.True(t, strings.HasPrefix(err.String(), "stuntd: "), err.String())
				require.Empty(t, out.String())
			}
		})
	}
}

func TestFlagsAndEnvironment(t *testing.T) {
	parse := func(args ...string) *options {
		var o options
		_, err := o.parse(args)
		require.NoError(t, err)
		return &o
	}
	require.Equal(t, []string{DefaultListen}, parse().Listen)
	require.Equal(t, []string{"a:1", "b:2"}, parse("-listen", "a:1", "-listen", "b:2").Listen, "the default is replaced")
	t.Setenv("STUNTD_LISTEN", "c:3, d:4")
	t.Setenv("STUNTD_MAX_CONNS_PER_SOURCE", "7")
	t.Setenv("STUNTD_HANDSHAKE_TIMEOUT", "3s")
	o := parse()
	require.Equal(t, []string{"c:3", "d:4"}, o.Listen)
	require.Equal(t, 7, o.Limits.ConnsPerSource)
	require.Equal(t, 3*time.Second, o.Limits.Handshake)
	o = parse("-listen", "a:1", "-max-conns-per-source", "9")
	require.Equal(t, []string{"a:1"}, o.Listen, "the command line comes first")
	require.Equal(t, 9, o.Limits.ConnsPerSource)
}

// TestFlagsAreDocumented compares the table of docs/server.md with the flags.
func TestFlagsAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../docs/server.md")
	require.NoError(t, err)
	var got []string
	for _, row := range regexp.MustCompile("(?m)^\\| `-([a-z0-9-]+)[^`]*` \\|([^|]*)\\|").FindAllStringSubmatch(string(page), -1) {
		got = append(got, strings.TrimSpace(row[1]+" "+strings.Trim(row[2], " `")))
	}
	var want []string
	var o options
	o.flagSet().VisitAll(func(f *flag.Flag) {
		want = append(want, strings.TrimSpace(f.Name+" "+f.DefValue))
	})
	require.ElementsMatch(t, want, got, "flags and their defaults")
}

func TestWrongCertificateIsExitCodeOne(t *testing.T) {
	var out, stderr bytes.Buffer
	code := Main(t.Context(), []string{"-listen", "127.0.0.1:0", "-tls-cert", "/nonexistent/c", "-tls-key", "/nonexistent/k"}, &out, &stderr)
	require.Equal(t, 1, code)
	require.Contains(t, stderr.String(), "/nonexistent/c")
}
