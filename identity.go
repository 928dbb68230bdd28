package stunt

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"github.com/gostunt/stunt/rendezvous"
)

// Peer is the other end of a connection, or who asks for one.
type Peer struct {
	// ID is the name of the peer: on the dialer's side the one that was dialled,
	// on the listener's the first that the peer has registered, if any. The
	// server vouches for it, unless it is the fingerprint of Key.
	ID string
	// Key is the peer's identity. The peer has proved to hold it.
	Key ed25519.PublicKey
}

// Fingerprint returns the ID that belongs to the peer's key alone.
func (p Peer) Fingerprint() string { return Fingerprint(p.Key) }

// String returns the name and the beginning of the fingerprint.
func (p Peer) String() string {
	fp := p.Fingerprint()
	if p.ID == "" || p.ID == fp {
		return fp
	}
	return fmt.Sprintf("%s (%s…)", p.ID, fp[:8])
}

// Fingerprint is lower-case base32 of the SHA-256 of an identity: 52
// characters that are a valid ID. A peer that is dialled by it is verified
// without trust in any server.
func Fingerprint(key ed25519.PublicKey) string { return rendezvous.Fingerprint(key) }

// NewKey makes a fresh identity.
func NewKey() ed25519.PrivateKey {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err) // crypto/rand never fails
	}
	return key
}

// LoadKey reads the identity in a file, or makes one and keeps it there if the
// file does not exist yet. The file is PEM, PKCS #8, readable by its owner only.
func LoadKey(path string) (ed25519.PrivateKey, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return makeKey(path)
	}
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, fmt.Errorf("%s: not a PEM private key", path)
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	key, ok := k.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s: a %T, not an Ed25519 key", path, k)
	}
	return key, nil
}

// makeKey writes a new identity so that a crash leaves the whole file or none,
// and of two processes that start at once both end up with the same key.
func makeKey(path string) (ed25519.PrivateKey, error) {
	key := NewKey()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	tmp, err := os.CreateTemp(dir, ".key-*") // mode 0600
	if err != nil {
		return nil, err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	if err = errors.Join(err, tmp.Close()); err != nil {
		return nil, err
	}
	if err := os.Link(tmp.Name(), path); errors.Is(err, fs.ErrExist) {
		return LoadKey(path) // another process was first
	} else if err != nil { // a file system without links
		return key, os.Rename(tmp.Name(), path)
	}
	return key, nil
}

// PeerOf returns who is at the other end of a connection that came from a
// [Listener] or a [Dialer], and false for any other connection.
func PeerOf(c net.Conn) (Peer, bool) {
	sc, ok := c.(*Conn)
	if !ok {
		return Peer{}, false
	}
	return sc.Peer(), true
}

type peerKey struct{}

// ConnContext puts the peer of a connection into ctx. It is made for
// [net/http.Server.ConnContext], so that handlers know who asks by
// [PeerFromContext].
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	if p, ok := PeerOf(c); ok {
		return context.WithValue(ctx, peerKey{}, p)
	}
	return ctx
}

// PeerFromContext returns what [ConnContext] put there.
func PeerFromContext(ctx context.Context) (Peer, bool) {
	p, ok := ctx.Value(peerKey{}).(Peer)
	return p, ok
}
