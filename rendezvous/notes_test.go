package rendezvous

import (
	"bytes"
	"crypto/ed25519"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// everyNote is one note of each kind, with every field set, as long as it can be.
func everyNote() []message {
	key := ed25519.PublicKey(bytes.Repeat([]byte{0x0a}, 32))
	server, id, owner := strings.Repeat("f", serverNameLen), strings.Repeat("x", 63), Fingerprint(key)
	observed := netip.MustParseAddrPort("[2001:db8:ffff:ffff:ffff:ffff:ffff:ffff]:65535")
	blob, noise, text := make([]byte, MaxBlob), make([]byte, MaxNoise), strings.Repeat("t", MaxText)
	words, dialID := strings.Repeat("a", MaxLabel), DialID{1}
	var some []title
	var ids []string
	var lends []netip.AddrPort
	for range MaxLends {
		lends = append(lends, observed)
	}
	for range titlesPerNote {
		some = append(some, title{Server: server, ID: id, Owner: owner, Bound: 1 << 62, Epoch: 1 << 62, Held: true})
	}
	for range MaxIDs {
		ids = append(ids, id)
	}
	return []message{
		&beat{Server: server, Sent: 1 << 62, Gone: true, Relay: text, Lends: lends},
		&echo{Server: server, Sent: 1 << 62},
		&bid{Titles: some},
		&ruling{Code: CodeIDTaken, Text: text, Bound: 1 << 62},
		&titles{Titles: some},
		&left{Server: server, ID: id},
		&seek{Server: server, Key: key, IDs: ids, Observed: observed, Relay: true,
			Dial: DialRequest{DialID: dialID, Peer: id, Port: 65535, Noise: noise, Candidates: blob, Report: blob, Kind: words}},
		&rung{Server: server, Observed: observed, Kind: words, Hint: words,
			Ringing: &Ringing{DialID: dialID, Key: key, Candidates: blob, Report: blob, Hint: words, Ticket: make([]byte, MaxTicket)}},
		&inquiry{ID: id, Key: key, Observed: observed},
		&found{Presence: &Presence{ID: id, Key: key, Since: time.Unix(1<<40, 0), Report: blob, Last: words, LastAt: time.Unix(1<<40, 0)}},
		&word{Server: server, Message: make([]byte, 2*MaxBlob+MaxNoise+2*MaxText)}, // more than an Answer has
		&errand{Server: server, Errand: make([]byte, MaxErrand)},
		&errandDone{Errand: make([]byte, MaxErrand)},
	}
}

// Every note comes back as it was, and the longest fits.
func TestNotes(t *testing.T) {
	all := everyNote()
	require.Len(t, all, len(noteKinds))
	for i, m := range all {
		require.Equal(t, kind(i+1), m.kind())
		require.Equal(t, reflect.TypeOf(noteKinds[i]), reflect.TypeOf(m))
		b, err := encodeNote(m)
		require.NoError(t, err, "%T", m)
		back, err := decodeNote(b)
		require.NoError(t, err, "%T", m)
		require.Equal(t, m, back)
	}
}

func TestNotesOutOfBounds(t *testing.T) {
	server, owner := strings.Repeat("f", serverNameLen), strings.Repeat("a", fingerprintLen)
	key := make(ed25519.PublicKey, 32)
	for _, m := range []message{
		&beat{}, &beat{Server: "short"}, &beat{Server: strings.Repeat("*", serverNameLen)}, &echo{}, &word{Server: "x.y"},
		&titles{Titles: []title{{Server: server, ID: "a", Owner: "a"}}}, &titles{Titles: []title{{Server: server, Owner: owner}}},
		&titles{Titles: []title{{Server: server, ID: strings.Repeat("b", fingerprintLen), Owner: owner}}},
		&bid{Titles: []title{{ID: "a", Owner: owner}}}, &left{Server: server}, &left{Server: server, ID: "a.b"},
		&seek{Server: server, Key: key, Observed: netip.MustParseAddrPort("192.0.2.1:1"), Dial: DialRequest{Peer: "bob"}},
		&seek{Server: server, Key: key, Dial: DialRequest{DialID: DialID{1}, Peer: "bob"}},
		&rung{}, &rung{Server: server, Observed: netip.MustParseAddrPort("192.0.2.1:1"), Ringing: &Ringing{}},
		&beat{Server: server, Lends: make([]netip.AddrPort, 1)}, &errand{Server: "x.y"}, &errand{Server: server, Errand: make([]byte, MaxErrand+1)},
		&errandDone{Errand: make([]byte, MaxErrand+1)},
		&inquiry{ID: ">", Key: key, Observed: netip.MustParseAddrPort("192.0.2.1:1")}, &found{Presence: &Presence{}},
	} {
		require.Error(t, m.check(), "%T %+v", m, m)
	}
}

func FuzzNote(f *testing.F) {
	for _, m := range everyNote() {
		b, err := encodeNote(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeNote(b)
		if err != nil {
			return
		}
		if _, ok := m.(*unknown); ok {
			return
		}
		first, err := encodeNote(m)
		if err != nil {
			t.Fatalf("%+v was decoded and is out of bounds: %v", m, err)
		}
		back, err := decodeNote(first)
		if err != nil {
			t.Fatal(err)
		}
		second, err := encodeNote(back)
		if err != nil || !bytes.Equal(first, second) {
			t.Fatalf("%+v became %+v: %v", m, back, err)
		}
	})
}
