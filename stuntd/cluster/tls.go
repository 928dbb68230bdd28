package cluster

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"time"
)

// tls returns what both ends of a route have: TLS 1.3 with certificates at both,
// from an authority that all servers make of their secret. So there is nothing
// to issue, to hand out or to renew, and who does not have the secret gets no
// further than the handshake.
func (c *Config) tls() (*tls.Config, error) {
	seed := c.Secret.Derive("stunt cluster authority 1")
	authority := ed25519.NewKeyFromSeed(seed[:])
	der, err := x509.CreateCertificate(rand.Reader, c.certificate(true), c.certificate(true), authority.Public(), authority)
	if err != nil {
		return nil, err
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	public, own, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.CreateCertificate(rand.Reader, c.certificate(false), root, public, authority)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(root)
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{{Certificate: [][]byte{leaf}, PrivateKey: own}},
		ServerName:   c.serverName(), // whatever the host's name is
		RootCAs:      roots,
		ClientCAs:    roots,
		ClientAuth:   tls.RequireAndVerifyClientCert,
	}, nil
}

// serverName is that of every server of the cluster.
func (c *Config) serverName() string { return c.Name + ".cluster.stunt.invalid" }

// certificate is the authority's, or that of a server. None ends: the secret is
// what counts, and it works without a clock.
func (c *Config) certificate(authority bool) *x509.Certificate {
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: c.serverName()},
		NotBefore:    time.Unix(0, 0),
		NotAfter:     time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), // RFC 5280 section 4.1.2.5
	}
	if authority {
		cert.Subject.CommonName = "authority of " + c.Name
		cert.IsCA, cert.BasicConstraintsValid = true, true
		cert.KeyUsage = x509.KeyUsageCertSign
		return cert
	}
	cert.SerialNumber = big.NewInt(2)
	cert.DNSNames = []string{c.serverName()}
	cert.KeyUsage = x509.KeyUsageDigitalSignature
	cert.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
	return cert
}
