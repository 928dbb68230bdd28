package secure

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/flynn/noise"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/nettest"
)

func TestConn(t *testing.T) {
	nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
		a, b := tcpPair(t)
		c1, c2 := testConns(t, a, b)
		return c1, c2, func() { c1.Close(); c2.Close() }, nil
	})
}

// wire is a connection that reads what a test has put there and keeps what is written.
type wire struct {
	net.Conn // nil: a test that needs more than this is wrong
	in       io.Reader
	out      bytes.Buffer
	closed   bool
}

func (w *wire) Read(p []byte) (int, error)       { return w.in.Read(p) }
func (w *wire) Write(p []byte) (int, error)      { return w.out.Write(p) }
func (w *wire) Close() error                     { w.closed = true; return nil }
func (w *wire) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (w *wire) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (w *wire) SetReadDeadline(time.Time) error  { return nil }
func (w *wire) SetWriteDeadline(time.Time) error { return nil }

// stream returns the records that s makes of writes and a Close.
func stream(t testing.TB, s *Session, writes ...string) []byte {
	t.Helper()
	w := &wire{}
	c, err := s.Conn(w)
	require.NoError(t, err)
	for _, p := range writes {
		_, err := c.Write([]byte(p))
		require.NoError(t, err)
	}
	require.NoError(t, c.Close())
	return w.out.Bytes()
}

// receive returns what the listener reads of b, and the error that ends it.
func receive(t testing.TB, b []byte) (string, error) {
	t.Helper()
	_, s := provenSessions(t)
	c, err := s.Conn(&wire{in: bytes.NewReader(b)})
	require.NoError(t, err)
	got, err := io.ReadAll(c)
	if err == nil {
		err = io.EOF
	}
	return string(got), err
}

func TestRecords(t *testing.T) {
	big := strings.Repeat("0123456789abcdef", 20_000)
	ds, _ := provenSessions(t)
	got, err := receive(t, stream(t, ds, "hello", "", "world", big))
	require.ErrorIs(t, err, io.EOF)
	require.Equal(t, "helloworld"+big, got)
}

// TestReadSizes reads the same stream through buffers and segments of all kinds: decrypted in place, into the
// caller's buffer, and across the borders of the reader's own.
func TestReadSizes(t *testing.T) {
	random := rand.New(testRandom("sizes"))
	var writes []string
	for range 40 {
		writes = append(writes, strings.Repeat(string(rune('a'+random.IntN(26))), random.IntN(1<<random.IntN(17))))
	}
	ds, _ := provenSessions(t)
	sent := stream(t, ds, writes...)
	for _, size := range []int{1, 100, firstPlain, maxPlain - 1, maxPlain, 1 << 20} {
		for _, segment := range []int{1 << 20, 1460, 3} {
			_, s := provenSessions(t)
			c, err := s.Conn(&wire{in: &segments{b: sent, size: segment}})
			require.NoError(t, err)
			var got bytes.Buffer
			p := make([]byte, size)
			for err == nil {
				var n int
				n, err = c.Read(p)
				got.Write(p[:n])
			}
			require.Equal(t, io.EOF, err)
			require.Equal(t, strings.Join(writes, ""), got.String())
			require.Nil(t, c.in.big, "a drained connection holds no borrowed buffer")
		}
	}
}

// segments reads as TCP does: no more than a segment at a time.
type segments struct {
	b    []byte
	size int
}

