package secure

import (
	"bytes"
	"io"
	"net"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
)

func headerOf(t testing.TB, preface []byte) Header {
	t.Helper()
	h, err := ReadHeader(bytes.NewReader(preface))
	require.NoError(t, err)
	return h
}

func TestReadHeaderTakesNoMore(t *testing.T) {
	ds, ls := testSessions(t, testParams)
	for _, s := range []*Session{ds, ls} {
		r := strings.NewReader(string(s.Preface(Nonce{7})) + "rest")
		h, err := ReadHeader(iotest.OneByteReader(r))
		require.NoError(t, err)
		require.Equal(t, s.role, h.Role)
		require.Equal(t, testParams.DialID, h.DialID)
		require.Equal(t, Nonce{7}, h.Nonce)
		rest, _ := io.ReadAll(r)
		require.Equal(t, "rest", string(rest))
	}
}

func TestReadHeaderRefuses(t *testing.T) {
	ds, _ := testSessions(t, testParams)
	good := ds.Preface(Nonce{1})
	for n := range good {
		_, err := ReadHeader(bytes.NewReader(good[:n]))
		if n == 0 {
			require.ErrorIs(t, err, io.EOF)
			continue
		}
		require.ErrorIs(t, err, io.ErrUnexpectedEOF, "%d bytes", n)
	}
	for i := range offDialID {
		bad := bytes.Clone(good)
		bad[i] ^= 0x80
		r := bytes.NewReader(bad)
		_, err := ReadHeader(r)
		require.ErrorIs(t, err, ErrNotPreface)
		require.Equal(t, len(bad)-offDialID, r.Len(), "a stranger is not listened to any longer")
	}
}

// TestPrefaceBits flips every bit of both prefaces; none is accepted.
func TestPrefaceBits(t *testing.T) {
	ds, ls := testSessions(t, testParams)
	for _, ends := range [][2]*Session{{ds, ls}, {ls, ds}} {
		good := ends[0].Preface(Nonce{9})
		for _, bad := range damaged(good)[:len(good)*8] {
			h, err := ReadHeader(bytes.NewReader(bad))
			if err == nil {
				err = ends[1].Check(h)
			}
			require.Error(t, err)
		}
		require.NoError(t, ends[1].Check(headerOf(t, good)), "strangers must not have used up the session")
	}
}

func TestPrefaceReflected(t *testing.T) {
	ds, ls := testSessions(t, testParams)
	require.ErrorIs(t, ds.Check(headerOf(t, ds.Preface(Nonce{1}))), errHeader)
	require.ErrorIs(t, ls.Check(headerOf(t, ls.Preface(Nonce{1}))), errHeader)

	turned := ls.Preface(Nonce{1})
	turned[offRole] = byte(Dialer)
	turned = append(turned, make([]byte, message3Size)...)
	require.ErrorIs(t, ls.Check(headerOf(t, turned)), errHeader)
}

func TestPrefaceOfOtherDial(t *testing.T) {
	ds, _ := testSessions(t, testParams)
	i, msg1, err := Initiate(testKey("bob"), testParams)
	require.NoError(t, err)
	r, err := Respond(testKey("alice"), testParams, msg1)
	require.NoError(t, err)
	msg2, ls, err := r.Answer(false)
	require.NoError(t, err)
	_, err = i.Finish(msg2)
	require.NoError(t, err)
	require.ErrorIs(t, ls.Check(headerOf(t, ds.Preface(Nonce{1}))), errHeader, "same keys, same parameters, another handshake")
}

// TestManyPaths checks several connections of one dial at once: message 3 ends the handshake once and is good on all.
func TestManyPaths(t *testing.T) {
	ds, ls := testSessions(t, testParams)
	errs := make(chan error, 8)
	for n := range cap(errs) {
		h := headerOf(t, ds.Preface(Nonce{byte(n)}))
		go func() { errs <- ls.Check(h) }()
	}
	for range cap(errs) {
		require.NoError(t, <-errs)
	}
	require.NotNil(t, ls.keys)
	require.Equal(t, ds.keys.out, ls.keys.in)
	require.Equal(t, ds.keys.in, ls.keys.out)

	ds.message3[0] ^= 1
	require.ErrorIs(t, ls.Check(headerOf(t, ds.Preface(Nonce{1}))), errHeader, "another message 3 than the one that was good")
}

