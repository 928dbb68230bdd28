package secure

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
)

// FuzzMessage1 holds that only bob's own message opens a dial in bob's name.
func FuzzMessage1(f *testing.F) {
	_, msg1, err := initiate(testRandom("bob"), testKey("bob"), testParams)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(msg1)
	f.Add(msg1[:message1Size-1])
	f.Add(make([]byte, message1Size))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := respond(testRandom("alice"), testKey("alice"), testParams, b)
		if err == nil && r.Peer().Equal(public(testKey("bob"))) && !bytes.Equal(b, msg1) {
			t.Fatalf("forged message 1: %x", b)
		}
	})
}

func FuzzMessage2(f *testing.F) {
	_, msg1, err := initiate(testRandom("bob"), testKey("bob"), testParams)
	if err != nil {
		f.Fatal(err)
	}
	r, err := respond(testRandom("alice"), testKey("alice"), testParams, msg1)
	if err != nil {
		f.Fatal(err)
	}
	msg2, _, err := r.Answer(false)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(msg2)
	f.Add(msg2[:message2Size-1])
	f.Add(make([]byte, message2Size))
	f.Fuzz(func(t *testing.T, b []byte) {
		i, _, err := initiate(testRandom("bob"), testKey("bob"), testParams)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := i.Finish(b); err == nil && !bytes.Equal(b, msg2) {
			t.Fatalf("forged message 2: %x", b)
		}
	})
}

// FuzzMessage3 gives the fuzzed message a good tag, so that it gets as far as the listener's Noise state.
func FuzzMessage3(f *testing.F) {
	ds, _ := testSessions(f, testParams)
	good := ds.message3
	f.Add(good[:])
	f.Add(make([]byte, message3Size))
	f.Fuzz(func(t *testing.T, b []byte) {
		ds, ls := testSessions(t, testParams)
		var m [message3Size]byte
		copy(m[:], b)
		ds.message3 = m
		h, err := ReadHeader(bytes.NewReader(ds.Preface(Nonce{1})))
		if err != nil {
			t.Fatal(err)
		}
		if ls.Check(h) == nil && m != good {
			t.Fatalf("forged message 3: %x", m)
		}
	})
}

// FuzzReadHeader holds that a header that is read is written back as the bytes it was read from, and that a session
// accepts none but the peer's.
func FuzzReadHeader(f *testing.F) {
	ds, ls := testSessions(f, testParams)
	fromDialer, fromListener := ds.Preface(Nonce{1}), ls.Preface(Nonce{2})
	f.Add(fromDialer)
	f.Add(fromListener)
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		h, err := ReadHeader(r)
		if err != nil {
			return
		}
		read := b[:len(b)-r.Len()]
		if got := h.append(nil); !bytes.Equal(got, read) {
			t.Fatalf("read %x, which is %x", read, got)
		}
		if ls.Check(h) == nil && !bytes.Equal(read, fromDialer) || ds.Check(h) == nil && !bytes.Equal(read, fromListener) {
			t.Fatalf("forged preface: %x", read)
		}
	})
}

func FuzzSelect(f *testing.F) {
	ds, ls := testSessions(f, testParams)
	good := ds.Select(Nonce{1}, Nonce{2})
	move, moved := ds.Move(Nonce{1}, Nonce{2}), ls.Moved(Nonce{2}, Nonce{1})
	f.Add(good)
	f.Add(good[1:])
	f.Add(move)
	f.Add(moved)
	f.Fuzz(func(t *testing.T, b []byte) {
		if ls.CheckSelect(b, Nonce{2}, Nonce{1}) == nil && !bytes.Equal(b, good) {
			t.Fatalf("forged select: %x", b)
		}
		if ls.CheckMove(b, Nonce{2}, Nonce{1}) == nil && !bytes.Equal(b, move) {
			t.Fatalf("forged move: %x", b)
		}
		if ds.CheckMoved(b, Nonce{1}, Nonce{2}) == nil && !bytes.Equal(b, moved) {
			t.Fatalf("forged moved: %x", b)
		}
	})
}

// FuzzRecords holds that whatever comes in, the reader sees a beginning of what was sent, and its proper end only if it
// was all of it. The segment size varies where the reader has to stop and go on.
func FuzzRecords(f *testing.F) {
	const sent = "helloworld"
	ds, ls := provenSessions(f)
	good := stream(f, ds, "hello", "world")
	f.Add(good, 1000)
	f.Add(good[:30], 1)
	f.Add([]byte{typeClose, 0, 16}, 1)
	f.Add([]byte{typeData, 0xff, 0xff}, 2)
	f.Add([]byte{typeSwitch, 0, 16}, 3)
	f.Fuzz(func(t *testing.T, b []byte, segment int) {
		if segment < 1 {
			return
		}
		got, err := io.ReadAll(listening(*ls.keys, &segments{b: b, size: segment}))
		var refused *RecordError
		switch {
		case !strings.HasPrefix(sent, string(got)):
			t.Fatalf("read %q", got)
		case err == nil && (string(got) != sent || !bytes.HasPrefix(b, good)):
			t.Fatalf("a proper end after %q", got)
		case err != nil && !errors.As(err, &refused) && !errors.Is(err, io.ErrUnexpectedEOF):
			t.Fatalf("unexpected error: %v", err)
		}
	})
}

// FuzzMove is FuzzRecords for a stream that goes over to another connection: nothing that comes on either one, or behind
// the switch on the old one, is read but what was sent, in its order.
func FuzzMove(f *testing.F) {
	const sent = "helloworld"
	ds, ls := provenSessions(f)
	before, after := movedStream(f, ds, "hello", "world")
	f.Add(before, after, 1000)
	f.Add(append(bytes.Clone(before), after...), after, 7)
	f.Add(after, before, 1)
	f.Add(before, before, 1)
	f.Fuzz(func(t *testing.T, b1, b2 []byte, segment int) {
		if segment < 1 {
			return
		}
		c := listening(*ls.keys, &segments{b: b1, size: segment})
		if err := c.Move(&wire{in: &segments{b: b2, size: segment}}); err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		got, err := io.ReadAll(c)
		var refused *RecordError
		switch {
		case !strings.HasPrefix(sent, string(got)):
			t.Fatalf("read %q", got)
		case err == nil && (string(got) != sent || !bytes.HasPrefix(b1, before) || !bytes.HasPrefix(b2, after)):
			t.Fatalf("a proper end after %q", got)
		case err != nil && !errors.As(err, &refused) && !errors.Is(err, io.ErrUnexpectedEOF):
			t.Fatalf("unexpected error: %v", err)
		}
	})
}
