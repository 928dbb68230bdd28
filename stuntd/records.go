package stuntd

import (
	"encoding/binary"
	"errors"
	"io"
	"sync"
)

// A records hands crypto/tls whole records, and no part of the next one, through
// the handshake and what has come with its end. crypto/tls keeps the buffer that it
// reads into for as long as the connection lives, and never makes it smaller; when
// it has read a part of a record it makes it larger, and what a node says first
// comes on the heels of its handshake. So an idle session has 0.6 KiB there, and not
// 1.4.
type records struct {
	buf      *[recordsRoom]byte
	from, to int  // what of buf has not been handed on
	split    bool // a record was longer than there was room for, so all is handed on as it comes
}

// recordsRoom has room for the end of a node's handshake and what it says first,
// together: half of it without a token. The first message of a client that offers a
// post-quantum key is 1.5 KiB.
const recordsRoom = 2 << 10

// Of a record (RFC 8446 section 5.1): its type, its version, and the length of
// what follows.
const recordHead = 5

var recordRooms = sync.Pool{New: func() any { return new([recordsRoom]byte) }}

// newRecords begins with a byte that was read before.
func newRecords(first byte) *records {
	r := &records{buf: recordRooms.Get().(*[recordsRoom]byte), to: 1}
	r.buf[0] = first
	return r
}

// next copies what can be handed on into b; 0: nothing, before more was read.
func (r *records) next(b []byte) int {
	if r.from == r.to {
		return 0
	}
	n := 0
	for !r.split {
		have := r.buf[r.from+n : r.to]
		if len(have) < recordHead {
			break
		}
		size := recordHead + int(binary.BigEndian.Uint16(have[3:]))
		if n == 0 && size > min(len(b), len(r.buf)) {
			r.split = true
		}
		if size > len(have) || n+size > len(b) {
			break
		}
		n += size
	}
	if r.split {
		n = r.to - r.from
	}
	n = copy(b, r.buf[r.from:r.from+n])
	r.from += n
	return n
}

// fill reads once. Where a stream ends within a record, that is for crypto/tls to
// see.
func (r *records) fill(read func([]byte) (int, error)) error {
	r.to = copy(r.buf[:], r.buf[r.from:r.to])
	r.from = 0
	n, err := read(r.buf[r.to:])
	r.to += n
	if errors.Is(err, io.EOF) && !r.empty() {
		r.split = true
		return nil // it comes again
	}
	return err
}

// empty reports whether all was handed on.
func (r *records) empty() bool { return r.from == r.to }

// release gives the room to another connection.
func (r *records) release() { recordRooms.Put(r.buf) }