func (s *segments) Read(p []byte) (int, error) {
	n := copy(p[:min(len(p), s.size)], s.b)
	s.b = s.b[n:]
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// TestRecordBits flips every bit of a stream. What was before the damage arrives, nothing after it does.
func TestRecordBits(t *testing.T) {
	ds, _ := provenSessions(t)
	good := stream(t, ds, "hello", "world")
	first := recordOverhead + len("hello")
	for i, bad := range damaged(good)[:len(good)*8] {
		got, err := receive(t, bad)
		require.NotEqual(t, io.EOF, err, "bit %d", i)
		var refused *RecordError
		require.True(t, errors.As(err, &refused) || errors.Is(err, io.ErrUnexpectedEOF), "bit %d: %v", i, err)
		require.True(t, strings.HasPrefix("helloworld", got))
		require.LessOrEqual(t, len(got), i/8/first*5, "bit %d", i)
	}
}

func TestRecordsMoved(t *testing.T) {
	ds, ls := provenSessions(t)
	good := stream(t, ds, "aaaaa", "bbbbb")
	back := stream(t, ls, "aaaaa", "bbbbb")
	size := recordOverhead + 5
	a, b, end := good[:size], good[size:2*size], good[2*size:]
	for name, bad := range map[string][]byte{
		"swapped":   bytes.Join([][]byte{b, a, end}, nil),
		"repeated":  bytes.Join([][]byte{a, a, b, end}, nil),
		"left out":  bytes.Join([][]byte{a, end}, nil),
		"reflected": back,
		"reserved":  bytes.Join([][]byte{{3, 0, 17}, a}, nil),
		"empty":     bytes.Join([][]byte{{typeData, 0, 16}, a}, nil),
		"too long":  bytes.Join([][]byte{{typeData, 0x80, 0x11}, make([]byte, 1<<16)}, nil),
	} {
		_, err := receive(t, bad)
		var refused *RecordError
		require.ErrorAs(t, err, &refused, name)
	}
}

// TestTruncated cuts the stream after each byte, as anyone who can send a FIN may.
func TestTruncated(t *testing.T) {
	ds, _ := provenSessions(t)
	good := stream(t, ds, "hello", "world")
	for n := range good {
		_, err := receive(t, good[:n])
		require.ErrorIs(t, err, io.ErrUnexpectedEOF, "%d bytes", n)
	}
	got, err := receive(t, append(bytes.Clone(good), "and what anyone appends"...))
	require.Equal(t, io.EOF, err)
	require.Equal(t, "helloworld", got)
}

// TestTamperedIsDead shows that after a bad record neither direction works, and a blocked Write ends.
func TestTamperedIsDead(t *testing.T) {
	a, b := tcpPair(t)
	c1, c2 := testConns(t, a, b)
	blocked := make(chan error, 1)
	go func() {
		_, err := io.Copy(c2, zeros{})
		blocked <- err
	}()
	_, err := a.Write(make([]byte, 100))
	require.NoError(t, err)
	var refused *RecordError
	_, err = c2.Read(make([]byte, 10))
	require.ErrorAs(t, err, &refused)
	require.ErrorAs(t, <-blocked, &refused)
	_, err = c2.Read(make([]byte, 10))
	require.ErrorAs(t, err, &refused, "it stays dead")
	_, err = c2.Write([]byte("x"))
	require.ErrorAs(t, err, &refused)
	require.ErrorAs(t, c2.CloseWrite(), &refused)
	require.ErrorAs(t, c2.SetDeadline(time.Now()), &refused)
	require.NoError(t, c2.Close())
	require.NoError(t, c1.Close())
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestHalfClose(t *testing.T) {
	a, b := tcpPair(t)
	c1, c2 := testConns(t, a, b)
	_, err := c1.Write([]byte("request"))
	require.NoError(t, err)
	require.NoError(t, c1.CloseWrite())
	require.NoError(t, c1.CloseWrite(), "safe to repeat")
	_, err = c1.Write([]byte("more"))
	require.ErrorIs(t, err, syscall.EPIPE)
	got, err := io.ReadAll(c2)
	require.NoError(t, err)
	require.Equal(t, "request", string(got))
	_, err = c2.Write([]byte("reply"))
	require.NoError(t, err)
	require.NoError(t, c2.Close())
	got, err = io.ReadAll(c1)
	require.NoError(t, err)
	require.Equal(t, "reply", string(got))
	require.NoError(t, c1.Close())
	require.NoError(t, c1.Close(), "safe to repeat")
	_, err = c1.Read(make([]byte, 1))
	require.ErrorIs(t, err, net.ErrClosed)
	_, err = c1.Write(nil)
	require.ErrorIs(t, err, net.ErrClosed)
	require.ErrorIs(t, c1.SetDeadline(time.Time{}), net.ErrClosed)
}

// TestFinWithoutClose is the attack that the close record is there for.
func TestFinWithoutClose(t *testing.T) {
	a, b := tcpPair(t)
	c1, c2 := testConns(t, a, b)
	_, err := c1.Write([]byte("pay 100"))
	require.NoError(t, err)
	require.NoError(t, a.CloseWrite())
	got, err := io.ReadAll(c2)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.Equal(t, "pay 100", string(got))
}

// TestCloseUnblocks closes under a Read and a Write that wait.
func TestCloseUnblocks(t *testing.T) {
	a, b := tcpPair(t)
	c1, c2 := testConns(t, a, b)
	errs := make(chan error, 2)
	go func() {
		_, err := c1.Read(make([]byte, 1))
		errs <- err
	}()
	go func() {
		_, err := io.Copy(c1, zeros{})
		errs <- err
	}()
	_, err := io.ReadFull(c2, make([]byte, 1<<20)) // both are under way
	require.NoError(t, err)
	require.NoError(t, c1.Close())
	require.ErrorIs(t, <-errs, net.ErrClosed)
	require.ErrorIs(t, <-errs, net.ErrClosed)
}

// TestWriteDeadline fills a connection until writes time out, often in the middle of a record, then reads: every byte that
// was counted arrives, in order, and no other.
func TestWriteDeadline(t *testing.T) {
	a, b := tcpPair(t)
	require.NoError(t, a.SetWriteBuffer(64<<10))
	require.NoError(t, b.SetReadBuffer(64<<10))
	c1, c2 := testConns(t, a, b)
	var want []byte
	random := rand.New(testRandom("deadline"))
	write := func() error {
		p := make([]byte, 1+random.IntN(200_000))
		for i := range p {
			p[i] = byte(random.Uint32())
		}
		n, err := c1.Write(p)
		want = append(want, p[:n]...)
		return err
	}
	var got []byte
	for range 20 {
		require.NoError(t, c1.SetWriteDeadline(time.Now().Add(5*time.Millisecond)))
		err := error(nil)
		for err == nil {
			err = write()
		}
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		n, err := c1.Write([]byte("no"))
		require.Zero(t, n, "nothing is counted after the deadline")
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)

		p := make([]byte, 1+random.IntN(100_000)) // some room, so that the next round goes on in mid-record
		n, err = c2.Read(p)
		require.NoError(t, err)
		got = append(got, p[:n]...)
	}
	require.NoError(t, c1.SetWriteDeadline(time.Time{}))
	closed := make(chan error, 1)
	go func() { closed <- c1.CloseWrite() }() // takes along what is pending
	rest, err := io.ReadAll(c2)
	require.NoError(t, err)
	require.NoError(t, <-closed)
	require.True(t, bytes.Equal(want, append(got, rest...)), "the stream must be what was counted")
}

// TestReadDeadline lets a Read time out at each byte of a record.
func TestReadDeadline(t *testing.T) {
	a, b := tcpPair(t)
	ds, ls := provenSessions(t)
	records := stream(t, ds, "hello")
	c2, err := ls.Conn(b)
	require.NoError(t, err)
	p := make([]byte, 10)
	for i := range recordOverhead + len("hello") {
		require.NoError(t, c2.SetReadDeadline(time.Now().Add(time.Millisecond)))
		_, err := c2.Read(p)
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		var nerr net.Error
		require.ErrorAs(t, err, &nerr)
		require.True(t, nerr.Timeout())
		_, err = a.Write(records[i : i+1])
		require.NoError(t, err)
	}
	require.NoError(t, c2.SetReadDeadline(time.Time{}))
	n, err := c2.Read(p)
	require.NoError(t, err)
	require.Equal(t, "hello", string(p[:n]))
}

// TestFirstRecordsSmall holds that no record is longer than what came before it, beyond the first.
func TestFirstRecordsSmall(t *testing.T) {
	ds, _ := provenSessions(t)
	b := stream(t, ds, strings.Repeat("x", 1<<20))
	before := 0
	for len(b) > recordOverhead {
		n := int(b[1])<<8 | int(b[2])
		require.LessOrEqual(t, n-tagSize, max(firstPlain, before))
		before += n - tagSize
		b = b[recordHeader+n:]
	}
	require.Equal(t, 1<<20, before)
}

// TestCipher compares with flynn/noise over several rekeyings.
func TestCipher(t *testing.T) {
	key := [keySize]byte{1, 2, 3}
	mine, theirs := newHalf(key), noise.UnsafeNewCipherState(suite, key, 0)
	open := newHalf(key)
	for n := range 2*rekeyEvery + 3 {
		if n > 0 && n%rekeyEvery == 0 {
			theirs.Rekey()
		}
		want, err := theirs.Encrypt(nil, []byte("ad"), []byte("plain"))
		require.NoError(t, err)
		got, err := mine.seal(nil, []byte("plain"), []byte("ad"))
		require.NoError(t, err)
		if !bytes.Equal(want, got) {
			require.Equal(t, want, got, "record %d", n)
		}
		_, err = open.open(got[:0], got, []byte("ad"))
		require.NoError(t, err)
	}
}

func TestExhausted(t *testing.T) {
	a, b := tcpPair(t)
	c1, c2 := testConns(t, a, b)
	c1.out.half.n, c2.in.half.n = maxRecords-1, maxRecords-1
	_, err := c1.Write([]byte("last"))
	require.NoError(t, err)
	p := make([]byte, 10)
	n, err := c2.Read(p)
	require.NoError(t, err)
	require.Equal(t, "last", string(p[:n]))
	_, err = c1.Write([]byte("one too many"))
	require.ErrorIs(t, err, errExhausted)
	_, err = c1.Read(p)
	require.ErrorIs(t, err, errExhausted)
}
