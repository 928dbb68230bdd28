package stuntd

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"
)

// getCertificate is [tls.Config.GetCertificate]; the hello is not looked at.
type getCertificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)

// A certSource is where the server's certificate comes from.
type certSource struct {
	get  getCertificate
	file reloadable // that it is read from; nil: none that may change
	acme *acmeCert  // that gets it; nil: nobody has to
}

// certificate returns where the configuration has the certificate come from.
func (c *Config) certificate(log *slog.Logger) (*certSource, error) {
	if c.CertFile != "" {
		f, err := loadCert(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, err
		}
		return &certSource{get: f.get, file: f}, nil
	}
	dir, err := c.stateDir()
	if err != nil {
		return nil, err
	}
	if len(c.ACME.Hosts) > 0 {
		a, err := newACME(c.ACME, dir, log)
		if err != nil {
			return nil, err
		}
		return &certSource{get: a.get, acme: a}, nil
	}
	cert, err := selfSigned(dir)
	if err != nil {
		return nil, err
	}
	return &certSource{get: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert, nil }}, nil
}

// selfSigned returns a certificate over the key that is kept in dir, and makes
// the key the first time. Only the key is kept: the pin that clients hold is
// its hash, so the certificate around it may be new at every start and never
// runs out.
//
// The key is P-256 and not Ed25519, so that browsers and health checks on old
// TLS libraries can be told to trust it; a handshake costs the same.
func selfSigned(dir string) (*tls.Certificate, error) {
	key, err := openKey(filepath.Join(dir, "server.key"))
	if err != nil {
		return nil, fmt.Errorf("the server's key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	tmpl := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "stuntd"},
		NotBefore:    now.Add(-24 * time.Hour), // clients with slow clocks
		NotAfter:     now.AddDate(10, 0, 0),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}

// openKey returns the key that is kept at path, and makes it the first time.
func openKey(path string) (*ecdsa.PrivateKey, error) {
	key, err := readKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, err
	}
	return key, keepKey(path, key)
}

func readKey(path string) (*ecdsa.PrivateKey, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, fmt.Errorf("%s holds no PEM private key; remove it to get a new one", path)
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	key, ok := k.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s holds a %T, not an ECDSA key", path, k)
	}
	return key, nil
}

// keepKey writes a private key to path.
func keepKey(path string, key crypto.PrivateKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return keepFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// keepFile writes a file that is for nobody else to read, whole or not at all.
// It makes its folder.
func keepFile(path string, text []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // gone by then, if all went well
	_, err = tmp.Write(text)
	if err := errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

// A certFile is a certificate that someone else renews: it is read again when
// its file has changed, so that a renewal needs no restart.
type certFile struct {
	cert, key string
	now       atomic.Pointer[tls.Certificate]

	read [2]stamp // of the files in use. Owned by loadCert, then by the reloader
}

// loadCert reads a certificate chain and its key from PEM files.
func loadCert(cert, key string) (*certFile, error) {
	f := &certFile{cert: cert, key: key}
	if _, err := f.load(); err != nil {
		return nil, err
	}
	return f, nil
}

func (f *certFile) get(*tls.ClientHelloInfo) (*tls.Certificate, error) { return f.now.Load(), nil }

// load implements reloadable. A renewal that wrote only one of the files yet
// does not match; what is in use then stays.
func (f *certFile) load() (bool, error) {
	var stamps [2]stamp
	for i, path := range []string{f.cert, f.key} {
		var err error
		if stamps[i], err = stampOf(path); err != nil {
			return false, err
		}
	}
	if stamps == f.read {
		return false, nil
	}
	c, err := tls.LoadX509KeyPair(f.cert, f.key)
	if err != nil {
		return false, fmt.Errorf("%s and %s: %w", f.cert, f.key, err)
	}
	f.now.Store(&c)
	f.read = stamps
	return true, nil
}

func (f *certFile) forget() { f.read = [2]stamp{} }

func (f *certFile) news() (loaded string, about slog.Attr, kept string) {
	return "certificate renewed", slog.Time("until", f.now.Load().Leaf.NotAfter), "keeping the certificate in use"
}