func TestSelect(t *testing.T) {
	ds, ls := provenSessions(t)
	nd, nl := Nonce{1}, Nonce{2}
	sel := ds.Select(nd, nl)
	require.Len(t, sel, SelectSize)
	require.NoError(t, ls.CheckSelect(sel, nl, nd))
	for _, bad := range damaged(sel) {
		require.ErrorIs(t, ls.CheckSelect(bad, nl, nd), errSelect)
	}
	require.ErrorIs(t, ds.CheckSelect(sel, nd, nl), errSelect, "an end must not take its own select for the other's")

	move, moved := ds.Move(nd, nl), ls.Moved(nl, nd)
	require.NoError(t, ls.CheckMove(move, nl, nd))
	require.NoError(t, ds.CheckMoved(moved, nd, nl))
	for _, bad := range append(damaged(move), sel, moved) {
		require.ErrorIs(t, ls.CheckMove(bad, nl, nd), errSelect)
	}
	for _, bad := range append(damaged(moved), sel, move) {
		require.ErrorIs(t, ds.CheckMoved(bad, nd, nl), errSelect)
	}
	require.ErrorIs(t, ls.CheckSelect(move, nl, nd), errSelect, "one is not taken for the other")
	require.ErrorIs(t, ls.CheckMove(move, Nonce{3}, nd), errSelect, "a word is bound to its connection")
}

// TestReplay plays what the dialer said on one connection to the listener on another.
func TestReplay(t *testing.T) {
	ds, ls := testSessions(t, testParams)
	nd, nl := Nonce{1}, Nonce{2}
	preface := ds.Preface(nd)
	require.NoError(t, ls.Check(headerOf(t, preface)))
	sel := ds.Select(nd, nl)
	require.NoError(t, ls.CheckSelect(sel, nl, nd))

	again := Nonce{3} // the listener's for the replayer's connection
	require.NoError(t, ls.Check(headerOf(t, preface)), "a preface alone is not bound to its connection")
	require.ErrorIs(t, ls.CheckSelect(sel, again, nd), errSelect, "the select is")
}

// TestOneSegment writes preface, select and the first bytes together: whoever reads one of them leaves the rest alone.
func TestOneSegment(t *testing.T) {
	ds, ls := testSessions(t, testParams)
	nd, nl := Nonce{1}, Nonce{2}
	require.NoError(t, ds.Check(headerOf(t, ls.Preface(nl))))
	w := &wire{in: &bytes.Buffer{}}
	w.out.Write(ds.Preface(nd))
	w.out.Write(ds.Select(nd, nl))
	c, err := ds.Conn(w)
	require.NoError(t, err)
	_, err = c.Write([]byte("first"))
	require.NoError(t, err)
	require.NoError(t, c.Close())

	far := &wire{in: &w.out}
	h, err := ReadHeader(far)
	require.NoError(t, err)
	require.NoError(t, ls.Check(h))
	sel := make([]byte, SelectSize)
	_, err = io.ReadFull(far, sel)
	require.NoError(t, err)
	require.NoError(t, ls.CheckSelect(sel, nl, h.Nonce))
	got, err := ls.Conn(far)
	require.NoError(t, err)
	b, err := io.ReadAll(got)
	require.NoError(t, err)
	require.Equal(t, "first", string(b))
}

func TestConnOnce(t *testing.T) {
	raw := testParams
	raw.Mode = Raw
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	ds, _ := testSessions(t, raw)
	_, err := ds.Conn(a)
	require.NoError(t, err, "over a relay, a raw session has records as well")

	ds, ls := testSessions(t, testParams)
	_, err = ls.Conn(nil)
	require.ErrorIs(t, err, errNoKeys, "no preface has come yet")
	_, err = ds.Conn(a)
	require.NoError(t, err)
	_, err = ds.Conn(b)
	require.ErrorIs(t, err, errNoKeys, "the keys of one connection must not serve another")
}

func BenchmarkCheckStranger(b *testing.B) {
	ds, ls := provenSessions(b)
	h := headerOf(b, ds.Preface(Nonce{1}))
	h.tag[0] ^= 1
	b.ReportAllocs()
	for b.Loop() {
		require.Error(b, ls.Check(h))
	}
}
