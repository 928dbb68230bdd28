package main

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/gostunt/stunt/probe"
	"github.com/gostunt/stunt/stuntd"
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

// What was found is kept, and measured again when that is asked for.
func TestProbeKeepsAndForgets(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir()) // elsewhere than on Linux the user's own is used
	address := server(t)
	key, _ := newKey(t)
	measured := func(args ...string) string {
		code, out, errs := call(t, "", append([]string{"probe", "--json", "--server", address, "--key", key}, args...)...)
		require.Zero(t, code, errs)
		var r probe.Report
		require.NoError(t, json.Unmarshal([]byte(out), &r))
		return r.Time.String()
	}
	first := measured()
	require.Equal(t, first, measured())
	again := measured("--fresh")
	require.NotEqual(t, first, again)
	require.Equal(t, again, measured(), "it is the new one that is kept")
}

// A server of two addresses shows what is in front of each family.
func TestProbeDualStack(t *testing.T) {
	if ln, err := net.Listen("tcp", "[::1]:0"); err != nil {
		t.Skip("no IPv6 loopback:", err)
	} else {
		ln.Close()
	}
	resolver := net.DefaultResolver
	t.Cleanup(func() { net.DefaultResolver = resolver })
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		here, there := net.Pipe()
		go answerDNS(there) // until the resolver closes its end
		return here, nil
	}}
	s, err := stuntd.Start(stuntd.Config{Listen: []string{":0"}, Public: []string{"dual.example"}, StateDir: t.TempDir()})
	require.NoError(t, err)
	defer s.Close()
	key, _ := newKey(t)
	code, out, errs := call(t, "", "probe", "--fresh", "--server", s.Address(), "--key", key)
	require.Zero(t, code, errs)
	require.Contains(t, out, "\npublic: 127.0.0.1\n")
	require.Contains(t, out, "\nipv6-public: ::1\n")
	require.Contains(t, out, "\nipv6-mapping: none\n")
	require.Contains(t, out, "verdict: IPv6: no NAT")
}

// answerDNS says that every name is that of this machine, over TCP's framing of
// DNS: a pipe is no packet connection.
func answerDNS(c net.Conn) {
	defer c.Close()
	for {
		var length [2]byte
		if _, err := io.ReadFull(c, length[:]); err != nil {
			return
		}
		query := make([]byte, int(length[0])<<8|int(length[1]))
		if _, err := io.ReadFull(c, query); err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(query) != nil || len(m.Questions) != 1 {
			return
		}
		m.Response, m.Additionals = true, nil
		head := dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Class: dnsmessage.ClassINET, TTL: 1}
		switch m.Questions[0].Type {
		case dnsmessage.TypeA:
			m.Answers = []dnsmessage.Resource{{Header: head, Body: &dnsmessage.AResource{A: [4]byte{127, 0, 0, 1}}}}
		case dnsmessage.TypeAAAA:
			m.Answers = []dnsmessage.Resource{{Header: head, Body: &dnsmessage.AAAAResource{AAAA: [16]byte{15: 1}}}}
		}
		answer, err := m.Pack()
		if err != nil {
			return
		}
		if _, err := c.Write(append([]byte{byte(len(answer) >> 8), byte(len(answer))}, answer...)); err != nil {
			return
		}
	}
}
