package stuntd

import (
	"bytes"
	"io"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// record is a TLS record with n bytes in it.
func record(n int) []byte {
	return append([]byte{firstTLS, 3, 3, byte(n >> 8), byte(n)}, bytes.Repeat([]byte{0xaa}, n)...)
}

// through sends the chunks through a records, which is read with so much room, and
// returns what comes out in one piece each.
func through(t *testing.T, room int, chunks ...[]byte) (pieces [][]byte) {
	chunks = slices.DeleteFunc(chunks, func(c []byte) bool { return len(c) == 0 })
	r := newRecords(chunks[0][0])
	defer r.release()
	chunks[0] = chunks[0][1:]
	read := func(b []byte) (int, error) {
		if len(chunks) == 0 {
			return 0, io.EOF
		}
		require.NotEmpty(t, b, "there is always room to read into")
		n := copy(b, chunks[0])
		if chunks[0] = chunks[0][n:]; len(chunks[0]) == 0 {
			chunks = chunks[1:]
		}
		return n, nil
	}
	for {
		b := make([]byte, room)
		if n := r.next(b); n > 0 {
			pieces = append(pieces, b[:n])
		} else if err := r.fill(read); err != nil {
			require.True(t, r.empty(), "all comes out")
			return pieces
		}
	}
}

func TestRecords(t *testing.T) {
	const room = 571
	flight, hello := slices.Concat(record(1), record(240), record(90), record(53)), record(450)
	all := slices.Concat(flight, hello)
	cut := len(flight) + 100
	require.Equal(t, [][]byte{flight, hello}, through(t, room, all[:cut], all[cut:]), "no part of a record")
	require.Equal(t, [][]byte{flight, hello}, through(t, room, all))
	var bytewise [][]byte
	for i := range all {
		bytewise = append(bytewise, all[i:i+1])
	}
	require.Len(t, through(t, room, bytewise...), 5, "one record each")

	long := record(1500)
	pieces := through(t, room, long, hello)
	require.Equal(t, slices.Concat(long, hello), slices.Concat(pieces...))
	require.Len(t, pieces[0], room, "there is no sense in waiting for all of it")
	require.Equal(t, [][]byte{record(1), record(9)[:7]}, through(t, room, record(1), record(9)[:7]), "an end within a record is one")
	require.Equal(t, slices.Concat(record(16384), record(1)), slices.Concat(through(t, 1<<15, record(16384), record(1))...))
}

// Whatever comes, and however it is cut, goes on as it is.
func FuzzRecords(f *testing.F) {
	f.Add(slices.Concat(record(1), record(300)), uint16(571), uint16(40))
	f.Add(record(2500), uint16(571), uint16(3000))
	f.Add([]byte{firstTLS, 3, 3, 255, 255, 1}, uint16(1), uint16(1))
	f.Fuzz(func(t *testing.T, stream []byte, room, chunk uint16) {
		if len(stream) == 0 || room == 0 || chunk == 0 {
			return
		}
		var chunks [][]byte
		for c := range slices.Chunk(slices.Clone(stream), int(chunk)) {
			chunks = append(chunks, c)
		}
		require.Equal(t, stream, slices.Concat(through(t, int(room), chunks...)...))
	})
}
