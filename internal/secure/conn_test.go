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
	w := &wire{in: &bytes.Buffer{}}
	c, err := s.Conn(w)
	require.NoError(t, err)
	for _, p := range writes {
		_, err := c.Write([]byte(p))
		require.NoError(t, err)
	}
	require.NoError(t, c.Close())
	return w.out.Bytes()
}

// listening returns a listener's end that reads from r, under the keys of [provenSessions] and without its cost.
func listening(k keys, r io.Reader) *Conn { return newConn(&wire{in: r}, &k) }

// receive returns what the listener reads of b, and the error that ends it.
func receive(k keys, b []byte) (string, error) {
	got, err := io.ReadAll(listening(k, bytes.NewReader(b)))
	if err == nil {
		err = io.EOF
	}
	return string(got), err
}

func TestRecords(t *testing.T) {
	big := strings.Repeat("0123456789abcdef", 20_000)
	ds, ls := provenSessions(t)
	got, err := receive(*ls.keys, stream(t, ds, "hello", "", "world", big))
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
	ds, ls := provenSessions(t)
	sent := stream(t, ds, writes...)
	for _, size := range []int{1, 100, firstPlain, maxPlain - 1, maxPlain, 1 << 20} {
		for _, segment := range []int{1 << 20, 1460, 3} {
			c := listening(*ls.keys, &segments{b: sent, size: segment})
			var got bytes.Buffer
			var err error
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
	ds, ls := provenSessions(t)
	good := stream(t, ds, "hello", "world")
	first := recordOverhead + len("hello")
	for i, bad := range damaged(good)[:len(good)*8] {
		got, err := receive(*ls.keys, bad)
		require.NotEqual(t, io.EOF, err, "bit %d", i)
		var refused *RecordError
		require.True(t, errors.As(err, &refused) || errors.Is(err, io.ErrUnexpectedEOF), "bit %d: %v", i, err)
		require.True(t, strings.HasPrefix("helloworld", got))
		require.LessOrEqual(t, len(got), i/8/first*5, "bit %d", i)
	}
}

func TestRecordsMoved(t *testing.T) {
	ds, ls := provenSessions(t)
	k := *ls.keys
	good := stream(t, ds, "aaaaa", "bbbbb")
	back := stream(t, ls, "aaaaa", "bbbbb")
	size := recordOverhead + 5
	a, b, end := good[:size], good[size:2*size], good[2*size:]
	for name, bad := range map[string][]byte{
		"swapped":   bytes.Join([][]byte{b, a, end}, nil),
		"repeated":  bytes.Join([][]byte{a, a, b, end}, nil),
		"left out":  bytes.Join([][]byte{a, end}, nil),
		"reflected": back,
		"reserved":  bytes.Join([][]byte{{4, 0, 17}, a}, nil),
		"no switch": bytes.Join([][]byte{{typeSwitch, 0, 17}, a}, nil),
		"empty":     bytes.Join([][]byte{{typeData, 0, 16}, a}, nil),
		"too long":  bytes.Join([][]byte{{typeData, 0x80, 0x11}, make([]byte, 1<<16)}, nil),
	} {
		_, err := receive(k, bad)
		var refused *RecordError
		require.ErrorAs(t, err, &refused, name)
	}
}

// TestTruncated cuts the stream after each byte, as anyone who can send a FIN may.
func TestTruncated(t *testing.T) {
	ds, ls := provenSessions(t)
	good := stream(t, ds, "hello", "world")
	for n := range good {
		_, err := receive(*ls.keys, good[:n])
		require.ErrorIs(t, err, io.ErrUnexpectedEOF, "%d bytes", n)
	}
	got, err := receive(*ls.keys, append(bytes.Clone(good), "and what anyone appends"...))
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

// TestCloseAfterTheirs: a server that has its request answers and closes, and
// does not read on to the end that the client has said already. Bytes unread
// in the kernel would make its close a reset, and lose what is still to go out.
func TestCloseAfterTheirs(t *testing.T) {
	a, b := tcpPair(t)
	client, server := testConns(t, a, b)
	_, err := client.Write([]byte("request"))
	require.NoError(t, err)
	request := make([]byte, len("request"))
	_, err = io.ReadFull(server, request)
	require.NoError(t, err)
	require.NoError(t, client.CloseWrite())
	answer := bytes.Repeat([]byte("answer"), 1<<15) // more than a window, less than the sender's buffer
	require.NoError(t, server.SetWriteDeadline(time.Now().Add(time.Second)))
	n, err := server.Write(answer)
	if err != nil {
		require.ErrorIs(t, err, os.ErrDeadlineExceeded) // a small buffer: what was taken must arrive
	}
	closed := make(chan error, 1)
	go func() { closed <- server.Close() }()
	got, _ := io.ReadAll(client)
	require.NoError(t, <-closed)
	require.GreaterOrEqual(t, len(got), n)
	require.True(t, bytes.HasPrefix(answer, got))
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

// throttled takes some bytes and then times out, as a connection does whose peer does not read.
type throttled struct {
	wire
	room int
}

func (c *throttled) Write(p []byte) (int, error) {
	n, _ := c.wire.Write(p[:min(len(p), c.room)])
	c.room -= n
	if n < len(p) {
		return n, os.ErrDeadlineExceeded
	}
	return n, nil
}

// TestWriteResumes times writes out at every byte of a few records, and then at random: every byte that was counted
// arrives, in order, and no other.
func TestWriteResumes(t *testing.T) {
	ds, ls := provenSessions(t)
	random := rand.New(testRandom("resume"))
	data := make([]byte, 200_000)
	_, _ = testRandom("data").Read(data)
	for cut := range 100 {
		k := *ds.keys
		w := &throttled{room: cut}
		c := newConn(w, &k)
		var want []byte
		for range 10 {
			p := data[:1+random.IntN(1<<random.IntN(17))]
			n, err := c.Write(p)
			want = append(want, p[:n]...)
			if n < len(p) {
				require.ErrorIs(t, err, os.ErrDeadlineExceeded, "a short count needs a reason")
			}
			w.room += random.IntN(1 << random.IntN(17))
		}
		for c.CloseWrite() != nil { // takes along what is pending, and may itself time out
			w.room += 10_000
		}
		got, err := receive(*ls.keys, w.out.Bytes())
		require.Equal(t, io.EOF, err)
		require.True(t, string(want) == got, "the stream must be what was counted")
		require.Nil(t, c.out.buf, "nothing is held once all is sent")
	}
}

// TestWriteDeadline fills a real connection until it times out, and then goes on.
func TestWriteDeadline(t *testing.T) {
	a, b := tcpPair(t)
	c1, c2 := testConns(t, a, b)
	data := make([]byte, 1<<20)
	_, _ = testRandom("data").Read(data)
	var want []byte
	require.NoError(t, c1.SetWriteDeadline(time.Now().Add(100*time.Millisecond)))
	var err error
	for err == nil {
		var n int
		n, err = c1.Write(data)
		want = append(want, data[:n]...)
	}
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	n, err := c1.Write([]byte("no"))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.Zero(t, n, "nothing is counted after the deadline")

	require.NoError(t, c1.SetWriteDeadline(time.Time{}))
	closed := make(chan error, 1)
	go func() { closed <- c1.CloseWrite() }()
	got, err := io.ReadAll(c2)
	require.NoError(t, err)
	require.NoError(t, <-closed)
	require.True(t, bytes.Equal(want, got), "the stream must be what was counted")
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
