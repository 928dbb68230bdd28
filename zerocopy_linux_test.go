package stunt_test

import (
	"bytes"
	"io"
	"net"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/gostunt/stunt"
)

// What sendfile has sent is the pages of the file, not a copy: until the other
// end has read them, a change of the file shows there (sendfile(2), "NOTES").
// splice between sockets hands on the same pages. So a file that is changed
// after io.Copy returned, and before anybody read, tells whether its bytes ever
// went through user space. The tests run over a cable, whose two ends share
// memory; the lab's own links copy.

const before, after = 'b', 'a'

// zeroCopySize fits the buffers of a connection from the start, so that
// io.Copy returns before anybody reads.
const zeroCopySize = 32 << 10

// fileOf makes a file of zeroCopySize times before, and returns it open. It is
// one in memory: not every file system has pages to share.
func fileOf(t *testing.T) *os.File {
	fd, err := unix.MemfdCreate("file", unix.MFD_CLOEXEC)
	require.NoError(t, err)
	f := os.NewFile(uintptr(fd), "file")
	t.Cleanup(func() { f.Close() })
	_, err = f.Write(bytes.Repeat([]byte{before}, zeroCopySize))
	require.NoError(t, err)
	_, err = f.Seek(0, io.SeekStart)
	require.NoError(t, err)
	return f
}

// change writes after over the whole file.
func change(t *testing.T, f *os.File) {
	_, err := f.WriteAt(bytes.Repeat([]byte{after}, zeroCopySize), 0)
	require.NoError(t, err)
}

// arrived returns the byte that all that arrives consists of.
func arrived(t *testing.T, c io.Reader) byte {
	got := make([]byte, zeroCopySize)
	_, err := io.ReadFull(c, got)
	require.NoError(t, err)
	require.Equal(t, zeroCopySize, bytes.Count(got, got[:1]), "before and after are not mixed")
	return got[0]
}

// TestSendfile shows that io.Copy from a file to a Raw connection uses sendfile.
func TestSendfile(t *testing.T) {
	c := newCable(t)
	raw := c.peers(stunt.Config{Security: stunt.Raw})
	plain, plainEnd := c.plain()
	for _, tt := range []struct {
		name string
		to   io.Writer
		end  io.Reader
		want byte
		why  string
	}{
		{"plain TCP", plain, plainEnd, after, "the test can see sendfile"},
		{"plain TCP without ReadFrom", onlyWriter{plain}, plainEnd, before, "the test can see a copy"},
		{"raw, dialed", raw.dialer, raw.listener, after, "io.Copy to a Raw Conn is sendfile"},
		{"raw, accepted", raw.listener, raw.dialer, after, "io.Copy to a Raw Conn is sendfile"},
	} {
		f := fileOf(t)
		n, err := io.Copy(tt.to, f)
		require.NoError(t, err, tt.name)
		require.EqualValues(t, zeroCopySize, n, tt.name)
		change(t, f)
		require.Equal(t, string(tt.want), string(arrived(t, tt.end)), "%s: %s", tt.name, tt.why)
	}
}

// TestSplice shows that io.Copy from one Raw connection to another uses splice,
// and between one and a plain TCP connection too.
func TestSplice(t *testing.T) {
	c := newCable(t)
	for _, tt := range []struct {
		name    string
		in, out func() pipe
		from    func(io.Reader) io.Reader
		to      func(io.Writer) io.Writer
		want    byte
	}{
		{name: "plain to plain", in: c.plainPipe, out: c.plainPipe, want: after},
		{name: "raw to raw", in: c.rawPipe, out: c.rawPipe, want: after},
		{name: "plain to raw", in: c.plainPipe, out: c.rawPipe, want: after},
		{name: "raw to plain", in: c.rawPipe, out: c.plainPipe, want: after},
		{
			name: "a copy", in: c.rawPipe, out: c.rawPipe, want: before,
			from: func(r io.Reader) io.Reader { return onlyReader{r} },
			to:   func(w io.Writer) io.Writer { return onlyWriter{w} },
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in, out := tt.in(), tt.out()
			from, to := io.Reader(in.end), io.Writer(out.begin)
			if tt.from != nil {
				from, to = tt.from(from), tt.to(to)
			}
			f := fileOf(t)
			_, err := io.Copy(in.begin, f)
			require.NoError(t, err)
			require.NoError(t, in.begin.CloseWrite())
			n, err := io.Copy(to, from)
			require.NoError(t, err)
			require.EqualValues(t, zeroCopySize, n)
			change(t, f)
			require.Equal(t, string(tt.want), string(arrived(t, out.end)))
		})
	}
}

// pipe is a connection, from the end that is written to.
type pipe struct {
	begin interface {
		net.Conn
		CloseWrite() error
	}
	end net.Conn
}

func (c *cable) plainPipe() pipe {
	d, l := c.plain()
	return pipe{d, l}
}

func (c *cable) rawPipe() pipe {
	l := c.peers(stunt.Config{Security: stunt.Raw})
	return pipe{l.dialer, l.listener}
}

type (
	onlyWriter struct{ io.Writer }
	onlyReader struct{ io.Reader }
)
