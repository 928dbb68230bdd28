package access

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base32"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/gostunt/stunt/rendezvous"
)

// Rights are what a token is good for.
type Rights uint8

// The rights; a token has one or more.
const (
	Listen Rights = 1 << iota // be dialled, under the token's names and the key's fingerprint
	Dial                      // dial others, and look them up
	Relay                     // let a server carry the bytes where no direct path is found; both ends need it

	All = Listen | Dial | Relay
)

// String lists the rights.
func (r Rights) String() string {
	var words []string
	for _, one := range []struct {
		right Rights
		word  string
	}{{Listen, "listen"}, {Dial, "dial"}, {Relay, "relay"}} {
		if r&one.right != 0 {
			words = append(words, one.word)
		}
	}
	return strings.Join(words, ", ")
}

// A Token says what its holder may do at the servers that know the key it was
// signed with. In text it is
//
//	stunt1.BASE64URL
//
// of the Ed25519 signature, 64 bytes, and what it is over but for a label: one
// CBOR map, with the numbers below as keys. A key that is not below is an
// error, as it may be a restriction.
type Token struct {
	ID      string    `cbor:"1,keyasint"`          // what it is revoked by: random
	Names   []string  `cbor:"2,keyasint,omitzero"` // patterns, as in [Rules]; none: only the key's fingerprint
	Rights  Rights    `cbor:"3,keyasint"`
	Key     string    `cbor:"4,keyasint,omitzero"` // the fingerprint of whom it is for; empty: whoever has it
	Issued  time.Time `cbor:"5,keyasint"`          // in seconds
	Expires time.Time `cbor:"6,keyasint,omitzero"` // likewise; zero: never
}

const (
	tokenPrefix = "stunt1."
	tokenLabel  = "stunt token 1\x00" // keeps the signature from being one over anything else
	tokenIDLen  = 16                  // of 10 bytes: nobody can choose one, so two of a million are not the same
	maxNames    = 16                  // of the longest, in base64, they fit in rendezvous.MaxToken
)

var (
	tokenIDs = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

	tokenEnc = must(cbor.EncOptions{Sort: cbor.SortCoreDeterministic, Time: cbor.TimeUnix}.EncMode())
	tokenDec = must(cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		MaxNestedLevels:   4,
		MaxArrayElements:  maxNames,
		MaxMapPairs:       16,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
	}.DecMode())
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err) // constants above; the first test would not start
	}
	return v
}

func validTokenID(s string) bool {
	b, err := tokenIDs.DecodeString(s)
	return err == nil && len(s) == tokenIDLen && tokenIDs.EncodeToString(b) == s
}

// check returns what is wrong with a token.
func (t *Token) check() error {
	switch {
	case !validTokenID(t.ID):
		return errors.New("its id is none")
	case len(t.Names) > maxNames:
		return fmt.Errorf("%d names, at most %d are allowed", len(t.Names), maxNames)
	case t.Rights == 0 || t.Rights&^All != 0:
		return errors.New("it has no right, or one that is not known")
	case t.Rights&Listen == 0 && len(t.Names) > 0:
		return errors.New("it has names, and no right to listen under them")
	case t.Key != "" && !rendezvous.IsFingerprint(t.Key):
		return fmt.Errorf("%q is not the fingerprint of a key", clip(t.Key))
	case !t.Expires.IsZero() && !t.Expires.After(t.Issued):
		return errors.New("it ends before it begins")
	}
	for _, name := range t.Names {
		if _, err := parsePattern(name); err != nil {
			return err
		}
	}
	return nil
}

// Sign returns the token in text. An empty ID becomes a random one; times are
// cut to seconds.
func (t *Token) Sign(key ed25519.PrivateKey) (string, error) {
	if t.ID == "" {
		id := make([]byte, tokenIDs.DecodedLen(tokenIDLen))
		rand.Read(id) // never fails, by its documentation
		t.ID = tokenIDs.EncodeToString(id)
	}
	t.Issued, t.Expires = seconds(t.Issued), seconds(t.Expires)
	if err := t.check(); err != nil {
		return "", err
	}
	body := must(tokenEnc.Marshal(t)) // plain data
	signed := append(ed25519.Sign(key, append([]byte(tokenLabel), body...)), body...)
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(signed), nil
}

func seconds(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.Truncate(time.Second).UTC()
}

// ErrSignature is in the error of a token that somebody else has signed, or
// that is not as it was signed.
var ErrSignature = errors.New("another key has signed it, or it was changed")

// Open reads a token that the key has signed. Whether it has expired, and whom
// it is for, is the caller's to look at.
func Open(text string, key ed25519.PublicKey) (*Token, error) {
	body, ok := strings.CutPrefix(text, tokenPrefix)
	switch {
	case len(text) > rendezvous.MaxToken:
		return nil, fmt.Errorf("it has %d characters, at most %d are allowed", len(text), rendezvous.MaxToken)
	case !ok:
		return nil, fmt.Errorf("it does not begin with %q", tokenPrefix)
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(body)
	if err != nil || len(raw) < ed25519.SignatureSize {
		return nil, errors.New("it is not whole")
	}
	signature, signed := raw[:ed25519.SignatureSize], raw[ed25519.SignatureSize:]
	// Before anything is read: a stranger's bytes get no further than this.
	if !ed25519.Verify(key, append([]byte(tokenLabel), signed...), signature) {
		return nil, ErrSignature
	}
	return decode(signed)
}

// decode reads what was signed.
func decode(signed []byte) (*Token, error) {
	t := &Token{}
	if err := tokenDec.Unmarshal(signed, t); err != nil {
		return nil, fmt.Errorf("a later version has made it: %w", err)
	}
	t.Issued, t.Expires = seconds(t.Issued), seconds(t.Expires)
	if err := t.check(); err != nil {
		return nil, err
	}
	return t, nil
}

// Expired reports whether the token is over.
func (t *Token) Expired(now time.Time) bool { return !t.Expires.IsZero() && !now.Before(t.Expires) }

// mayHave reports whether a name is one of the token's.
func (t *Token) mayHave(name string) bool {
	for _, s := range t.Names {
		if p, err := parsePattern(s); err == nil && p.match(name) {
			return true
		}
	}
	return false
}
