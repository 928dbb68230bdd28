package secure

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write testdata anew")

func TestHandshake(t *testing.T) {
	for _, mode := range []Mode{Encrypted, Raw} {
		t.Run(mode.String(), func(t *testing.T) {
			p := testParams
			p.Mode = mode
			i, msg1, err := Initiate(testKey("bob"), p)
			require.NoError(t, err)
			r, err := Respond(testKey("alice"), p, msg1)
			require.NoError(t, err)
			require.Equal(t, public(testKey("bob")), r.Peer(), "the listener must know who asks before it answers")
			msg2, ls, err := r.Answer(false)
			require.NoError(t, err)
			ds, err := i.Finish(msg2)
			require.NoError(t, err)
			require.Equal(t, public(testKey("alice")), ds.Peer())
			require.Equal(t, public(testKey("bob")), ls.Peer())
			require.Equal(t, p, ds.Params())
			require.Equal(t, ds.proof, ls.proof)
			require.Len(t, msg1, message1Size)
			require.Len(t, msg2, message2Size)
			require.NoError(t, ls.Check(headerOf(t, ds.Preface(Nonce{1}))))
			require.NoError(t, ds.Check(headerOf(t, ls.Preface(Nonce{2}))))

			_, err = i.Finish(msg2)
			require.ErrorIs(t, err, errSpent, "an Initiator finishes once")
			_, _, err = r.Answer(false)
			require.ErrorIs(t, err, errSpent, "a Responder answers once")
		})
	}
}

// TestGolden holds the wire format: whoever changes a byte of it changes the version too.
func TestGolden(t *testing.T) {
	i, msg1, err := initiate(testRandom("bob"), testKey("bob"), testParams)
	require.NoError(t, err)
	r, err := respond(testRandom("alice"), testKey("alice"), testParams, msg1)
	require.NoError(t, err)
	msg2, ls, err := r.Answer(false)
	require.NoError(t, err)
	ds, err := i.Finish(msg2)
	require.NoError(t, err)
	nb, na := Nonce{0xb0, 0xb}, Nonce{0xa1, 0x1c, 0xe}
	require.NoError(t, ls.Check(headerOf(t, ds.Preface(nb))))

	var got strings.Builder
	for _, line := range []struct {
		name string
		b    []byte
	}{
		{"message 1", msg1},
		{"message 2", msg2},
		{"dialer's preface", ds.Preface(nb)},
		{"listener's preface", ls.Preface(na)},
		{"select", ds.Select(nb, na)},
		{"move", ds.Move(nb, na)},
		{"moved", ls.Moved(na, nb)},
		{"records", stream(t, ds, "hello", "world")},
		{"records back", stream(t, ls, "hello", "world")},
	} {
		fmt.Fprintf(&got, "%s %s\n", line.name, hex.EncodeToString(line.b))
	}
	const file = "testdata/dial.golden"
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(got.String()), 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(want), got.String())
}

// TestParamsBound shows that no server can make the two ends dial with different parameters.
func TestParamsBound(t *testing.T) {
	_, msg1, err := Initiate(testKey("bob"), testParams)
	require.NoError(t, err)
	for name, change := range map[string]func(*Params){
		"dial id": func(p *Params) { p.DialID[15] ^= 1 },
		"peer":    func(p *Params) { p.Peer = "alicf" },
		"no peer": func(p *Params) { p.Peer = "" },
		"port":    func(p *Params) { p.Port++ },
		"mode":    func(p *Params) { p.Mode = Raw },
	} {
		p := testParams
		change(&p)
		_, err := Respond(testKey("alice"), p, msg1)
		require.ErrorIs(t, err, errSign, name)

		// And if the listener were lied to from the start, the dialer sees it.
		i, _, err := Initiate(testKey("bob"), testParams)
		require.NoError(t, err)
		_, other, err := Initiate(testKey("bob"), p)
		require.NoError(t, err)
		r, err := Respond(testKey("alice"), p, other)
		require.NoError(t, err)
		msg2, _, err := r.Answer(false)
		require.NoError(t, err)
		_, err = i.Finish(msg2)
		require.Error(t, err, name)
	}
}

func TestParamsRefused(t *testing.T) {
	for _, p := range []Params{{Peer: strings.Repeat("a", 256)}, {Peer: "a", Mode: Raw + 1}} {
		_, _, err := Initiate(testKey("bob"), p)
		require.ErrorIs(t, err, errParams)
		_, err = Respond(testKey("alice"), p, make([]byte, message1Size))
		require.ErrorIs(t, err, errParams)
	}
	_, _, err := Initiate(testKey("bob")[:10], testParams)
	require.ErrorIs(t, err, errKey)
}

