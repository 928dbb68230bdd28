package access

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt/rendezvous"
)

func newKey(t testing.TB) (ed25519.PublicKey, ed25519.PrivateKey) {
	public, private, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	return public, private
}

var at = time.Date(2026, 3, 1, 12, 0, 0, 500, time.UTC)

func TestTokenIsWhatWasSigned(t *testing.T) {
	public, private := newKey(t)
	for _, want := range []Token{
		{Rights: All, Issued: at},
		{Names: []string{"alice", "team-*"}, Rights: Listen, Issued: at, Expires: at.Add(time.Hour)},
		{Rights: Dial | Relay, Key: keyA, Issued: at, Expires: at.Add(time.Hour)},
	} {
		text, err := want.Sign(private)
		require.NoError(t, err)
		got, err := Open(text, public)
		require.NoError(t, err)
		require.Equal(t, want, *got, "times are in seconds, and there is an id")
		require.Len(t, got.ID, tokenIDLen)
	}
}

func TestLargestTokenFits(t *testing.T) {
	public, private := newKey(t)
	token := Token{Rights: All, Key: keyA, Issued: at, Expires: at.Add(time.Hour)}
	for range maxNames {
		token.Names = append(token.Names, strings.Repeat("x", maxPattern))
	}
	text, err := token.Sign(private)
	require.NoError(t, err)
	require.LessOrEqual(t, len(text), rendezvous.MaxToken)
	_, err = Open(text, public)
	require.NoError(t, err)
}

func TestTokensThatAreNotSigned(t *testing.T) {
	_, private := newKey(t)
	for _, token := range []Token{
		{Issued: at},
		{Rights: 8, Issued: at},
		{Rights: All, Issued: at, Expires: at},
		{Rights: All, Issued: at, Key: "alice"},
		{Rights: All, Issued: at, Names: []string{"A"}},
		{Rights: All, Issued: at, Names: make([]string, maxNames+1)},
		{Rights: Dial, Issued: at, Names: []string{"alice"}},
		{Rights: All, Issued: at, ID: "mine"},
	} {
		_, err := token.Sign(private)
		require.Error(t, err, "%+v", token)
	}
}

func TestForgedTokens(t *testing.T) {
	public, private := newKey(t)
	other, _ := newKey(t)
	token := Token{Names: []string{"alice"}, Rights: All, Issued: at}
	text, err := token.Sign(private)
	require.NoError(t, err)
	_, err = Open(text, other)
	require.ErrorIs(t, err, ErrSignature)
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(text, tokenPrefix))
	require.NoError(t, err)
	for i := range raw { // not a bit of it can be changed
		for bit := range 8 {
			raw[i] ^= 1 << bit
			_, err := Open(tokenPrefix+base64.RawURLEncoding.EncodeToString(raw), public)
			require.ErrorIs(t, err, ErrSignature, "bit %d of byte %d", bit, i)
			raw[i] ^= 1 << bit
		}
	}
	// What the key has signed for another purpose is no token.
	body := raw[ed25519.SignatureSize:]
	signed := append(ed25519.Sign(private, body), body...)
	_, err = Open(tokenPrefix+base64.RawURLEncoding.EncodeToString(signed), public)
	require.ErrorIs(t, err, ErrSignature)
	for _, bad := range []string{"", "stunt1.", text[1:], text + "=", text[:40], strings.Repeat("x", rendezvous.MaxToken+1), text + " ", "stunt2" + text[6:]} {
		_, err := Open(bad, public)
		require.Error(t, err, bad)
	}
}

// A restriction that this version does not know is not one to be ignored.
func TestUnknownFieldIsRefused(t *testing.T) {
	for what, body := range map[string]string{
		"an unknown key": "a40170" + hex.EncodeToString([]byte(strings.Repeat("a", tokenIDLen))) + "03070500186301",
		"a text for key": "a461787861",
		"nothing":        "",
		"an array":       "80",
		"trailing bytes": "a30170" + hex.EncodeToString([]byte(strings.Repeat("a", tokenIDLen))) + "0307050000",
	} {
		raw, err := hex.DecodeString(body)
		require.NoError(t, err, what)
		_, err = decode(raw)
		require.Error(t, err, what)
	}
	good, err := hex.DecodeString("a30170" + hex.EncodeToString([]byte(strings.Repeat("a", tokenIDLen))) + "03070500")
	require.NoError(t, err)
	_, err = decode(good)
	require.NoError(t, err, "those above are refused for what they say they are")
}

// FuzzToken reads what somebody with the key may have signed in a later version.
func FuzzToken(f *testing.F) {
	for _, token := range []Token{{ID: strings.Repeat("a", tokenIDLen), Rights: All, Issued: at}, {Names: []string{"team-*"}, Key: keyA, Rights: Listen, Expires: at}} {
		f.Add(must(tokenEnc.Marshal(token)))
	}
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		token, err := decode(body)
		if err != nil {
			return
		}
		text, err := token.Sign(private)
		if err != nil {
			t.Fatalf("%+v was read and can't be signed: %v", token, err)
		}
		again, err := Open(text, private.Public().(ed25519.PublicKey))
		if err != nil {
			t.Fatalf("%+v was signed and can't be read: %v", token, err)
		}
		if !again.Expires.Equal(token.Expires) || again.Rights != token.Rights || len(again.Names) != len(token.Names) {
			t.Fatalf("%+v became %+v", token, again)
		}
	})
}

// FuzzOpen reads what strangers send.
func FuzzOpen(f *testing.F) {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		f.Fatal(err)
	}
	token := Token{Rights: All, Issued: at}
	text, err := token.Sign(private)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Fuzz(func(t *testing.T, s string) {
		if _, err := Open(s, public); err == nil && s != text {
			t.Fatalf("%q is a token of a key that has not signed it", s)
		}
	})
}
