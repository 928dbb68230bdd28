package sock

import (
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestQueue: it waits for bytes that come, sees those that were there, takes
// none, and tells an end from a break.
func TestQueue(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	pair := func() (near, far *net.TCPConn) {
		a, err := net.Dial("tcp", ln.Addr().String())
		require.NoError(t, err)
		b, err := ln.Accept()
		require.NoError(t, err)
		t.Cleanup(func() { a.Close(); b.Close() })
		a.SetDeadline(time.Now().Add(10 * time.Second))
		return a.(*net.TCPConn), b.(*net.TCPConn)
	}
	near, far := pair()
	q, err := NewQueue(near)
	require.NoError(t, err)
	go far.Write([]byte("word"))
	for range 2 { // the second time they are no news
		n, err := q.Wait()
		require.NoError(t, err)
		require.Positive(t, n)
	}
	_, err = io.ReadFull(near, make([]byte, 4))
	require.NoError(t, err, "they are all still there")
	require.NoError(t, far.CloseWrite())
	_, err = q.Wait()
	require.NoError(t, err)
	_, err = near.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)

	near, far = pair()
	q, err = NewQueue(near)
	require.NoError(t, err)
	Abort(far)
	if _, err = q.Wait(); err == nil {
		_, err = near.Read(make([]byte, 1)) // where the look does not take the error away
	}
	require.ErrorIs(t, err, syscall.ECONNRESET)

	near, _ = pair()
	q, err = NewQueue(near)
	require.NoError(t, err)
	go near.Close()
	_, err = q.Wait()
	require.ErrorIs(t, err, net.ErrClosed)
}
