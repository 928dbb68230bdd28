package rendezvous

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write testdata/vectors.txt anew")

// vectors is one message of each kind, with every field set.
func vectors() []message {
	key := ed25519.PublicKey(bytes.Repeat([]byte{0x0a}, 32))
	id := DialID{0xd1, 15: 0xff}
	noise, candidates, report, ticket := []byte("noise"), []byte("candidates"), []byte("report"), []byte("ticket")
	seen := netip.MustParseAddrPort("192.0.2.7:40000")
	return []message{
		&hello{Min: 1, Max: 3, Agent: "stunt/0.1", Token: "stunt1.dG9rZW4"},
		&Welcome{Version: 1, Observed: netip.MustParseAddrPort("192.0.2.7:40000"), Keepalive: 25 * time.Second, Agent: "stuntd/0.1", Relays: []string{"@192.0.2.1:3478", "relay.example.com:443"}, Spread: 9 * time.Second},
		&Info{Report: report, Candidates: candidates, Ask: true, Kind: "eim/preserving/apdf/silence", Hidden: true},
		&register{Ref: 1, ID: "alice"},
		&registered{Ref: 1, ID: "alice"},
		&deregister{Ref: 2, ID: "alice"},
		&deregistered{Ref: 2},
		&lookup{Ref: 3, ID: "bob"},
		&Presence{Ref: 3, ID: "bob", Key: key, Since: time.Unix(1700000000, 0), Report: report,
			Last: "direct", LastAt: time.Unix(1700000100, 0)},
		&DialRequest{DialID: id, Peer: "bob", Port: 443, Noise: noise, Candidates: candidates, Report: report, Kind: "apdm/random/apdf/rst", Hidden: true},
		&Ringing{DialID: id, Key: key, Candidates: candidates, Report: report, Hint: "direct", Ticket: ticket, Observed: seen},
		&Offer{DialID: id, From: key, FromIDs: []string{"alice", "al"}, To: "bob", Port: 443, Noise: noise, Candidates: candidates, Report: report, Ask: true, Hint: "direct/reversed", Ticket: ticket, Observed: seen},
		&Answer{DialID: id, Code: CodePortClosed, Text: "no", Noise: noise, Candidates: candidates, Report: report, Hint: "direct", Ticket: ticket, Observed: seen},
		&goAhead{DialID: id},
		&cancel{DialID: id, Code: CodeCanceled},
		&Outcome{DialID: id, OK: true, Method: "direct", Elapsed: 120 * time.Millisecond, Text: "x"},
		&ping{},
		&pong{Spread: time.Minute},
		&bye{Spread: 5 * time.Second},
		&Error{Code: CodeIDTaken, Text: "no", Ref: 1, DialID: id, ID: "alice"},
	}
}

// The bytes on the wire do not change by accident.
func TestVectors(t *testing.T) {
	var got strings.Builder
	for _, m := range vectors() {
		frame, err := encode(m)
		require.NoError(t, err)
		fmt.Fprintf(&got, "%-14s %x\n", reflect.TypeOf(m).Elem().Name(), frame)
	}
	const file = "testdata/vectors.txt"
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(got.String()), 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(want), got.String(), "the protocol has changed: is that a new version?")

	lines := bufio.NewScanner(bytes.NewReader(want))
	for _, m := range vectors() {
		require.True(t, lines.Scan())
		frame, err := hex.DecodeString(strings.Fields(lines.Text())[1])
		require.NoError(t, err)
		back, err := readMessage(bytes.NewReader(frame), func() {})
		require.NoError(t, err)
		require.Equal(t, m, back)
	}
}

func TestEveryKindOnce(t *testing.T) {
	for i, m := range kinds {
		require.Equal(t, kind(i+1), m.kind(), "%T", m)
		require.Less(t, m.kind(), kind(24), "a kind is one byte in CBOR")
		require.LessOrEqual(t, reflect.TypeOf(m).Elem().NumField(), 22, "the count of pairs is one byte")
	}
	require.Len(t, vectors(), len(kinds))
}

// fields checks that one number is one field in all messages, as promised.
func TestFieldNumbers(t *testing.T) {
	seen := map[string]string{}
	alias := map[string]string{"Agent": "Text", "Peer": "ID", "To": "ID", "From": "Key"}
	for _, m := range kinds {
		typ := reflect.TypeOf(m).Elem()
		for i := range typ.NumField() {
			f := typ.Field(i)
			number, _, _ := strings.Cut(f.Tag.Get("cbor"), ",")
			if number == "" || number == "-" {
				continue
			}
			name := f.Name
			if a := alias[name]; a != "" {
				name = a
			}
			if was, ok := seen[number]; ok {
				require.Equal(t, was, name, "field %s of %s", number, typ)
			}
			seen[number] = name
		}
	}
}

