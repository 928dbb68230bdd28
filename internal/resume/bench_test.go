package resume

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// BenchmarkConn moves bytes over loopback, in writes of 64 KiB.
func BenchmarkConn(b *testing.B) {
	p := newPair(b, time.Minute, func() (net.Conn, net.Conn) { return tcpPath(b) }, func() {})
	buf := make([]byte, 64<<10)
	b.SetBytes(int64(len(buf)))
	done := make(chan error, 1)
	go func() {
		_, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{p.b}, make([]byte, 64<<10))
		done <- err
	}()
	for b.Loop() {
		_, err := p.a.Write(buf)
		require.NoError(b, err)
	}
	require.NoError(b, p.a.CloseWrite())
	require.NoError(b, <-done)
	p.close()
	p.stop()
	p.a.Wait()
	p.b.Wait()
}
