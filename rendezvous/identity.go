package rendezvous

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base32"
	"fmt"
	"math/big"
	"time"
)

var base32Lower = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// fingerprintLen is 32 bytes at 5 bits a character, rounded up.
const fingerprintLen = 52

// Fingerprint returns the name that only the owner of the key can have: the
// lower-case base32, without padding, of the SHA-256 of the public key.
func Fingerprint(pub ed25519.PublicKey) string {
	sum := sha256.Sum256(pub)
	return base32Lower.EncodeToString(sum[:])
}

// IsFingerprint reports whether id has the form of a fingerprint. Such an ID
// names a key, whether or not one with that fingerprint exists.
func IsFingerprint(id string) bool {
	if len(id) != fingerprintLen {
		return false
	}
	for _, c := range []byte(id) {
		if !('a' <= c && c <= 'z' || '2' <= c && c <= '7') {
			return false
		}
	}
	return true
}

// ValidID reports, as an *Error with CodeBadID, why id cannot name a node: it
// must be a DNS label (RFC 1123 section 2.1) in lower case, so that it works
// in a URL. One that IsFingerprint is valid here, but only its key can
// register it.
func ValidID(id string) error {
	switch n := len(id); {
	case n == 0:
		return errorf(CodeBadID, "the id is empty")
	case n > 63:
		return errorf(CodeBadID, "the id has %d characters, at most 63 are allowed", n)
	case id[0] == '-' || id[n-1] == '-':
		return errorf(CodeBadID, "%q begins or ends with a hyphen", id)
	}
	for _, c := range []byte(id) {
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-') {
			return errorf(CodeBadID, "%q has something other than a-z, 0-9 and hyphens", id)
		}
	}
	return nil
}

// Certificate returns the self-signed certificate with which a node shows its
// key in TLS. Nothing in it but the key means anything, so it never expires. It
// has no name and no extension: a server's crypto/tls keeps it, parsed, for as
// long as the session lasts.
func Certificate(key ed25519.PrivateKey) (tls.Certificate, error) {
	if len(key) != ed25519.PrivateKeySize {
		return tls.Certificate{}, fmt.Errorf("ed25519 key of %d bytes, want %d", len(key), ed25519.PrivateKeySize)
	}
	pub := key.Public().(ed25519.PublicKey)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotBefore:    time.Unix(0, 0),
		// RFC 5280 section 4.1.2.5: the value for "no well-defined expiry".
		NotAfter: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, pub, key)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// clientKey returns the key that the other end of a finished handshake has
// proved to hold: TLS 1.3 signs the handshake with the certificate's own key
// (RFC 8446 section 4.4.3), so the certificate's signature adds nothing.
func clientKey(state tls.ConnectionState) (ed25519.PublicKey, error) {
	if len(state.PeerCertificates) == 0 {
		return nil, errorf(CodeBadKey, "no client certificate")
	}
	cert := state.PeerCertificates[0]
	pub, ok := cert.PublicKey.(ed25519.PublicKey)
	if !ok || cert.SignatureAlgorithm != x509.PureEd25519 {
		return nil, errorf(CodeBadKey, "the client certificate is %v over %v, want Ed25519 over Ed25519",
			cert.SignatureAlgorithm, cert.PublicKeyAlgorithm)
	}
	return pub, nil
}

// ServerTLS returns what a TLS server needs so that its connections can be
// given to [Server.ServeConn]. A server with more protocols on the port adds
// them to NextProtos, and asks for no certificate where they are spoken.
func ServerTLS(cert tls.Certificate) *tls.Config {
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		NextProtos:   []string{ALPN},
		ClientAuth:   tls.RequireAnyClientCert,
		Certificates: []tls.Certificate{cert},
		// Resumption would save a client a signature every few days and cost
		// every connection two messages at its start.
		SessionTicketsDisabled: true,
	}
}
