package secure

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt/internal/tcppipe"
)

// dialed runs a handshake whose two ends have their own idea of what they agree on.
func dialed(dialer, listener Params, agrees bool) (ds, ls *Session, msg2 []byte, err error) {
	i, msg1, err := Initiate(testKey("bob"), dialer)
	if err != nil {
		return nil, nil, nil, err
	}
	r, err := Respond(testKey("alice"), listener, msg1)
	if err != nil {
		return nil, nil, nil, err
	}
	msg2, ls, err = r.Answer(agrees)
	if err != nil {
		return nil, nil, nil, err
	}
	ds, err = i.Finish(msg2)
	return ds, ls, msg2, err
}

// TestAgreedResume: a connection is resumable if both ends want that, and both know it.
func TestAgreedResume(t *testing.T) {
	for _, wants := range []bool{false, true} {
		for _, agrees := range []bool{false, true} {
			p := testParams
			p.Resumable = wants
			ds, ls, msg2, err := dialed(p, p, agrees)
			require.NoError(t, err)
			require.Equal(t, wants && agrees, ds.AgreedResume())
			require.Equal(t, wants && agrees, ls.AgreedResume())
			require.Equal(t, ds.Resumption(), ls.Resumption())
			if !wants {
				require.Len(t, msg2, message2Size, "who does not ask sees nothing of it")
			}
		}
	}
	p := testParams
	p.Resumable = true
	_, _, _, err := dialed(p, testParams, true)
	var refused *HandshakeError
	require.ErrorAs(t, err, &refused, "a server that takes the wish away is found out")
}

// TestResumes: only two ends that know the secret of a connection can agree on another path for it.
func TestResumes(t *testing.T) {
	one, other, none := testParams, testParams, testParams
	one.Resumes, other.Resumes = [32]byte{1}, [32]byte{2}
	none.Resumable = true
	ds, ls, _, err := dialed(one, one, true)
	require.NoError(t, err)
	require.True(t, ds.AgreedResume() && ls.AgreedResume())
	for _, listener := range []Params{other, none, testParams} {
		_, _, _, err := dialed(one, listener, true)
		var refused *HandshakeError
		require.ErrorAs(t, err, &refused)
	}
	a, _, _, err := dialed(none, none, true)
	require.NoError(t, err)
	b, _, _, err := dialed(none, none, true)
	require.NoError(t, err)
	require.NotEqual(t, a.Resumption(), b.Resumption(), "each connection has its own secret, though the dial id is the same")
}

// controlled returns the two ends of a connection that takes control records; b's are appended to got.
func controlled(t testing.TB, a, b net.Conn, got *[]string) (dialer, listener *Conn) {
	ds, ls := provenSessions(t)
	dialer, err := ds.ControlConn(a, func([]byte) error { return nil })
	require.NoError(t, err)
	listener, err = ls.ControlConn(b, func(p []byte) error {
		*got = append(*got, string(p))
		if string(p) == "no" {
			return errors.ErrUnsupported
		}
		return nil
	})
	require.NoError(t, err)
	return dialer, listener
}

// TestControl: control records come between the records of data, and over the new leg after a move.
func TestControl(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []string
		x, y := tcppipe.New("", 1000)
		a, b := controlled(t, x, y, &got)
		defer b.Close()
		defer a.Close()
		x2, y2 := tcppipe.New("second", 1000)
		for _, step := range []func() error{
			func() error { return a.Control([]byte("1")) },
			func() error { _, err := a.Write([]byte("data")); return err },
			func() error { return a.Control([]byte("2")) },
			func() error { return errors.Join(a.Move(x2), b.Move(y2)) },
			func() error { return a.Control([]byte("3")) },
			func() error { _, err := a.Write([]byte("more")); return err },
			func() error { return a.Control([]byte("no")) },
			a.CloseWrite,
		} {
			require.NoError(t, step())
		}
		read := func(plain []byte) { got = append(got, "read "+string(plain)) }
		require.NoError(t, b.ReadRecord(read))
		require.NoError(t, b.ReadRecord(read))
		require.ErrorIs(t, b.ReadRecord(read), errors.ErrUnsupported, "what the function says ends the call")
		require.Equal(t, io.EOF, b.ReadRecord(read))
		require.Equal(t, []string{"1", "read data", "2", "3", "read more", "no"}, got)
		require.Nil(t, b.in.big)
	})
}