// The largest of everything that a client may send becomes an Offer that fits.
func TestLargestMessagesFit(t *testing.T) {
	label, words := strings.Repeat("x", 63), strings.Repeat("x", MaxLabel)
	key := make(ed25519.PublicKey, ed25519.PublicKeySize)
	blob, noise, text := make([]byte, MaxBlob), make([]byte, MaxNoise), strings.Repeat("t", MaxText)
	seen := netip.AddrPortFrom(netip.MustParseAddr("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"), 65535)
	var ids []string
	for range MaxIDs {
		ids = append(ids, label)
	}
	for _, m := range []message{
		&Offer{DialID: DialID{1}, From: key, FromIDs: ids, To: label, Port: 65535, Noise: noise, Candidates: blob, Report: blob, Ask: true, Hint: words, Ticket: make([]byte, MaxTicket), Observed: seen},
		&Answer{DialID: DialID{1}, Code: 65535, Text: text, Noise: noise, Candidates: blob, Report: blob, Hint: words, Ticket: make([]byte, MaxTicket), Observed: seen},
	} {
		_, err := encode(m)
		require.NoError(t, err)
	}
}

func TestBounds(t *testing.T) {
	id, key := DialID{1}, make(ed25519.PublicKey, ed25519.PublicKeySize)
	long, blob := strings.Repeat("t", MaxText+1), make([]byte, MaxBlob+1)
	for _, m := range []message{
		&hello{Min: 2, Max: 1}, &hello{Agent: long}, &hello{Agent: "a\nb"}, &hello{Token: strings.Repeat("t", MaxToken+1)}, &hello{Token: "a\nb"},
		&Welcome{}, &Welcome{Observed: netip.MustParseAddrPort("192.0.2.1:1"), Keepalive: -1}, &Welcome{Observed: netip.MustParseAddrPort("192.0.2.1:1"), Spread: -1}, &pong{Spread: -1},
		&Welcome{Observed: netip.MustParseAddrPort("192.0.2.1:1"), Relays: make([]string, MaxRelays+1)},
		&Welcome{Observed: netip.MustParseAddrPort("192.0.2.1:1"), Relays: []string{long}},
		&Ringing{DialID: id, Key: key, Ticket: make([]byte, MaxTicket+1)}, &Answer{DialID: id, Ticket: make([]byte, MaxTicket+1)},
		&Info{Report: blob}, &Info{Candidates: blob}, &Info{Kind: strings.Repeat("x", MaxLabel+1)}, &Info{Kind: "a b"}, &Info{Kind: "A"},
		&register{ID: long}, &lookup{ID: long}, &deregister{ID: long}, &registered{ID: "A"},
		&Presence{ID: "bob"}, &Presence{ID: "bob", Key: key[:31]}, &Presence{ID: "b b", Key: key}, &Presence{Key: key, Report: blob},
		&DialRequest{}, &DialRequest{DialID: id, Peer: long}, &DialRequest{DialID: id, Noise: make([]byte, MaxNoise+1)},
		&DialRequest{DialID: id, Kind: "é"}, &Ringing{DialID: id, Key: key, Hint: "a\n"}, &Offer{DialID: id, From: key, Hint: "_"}, &Answer{DialID: id, Hint: " "},
		&Ringing{DialID: id, Key: key, Observed: netip.MustParseAddrPort("[fe80::1%eth0]:1")},
		&Ringing{DialID: id}, &Ringing{Key: key}, &Ringing{DialID: id, Key: key, Candidates: blob},
		&Offer{DialID: id}, &Offer{From: key}, &Offer{DialID: id, From: key, FromIDs: make([]string, MaxIDs+1)},
		&Offer{DialID: id, From: key, FromIDs: []string{"A"}}, &Offer{DialID: id, From: key, Report: blob},
		&Answer{}, &Answer{DialID: id, Text: long}, &goAhead{}, &cancel{},
		&Outcome{}, &Outcome{DialID: id, Elapsed: -1}, &Outcome{DialID: id, Method: "no label"}, &bye{Spread: -1}, &Error{Text: "\x1b[2J"},
	} {
		_, err := encode(m)
		require.Error(t, err, "%+v", m)
	}
}

