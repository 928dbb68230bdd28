package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt/probe"
)

func TestProbe(t *testing.T) {
	address := server(t)
	key, _ := newKey(t)
	code, out, errs := call(t, "", "probe", "--server", address, "--key", key)
	require.Zero(t, code, errs)
	require.Empty(t, errs)
	for line := range strings.Lines(out) {
		require.Regexp(t, `^[a-z0-9-]+: \S.*\n$`, line, "every line is for grep")
	}
	require.Contains(t, out, "public: 127.0.0.1\n")
	require.Contains(t, out, "mapping: none\n", "nobody translates loopback")
	require.Contains(t, out, "verdict: ")

	code, out, errs = call(t, "", "probe", "--json", "--server", address, "--key", key)
	require.Zero(t, code, errs)
	var r probe.Report
	require.NoError(t, json.Unmarshal([]byte(out), &r))
	require.Equal(t, probe.NoNAT, r.Mapping)

	code, out, errs = call(t, "", "probe", "--server", closed, "--key", key, "--timeout", "300ms")
	require.Equal(t, 1, code)
	require.Empty(t, out)
	require.Contains(t, errs, "connection refused")
}