// TestMessage1Bits flips every bit of message 1, and cuts and extends it.
func TestMessage1Bits(t *testing.T) {
	_, msg1, err := Initiate(testKey("bob"), testParams)
	require.NoError(t, err)
	for _, bad := range damaged(msg1) {
		_, err := Respond(testKey("alice"), testParams, bad)
		requireRefused(t, err, 1)
	}
}

// TestMessage2Bits flips a bit in every byte of message 2. An Initiator finishes once, so each try takes a new one with the
// same keys.
func TestMessage2Bits(t *testing.T) {
	_, msg1, err := initiate(testRandom("bob"), testKey("bob"), testParams)
	require.NoError(t, err)
	r, err := Respond(testKey("alice"), testParams, msg1)
	require.NoError(t, err)
	msg2, _, err := r.Answer(false)
	require.NoError(t, err)
	for _, bad := range nicked(msg2) {
		i, _, err := initiate(testRandom("bob"), testKey("bob"), testParams)
		require.NoError(t, err)
		_, err = i.Finish(bad)
		requireRefused(t, err, 2)
	}
	i, _, err := initiate(testRandom("bob"), testKey("bob"), testParams)
	require.NoError(t, err)
	_, err = i.Finish(msg2)
	require.NoError(t, err, "the message itself is good")
}

// TestMessage3 damages the dialer's message 3 as only the dialer could: under a good tag.
func TestMessage3(t *testing.T) {
	ds, _ := testSessions(t, testParams)
	good := ds.message3
	for _, bad := range nicked(good[:]) {
		ds, ls := testSessions(t, testParams)
		copy(ds.message3[:], bad)
		err := ls.Check(headerOf(t, ds.Preface(Nonce{1})))
		requireRefused(t, err, 3)
		ds.message3 = good
		require.Error(t, ls.Check(headerOf(t, ds.Preface(Nonce{2}))), "a session that was refused stays so")
		_, err = ls.Conn(nil)
		require.ErrorIs(t, err, errNoKeys)
	}
}

// TestMessage3Signer has the dialer end the handshake under another identity than it began it with.
func TestMessage3Signer(t *testing.T) {
	i, msg1, err := Initiate(testKey("bob"), testParams)
	require.NoError(t, err)
	r, err := Respond(testKey("alice"), testParams, msg1)
	require.NoError(t, err)
	msg2, ls, err := r.Answer(false)
	require.NoError(t, err)
	i.h.key = testKey("mallory")
	ds, err := i.Finish(msg2)
	require.NoError(t, err)
	err = ls.Check(headerOf(t, ds.Preface(Nonce{1})))
	require.ErrorIs(t, err, errSign)
	requireRefused(t, err, 3)
}

// TestMessage2Signer has a server answer in alice's name without her key.
func TestMessage2Signer(t *testing.T) {
	i, msg1, err := Initiate(testKey("bob"), testParams)
	require.NoError(t, err)
	r, err := Respond(testKey("mallory"), testParams, msg1)
	require.NoError(t, err)
	copy(r.h.key[32:], public(testKey("alice")))
	msg2, _, err := r.Answer(false)
	require.NoError(t, err)
	_, err = i.Finish(msg2)
	require.ErrorIs(t, err, errSign)
}

func requireRefused(t *testing.T, err error, message int) {
	t.Helper()
	var refused *HandshakeError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, message, refused.Message)
}

// damaged returns b with each bit flipped in turn, then cut and extended.
func damaged(b []byte) [][]byte {
	var all [][]byte
	for bit := range len(b) * 8 {
		c := bytes.Clone(b)
		c[bit/8] ^= 1 << (bit % 8)
		all = append(all, c)
	}
	return append(all, nil, b[:1], b[:len(b)-1], append(bytes.Clone(b), 0))
}

// nicked returns b with one bit flipped in each byte in turn: for where a try costs a whole handshake.
func nicked(b []byte) [][]byte {
	var all [][]byte
	for i := range b {
		c := bytes.Clone(b)
		c[i] ^= 1 << (i % 8) // in byte 31 of e the bit that X25519 ignores
		all = append(all, c)
	}
	return all
}

func BenchmarkHandshake(b *testing.B) {
	bob, alice := testKey("bob"), testKey("alice")
	for b.Loop() {
		i, msg1, err := Initiate(bob, testParams)
		require.NoError(b, err)
		r, err := Respond(alice, testParams, msg1)
		require.NoError(b, err)
		msg2, ls, err := r.Answer(false)
		require.NoError(b, err)
		ds, err := i.Finish(msg2)
		require.NoError(b, err)
		require.NoError(b, ls.Check(headerOf(b, ds.Preface(Nonce{1}))))
	}
}

// BenchmarkStranger is what a dial costs the listener until it knows that message 1 is no good.
func BenchmarkStranger(b *testing.B) {
	msg1 := make([]byte, message1Size)
	key := testKey("alice")
	for b.Loop() {
		_, err := Respond(key, testParams, msg1)
		require.Error(b, err)
	}
}
