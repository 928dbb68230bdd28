package rendezvous

import (
	"crypto/tls"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

// A client's first message is one segment on every path, and leaves a server with
// the smallest buffers that crypto/tls has. It meets servers of all kinds.
func TestKeyExchange(t *testing.T) {
	for _, curves := range [][]tls.CurveID{nil, {tls.X25519}, {tls.CurveP256}} {
		server, client := newMemoryConns(addressOf(0))
		own, pool := serverCert(t)
		config := ServerTLS(own)
		config.CurvePreferences = curves
		cert, err := Certificate(newKey(t))
		require.NoError(t, err)
		first := &firstRead{Conn: server}
		begun := make(chan error, 1)
		go func() { begun <- tls.Server(first, config).Handshake() }() // ends with the client's
		// A name as long as they are in practice: it goes along.
		addr := ServerAddr{Host: "a-rather-long-name-of-a-server.of-some-department.example.com", Pin: PinOf(own.Leaf)}
		conn := tls.Client(client, addr.tlsConfig(cert, pool))
		require.NoError(t, conn.Handshake())
		require.NoError(t, receive(t, begun, "the handshake"))
		require.NotEqual(t, tls.X25519MLKEM768, conn.ConnectionState().CurveID)
		require.Less(t, first.n, 500, "bytes in a ClientHello")
	}
}

// A firstRead knows how many bytes came first.
type firstRead struct {
	net.Conn
	n int
}

func (c *firstRead) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.n == 0 {
		c.n = n
	}
	return n, err
}
