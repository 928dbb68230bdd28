package main

import (
	"io"
	"net"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// tcpPair returns the two ends of a connection over loopback.
func tcpPair(t *testing.T) (a, b *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	d, err := ln.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { d.Close() })
	return c.(*net.TCPConn), d.(*net.TCPConn)
}

// TestFlowPassesNoFalseEnd: a service dies in mid-sentence while it is written
// to. Whichever direction is told of the RST, its client must not take what has
// come for all.
func TestFlowPassesNoFalseEnd(t *testing.T) {
	for range 100 {
		client, in := tcpPair(t)
		out, service := tcpPair(t)
		var wg sync.WaitGroup
		wg.Go(func() { flow(&end{halfCloser: in}, &end{halfCloser: out}) })
		wg.Go(func() { // the other direction; ends with the connection
			for err := error(nil); err == nil; {
				_, err = out.Write([]byte("x"))
			}
		})
		_, err := io.ReadFull(service, make([]byte, 10))
		require.NoError(t, err)
		_, err = io.WriteString(service, "part")
		require.NoError(t, err)
		cut(service)
		_, err = io.ReadAll(client)
		require.ErrorIs(t, err, syscall.ECONNRESET, "a part is not the whole")
		wg.Wait()
	}
}