// TestControlBounds: whose end has not agreed to control records, or gets one of an impossible size, refuses it.
func TestControlBounds(t *testing.T) {
	for _, size := range []int{0, maxControl + 1} {
		x, _ := tcpPair(t)
		a, _ := testConns(t, x, x)
		require.ErrorIs(t, a.Control(make([]byte, size)), errLength)
	}
	x, y := tcpPair(t)
	a, b := testConns(t, x, y)
	require.NoError(t, a.Control([]byte("x")))
	_, err := b.Read(make([]byte, 10))
	require.ErrorIs(t, err, errType)
	require.NoError(t, a.Close())
}

// TestAbort: the peer is told nothing but by TCP, and everybody is unblocked.
func TestAbort(t *testing.T) {
	x, y := tcpPair(t)
	a, b := testConns(t, x, y)
	done := make(chan error)
	go func() {
		_, err := a.Read(make([]byte, 1))
		done <- err
	}()
	_, err := b.Write([]byte("unread"))
	require.NoError(t, err)
	require.NoError(t, <-done)
	a.Abort()
	a.Abort()
	_, err = a.Write([]byte("x"))
	require.ErrorIs(t, err, net.ErrClosed)
	_, err = io.ReadAll(b)
	require.Error(t, err, "no end")
	require.NoError(t, b.Close())
}

// FuzzControl is FuzzRecords for a stream with control records: of these, too, only the beginning of what was sent is seen.
func FuzzControl(f *testing.F) {
	const sent = "hello<1>world<2>"
	ds, ls := provenSessions(f)
	w := &wire{in: &bytes.Buffer{}}
	c, err := ds.Conn(w)
	require.NoError(f, err)
	for i, word := range []string{"hello", "world"} {
		_, err = c.Write([]byte(word))
		require.NoError(f, err)
		require.NoError(f, c.Control([]byte{byte('1' + i)}))
	}
	require.NoError(f, c.CloseWrite())
	good := w.out.Bytes()
	f.Add(good, 1000)
	f.Add(good[:30], 1)
	f.Add([]byte{typeControl, 0, 17}, 2)
	f.Add([]byte{typeControl, 0xff, 0xff}, 2)
	f.Fuzz(func(t *testing.T, b []byte, segment int) {
		if segment < 1 {
			return
		}
		c := listening(*ls.keys, &segments{b: b, size: segment})
		var got []byte
		c.in.control = func(p []byte) error {
			got = append(append(append(got, '<'), p...), '>')
			return nil
		}
		var err error
		for err == nil {
			err = c.ReadRecord(func(p []byte) { got = append(got, p...) })
		}
		var refused *RecordError
		switch {
		case !bytes.HasPrefix([]byte(sent), got):
			t.Fatalf("read %q", got)
		case err == io.EOF && (string(got) != sent || !bytes.HasPrefix(b, good)):
			t.Fatalf("a proper end after %q", got)
		case err != io.EOF && !errors.As(err, &refused) && !errors.Is(err, io.ErrUnexpectedEOF):
			t.Fatalf("unexpected error: %v", err)
		}
	})
}

// FuzzAgreed is FuzzMessage2 for a dialer that wants a resumable connection: nobody but alice says whether it is.
func FuzzAgreed(f *testing.F) {
	p := testParams
	p.Resumable = true
	_, msg1, err := initiate(testRandom("bob"), testKey("bob"), p)
	require.NoError(f, err)
	var answers [][]byte
	for _, agrees := range []bool{false, true} {
		r, err := respond(testRandom("alice"), testKey("alice"), p, msg1)
		require.NoError(f, err)
		msg2, _, err := r.Answer(agrees)
		require.NoError(f, err)
		answers = append(answers, msg2)
		f.Add(msg2)
	}
	f.Add(answers[1][:message2Size])
	f.Add(append(bytes.Clone(answers[0]), 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		i, _, err := initiate(testRandom("bob"), testKey("bob"), p)
		require.NoError(t, err)
		s, err := i.Finish(b)
		if err != nil {
			return
		}
		agreed := bytes.Equal(b, answers[1])
		if !agreed && !bytes.Equal(b, answers[0]) || s.AgreedResume() != agreed {
			t.Fatalf("forged message 2: %x", b)
		}
	})
}
