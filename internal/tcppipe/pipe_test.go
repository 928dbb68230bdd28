package tcppipe

import (
	"net"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/nettest"
)

// TestPipe holds the tests' own pipe to the definition of a net.Conn.
func TestPipe(t *testing.T) {
	nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
		a, b := New("", 1000)
		return a, b, func() { a.Close(); b.Close() }, nil
	})
	a, b := New("", 10)
	a.Write([]byte("x"))
	b.Close()
	_, err := a.Read(make([]byte, 1))
	require.ErrorIs(t, err, syscall.ECONNRESET, "closed with a byte unread")
}
