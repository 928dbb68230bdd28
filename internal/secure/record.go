package secure

import (
	"encoding/binary"
	"io"
	"net"
	"sync"
	"time"
)

// A record on the wire:
//
//	0  1  type: 1 data, 2 close (the sender sends no more), 3 switch (the sender's next record comes over the next
//	      connection, see Conn.Move, and whatever comes here is not its), 4 control (see Conn.Control; where the two ends
//	      have not agreed on these they are refused); all others are refused
//	1  2  length of what follows: 17 to 32784 for data, 17 to 80 for control; 16 for the others, which are empty
//	3  n  ciphertext and tag, with these three bytes as associated data
//
// Type and length are outside so that plaintext and ciphertext lie at the same offset and a record can be decrypted in
// place, or straight into the reader's buffer. They tell an onlooker nothing that the packets do not.
//
// A data record holds at most 32 KiB: what io.Copy reads and writes at a time, so a copied record is decrypted into its
// destination; and within the 65535 bytes of a Noise message. Records of 16, 32 and 60 KiB, and buffers of one, two and four
// of them, measured equal within the noise in writes up to 64 KiB; in writes of 1 MiB, 120 KiB to the call gained
// a quarter, which is not worth twice the memory and twice the wait for a record on a slow path.
const (
	typeData    = 1
	typeClose   = 2
	typeSwitch  = 3
	typeControl = 4

	recordHeader   = 3
	recordOverhead = recordHeader + tagSize
	maxPlain       = 32 << 10
	maxControl     = 64 // a few numbers
	maxRecord      = recordOverhead + maxPlain

	// firstPlain is the size of the first data records: with it, one record fits into a segment of any usual path. From
	// there a record is never longer than all before it together, so that a reader never waits for more bytes than it
	// already has had, as slow start lets them through. The first 64 KiB go out as seven records, where two would do.
	firstPlain = 1360

	// bufferSize is what moves to or from the kernel in one call under load: two whole records; and to the reader the next
	// one's header, so that it sees whether there is a next one.
	bufferSize = 2*maxRecord + recordHeader

	// smallSize is what each connection has to itself: enough for what arrives in one segment.
	smallSize = firstPlain + recordOverhead + recordHeader
)

// buffers are lent to a direction while it has ciphertext to hold. An idle connection has none of them.
var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// RecordError reports a record that the peer did not send: bytes on the connection were changed, added, moved or left
// out. Nothing of it was handed to the reader, and both directions of the connection are dead.
type RecordError struct{ Reason string }

func (e *RecordError) Error() string { return "secure: record refused: " + e.Reason }

var (
	errType   = &RecordError{"unknown type"}
	errLength = &RecordError{"impossible length"}
	errTag    = &RecordError{"not authentic"}
)

// reader is the receiving direction. Its owner holds the lock of its Conn.
type reader struct {
	half     half
	control  func([]byte) error // takes control records; nil: there are none
	plain    []byte             // decrypted and not yet taken; lies in buf before r
	eof      bool               // a close record came
	switched time.Time          // when a switch record came that was not followed yet, or zero

	buf   []byte            // small, or all of big
	r, w  int               // buf[r:w] came from the network and is not yet decrypted
	big   *[bufferSize]byte // borrowed, or nil
	small [smallSize]byte
}

// read moves decrypted bytes to p, after blocking on conn if there are none. An error of conn (a deadline) leaves what has
// arrived where it is, and the next call goes on from there. After a switch record it returns errSwitched, until switched is
// cleared and it is given the next conn.
func (r *reader) read(conn net.Conn, p []byte) (int, error) {
	for len(r.plain) == 0 && !r.eof && r.switched.IsZero() {
		n, err := r.record(conn, p) // again, after one of control
		if n > 0 || err != nil {
			return n, err
		}
	}
	switch {
	case len(r.plain) > 0:
	case r.eof:
		return 0, io.EOF
	default:
		return 0, errSwitched
	}
	n := copy(p, r.plain)
	r.plain = r.plain[n:]
	r.release()
	return n, nil
}

// record takes one record. It decrypts into p if p has room for all of it, and returns the length; else in place, to plain.
func (r *reader) record(conn net.Conn, p []byte) (int, error) {
	if err := r.fill(conn, recordHeader); err != nil {
		return 0, err
	}
	header := r.buf[r.r : r.r+recordHeader]
	kind, length := header[0], int(binary.BigEndian.Uint16(header[1:]))
	if err := r.allowed(kind, length); err != nil {
		return 0, err
	}
	if err := r.fill(conn, recordHeader+length); err != nil {
		return 0, err
	}
	header = r.buf[r.r : r.r+recordHeader]
	sealed := r.buf[r.r+recordHeader : r.r+recordHeader+length]
	dst := sealed
	direct := len(p) >= length-tagSize && kind != typeControl
	if direct {
		dst = p
	}
	plain, err := r.half.open(dst[:0], sealed, header)
	if err == errExhausted {
		return 0, err
	} else if err != nil {
		return 0, errTag
	}
	r.r += recordHeader + length
	switch kind {
	case typeSwitch:
		r.switched = time.Now()
		r.r = r.w // what follows is nobody's
		r.release()
		return 0, nil
	case typeControl:
		err := r.control(plain)
		r.release()
		return 0, err
	}
	r.eof = kind == typeClose
	if !direct {
		r.plain = plain
		return 0, nil
	}
	r.release()
	return len(plain), nil
}