// garbage is frames that are no message, each for one reason.
var garbage = map[string]string{
	"nothing":               "",
	"not a map":             "00",
	"an array":              "8111",
	"a map without a kind":  "a0",
	"a text for a kind":     "a100616b",
	"a negative kind":       "a10020",
	"half a map":            "a200",
	"indefinite map":        "bf0011ff",
	"indefinite string":     "a200 01 0a 7f6161ff",
	"the kind twice":        "a200110011",
	"a field twice":         "a300110101 0102",
	"an unknown key twice":  "a3001118640118 6402",
	"a tag":                 "a100c011",
	"a tag in what we skip": "a20011 1864 c101",
	"nested deeper than 4":  "a20011186481818181818100",
	"more after it":         "a1001100",
	"a huge array":          "a2001118649affffffff",
	"a huge string":         "a20011186x5affffffff",
	"a short dial id":       "a2000e024101",
	"a long dial id":        "a2000e0251" + "0101010101010101010101010101010101",
	"no dial id":            "a1000e",
	"invalid UTF-8":         "a4000101 0d01 0e01 0a61ff",
	"a float for a number":  "a3000101 0df93c00 0e01",
	"a port over 65535":     "a3000a0250 01010101010101010101010101010101 051a00010000",
}

func init() {
	garbage["a huge string"] = "a2001118645affffffff"
	for name, body := range garbage {
		garbage[name] = strings.ReplaceAll(body, " ", "")
	}
}

func TestDecodeRefusesGarbage(t *testing.T) {
	for name, body := range garbage {
		raw, err := hex.DecodeString(body)
		require.NoError(t, err, name)
		m, err := decode(raw)
		require.ErrorIs(t, err, CodeBadMessage, "%s: %+v", name, m)
	}
}

func TestReadMessageEnds(t *testing.T) {
	frame, err := encode(&hello{Max: 1})
	require.NoError(t, err)
	for n := range frame {
		_, err := readMessage(bytes.NewReader(frame[:n]), func() {})
		if n == 0 {
			require.Equal(t, io.EOF, err, "between frames")
		} else {
			require.Equal(t, io.ErrUnexpectedEOF, err, "within one, after %d bytes", n)
		}
	}
}

func TestClip(t *testing.T) {
	require.Equal(t, "a b?", clip("a\nb\xff", 10))
	require.Equal(t, "é", clip("éé", 3))
	require.Empty(t, clip("é", 1))
}

func FuzzReadMessage(f *testing.F) {
	for _, m := range vectors() {
		frame, err := encode(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(frame)
	}
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, stream []byte) {
		r := bytes.NewReader(stream)
		for {
			m, err := readMessage(r, func() {})
			if err != nil {
				var e *Error
				if !errors.As(err, &e) && err != io.EOF && err != io.ErrUnexpectedEOF {
					t.Fatalf("unexpected error %v", err)
				}
				return
			}
			again(t, m)
		}
	})
}

// FuzzDecode takes a kind apart from the fields, so that every decoder is met.
func FuzzDecode(f *testing.F) {
	for _, m := range vectors() {
		frame, err := encode(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(byte(m.kind()), frame[headLen+3:])
	}
	for _, body := range garbage {
		if raw, err := hex.DecodeString(body); err == nil && len(raw) > 0 {
			f.Add(raw[len(raw)-1], raw)
		}
	}
	f.Fuzz(func(t *testing.T, k byte, fields []byte) {
		for pairs := byte(0); pairs < 8; pairs++ {
			body := append([]byte{0xa0 | pairs + 1, 0, 0x18, k}, fields...)
			if len(body) > MaxMessage {
				return
			}
			if m, err := decode(body); err == nil {
				again(t, m)
			}
		}
	})
}

// again checks that what was decoded can be encoded, and is then the same.
func again(t *testing.T, m message) {
	if _, ok := m.(*unknown); ok {
		return
	}
	frame, err := encode(m)
	if err != nil {
		t.Fatalf("%+v was decoded and cannot be encoded: %v", m, err)
	}
	back, err := readMessage(bytes.NewReader(frame), func() {})
	if err != nil {
		t.Fatalf("%+v was encoded and cannot be decoded: %v", m, err)
	}
	twice, err := encode(back)
	if err != nil || !bytes.Equal(frame, twice) {
		t.Fatalf("%x became %x (%v)", frame, twice, err)
	}
}

func BenchmarkDecode(b *testing.B) {
	frame, err := encode(vectors()[11])
	require.NoError(b, err)
	body := frame[headLen:]
	require.Equal(b, len(body), int(binary.BigEndian.Uint32(frame)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := decode(body); err != nil {
			b.Fatal(err)
		}
	}
}
