package stuntd

import (
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"github.com/pion/stun/v3"
	"github.com/stretchr/testify/require"
)

// The server answers clients that have never heard of us. Each asks for its own
// address over TCP and compares.

func TestStandardClientPion(t *testing.T) {
	conn, err := net.Dial("tcp", start(t, Config{}).Addrs()[0].String())
	require.NoError(t, err)
	c, err := stun.NewClient(conn)
	require.NoError(t, err)
	defer c.Close()
	for range 2 { // one connection may ask several times
		var got stun.XORMappedAddress
		var failed error
		err := c.Do(stun.MustBuild(stun.TransactionID, stun.BindingRequest, stun.NewSoftware("any"), stun.Fingerprint), func(e stun.Event) {
			if failed = e.Error; failed == nil {
				failed = got.GetFrom(e.Message)
			}
		})
		require.NoError(t, err)
		require.NoError(t, failed)
		require.Equal(t, conn.LocalAddr().String(), got.String())
	}
}

// aioice is a STUN client in Python, by others and over others' code: it builds
// the request, takes the answer apart and checks its fingerprint. STUN over TCP
// has no framing but its own length.
const aioice = `
import socket, sys
from aioice import stun
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 10)
m = stun.Message(message_method=stun.Method.BINDING, message_class=stun.Class.REQUEST)
m.attributes["SOFTWARE"] = "any"
m.attributes["FINGERPRINT"] = stun.message_fingerprint(bytes(m))
s.sendall(bytes(m))
f = s.makefile("rb")
head = f.read(20)
a = stun.parse_message(head + f.read(int.from_bytes(head[2:4], "big")))
assert a.transaction_id == m.transaction_id and a.message_class == stun.Class.RESPONSE, a
assert "FINGERPRINT" in a.attributes, a
print("%s:%d %s:%d" % (a.attributes["XOR-MAPPED-ADDRESS"] + s.getsockname()))
`

func TestStandardClientAioice(t *testing.T) {
	python := ""
	for _, p := range []string{"python3", "/usr/bin/python3"} {
		if exec.Command(p, "-c", "from aioice import stun").Run() == nil {
			python = p
			break
		}
	}
	if python == "" {
		t.Skip("no other STUN client here: apt-get install python3-aioice")
	}
	host, port, err := net.SplitHostPort(start(t, Config{}).Addrs()[0].String())
	require.NoError(t, err)
	out, err := exec.CommandContext(t.Context(), python, "-c", aioice, host, port).CombinedOutput()
	require.NoError(t, err, "%s", out)
	mapped, local, ok := strings.Cut(strings.TrimSpace(string(out)), " ")
	require.True(t, ok, "%s", out)
	require.True(t, netip.MustParseAddrPort(mapped).IsValid())
	require.Equal(t, local, mapped, "nobody translates loopback")
}