// allowed says what is wrong with the header of a record.
func (r *reader) allowed(kind byte, length int) error {
	least, most := tagSize, tagSize
	switch kind {
	case typeData:
		least, most = tagSize+1, tagSize+maxPlain
	case typeControl:
		if r.control == nil {
			return errType
		}
		least, most = tagSize+1, tagSize+maxControl
	case typeClose, typeSwitch:
	default:
		return errType
	}
	if length < least || length > most {
		return errLength
	}
	return nil
}

// fill reads from conn until buf[r:w] holds need bytes, and whatever else is there and has room.
func (r *reader) fill(conn net.Conn, need int) error {
	if r.buf == nil {
		r.buf = r.small[:]
	}
	if have := r.w - r.r; have >= need {
		return nil
	} else if have > 0 && r.w == len(r.buf) && r.big == nil {
		r.makeRoom(bufferSize) // more came than a segment, so there may be much more
	} else if r.r+need > len(r.buf) {
		r.makeRoom(need)
	}
	for r.w-r.r < need {
		n, err := conn.Read(r.buf[r.w:])
		r.w += n
		if r.w-r.r >= need {
			return nil // an error with the last bytes comes again with the next read
		}
		if err == io.EOF {
			return io.ErrUnexpectedEOF
		} else if err != nil {
			return err
		}
	}
	return nil
}

// makeRoom moves what has arrived to the front of a buffer that can hold need bytes.
func (r *reader) makeRoom(need int) {
	to := r.buf
	if need > len(to) {
		r.big = buffers.Get().(*[bufferSize]byte)
		to = r.big[:]
	}
	r.w = copy(to, r.buf[r.r:r.w])
	r.r = 0
	r.buf = to
}

// release starts over at the front of the buffer once nothing is left in it, and gives a borrowed one back.
func (r *reader) release() {
	if len(r.plain) > 0 || r.r < r.w {
		return
	}
	r.r, r.w = 0, 0
	if r.big != nil {
		buffers.Put(r.big)
		r.big, r.buf = nil, r.small[:]
	}
}

// drop gives up what was not read, and what is not a whole record.
func (r *reader) drop() {
	r.plain, r.r = nil, r.w
	r.release()
}

// writer is the sending direction. Its owner holds the lock of its Conn.
//
// A sealed record is final: it is sent as it is, whatever happens, because a second plaintext under the same nonce
// would give away both. So what a deadline keeps back waits in pending, ahead of everything later.
type writer struct {
	half      half
	sent      int  // plaintext bytes, up to maxPlain; after that it stays
	shut      bool // the close record is sealed
	switching bool // a switch record is the last of pending
	buf       *[bufferSize]byte
	pending   []byte // sealed and not yet written; lies in buf
}

// seal encrypts as much of p as one write may carry, at least one record, and returns how much that was. Nothing is pending.
func (w *writer) seal(p []byte) (int, error) {
	w.borrow()
	total := 0
	for total < len(p) {
		n := min(len(p)-total, max(w.sent, firstPlain), maxPlain)
		if len(w.pending)+recordOverhead+n > len(w.buf) {
			break
		}
		if err := w.record(typeData, p[total:total+n]); err != nil {
			return total, err
		}
		total += n
		w.sent = min(w.sent+n, maxPlain)
	}
	return total, nil
}

// sealClose encrypts the close record, after which there is no other. It goes behind what is pending.
func (w *writer) sealClose() error {
	if w.shut {
		return nil
	}
	w.borrow()
	if err := w.record(typeClose, nil); err != nil {
		return err
	}
	w.shut = true
	return nil
}

// sealSwitch encrypts the switch record. Nothing goes behind it before it is flushed.
func (w *writer) sealSwitch() error {
	w.borrow()
	err := w.record(typeSwitch, nil)
	w.switching = err == nil
	return err
}

// sealControl encrypts a control record, behind what is pending. Like seal it may take the buffer for at most one.
func (w *writer) sealControl(p []byte) error {
	w.borrow()
	return w.record(typeControl, p)
}

func (w *writer) borrow() {
	if w.buf == nil {
		w.buf = buffers.Get().(*[bufferSize]byte)
		w.pending = w.buf[:0]
	}
}

// record appends one record to pending.
func (w *writer) record(kind byte, plain []byte) error {
	header := append(w.pending, kind)
	header = binary.BigEndian.AppendUint16(header, uint16(len(plain)+tagSize))
	out, err := w.half.seal(header, plain, header[len(w.pending):])
	if err == nil {
		w.pending = out
	}
	return err
}

// flush writes what is pending. On an error the rest stays pending.
func (w *writer) flush(conn net.Conn) error {
	if w.buf == nil {
		return nil
	}
	for len(w.pending) > 0 {
		n, err := conn.Write(w.pending)
		w.pending = w.pending[n:]
		if err != nil && len(w.pending) > 0 {
			return err
		}
	}
	buffers.Put(w.buf)
	w.buf, w.pending = nil, nil
	return nil
}
