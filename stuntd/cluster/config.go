package cluster

import (
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
)

// Config says which cluster it is, and how to get there.
type Config struct {
	// Name is the same at all servers of a cluster: a-z, 0-9 and hyphens. Servers
	// that share a NATS server may be of several clusters.
	Name string

	// Secret is the same at all servers; who has it can be one of them. With URLs
	// it is not used: there, whoever the NATS server lets in is one.
	Secret Secret

	// Listen is the TCP address for the other servers, host:port. Empty is
	// DefaultListen.
	Listen string

	// Routes are other servers, host:port each. One that is there is enough, as
	// they tell of each other; but only those that are named here are tried again
	// and again. Naming this server itself does no harm.
	Routes []string

	// URLs are of NATS servers that run already, in the place of Listen and Routes.
	// They hold user and password or token, if there are any, and "tls:" if the
	// way there is not safe. Credentials is a file of theirs; or empty.
	URLs        []string
	Credentials string

	// CAFile has the authorities that may vouch for these NATS servers, in PEM;
	// empty: those of the system. CertFile and KeyFile are what these know us by, if
	// they ask for a certificate.
	CAFile, CertFile, KeyFile string
}

// DefaultListen is the address for the other servers: the port that NATS uses for that.
const DefaultListen = ":6222"

// Check returns what is wrong with the configuration by itself.
func (c *Config) Check() error {
	if c.Name == "" || len(c.Name) > 63 || strings.Trim(c.Name, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return fmt.Errorf("the name of a cluster is 1 to 63 of a-z, 0-9 and hyphens, and not %q", c.Name)
	}
	if len(c.URLs) > 0 && (len(c.Routes) > 0 || c.Listen != "") {
		return errors.New("a cluster has NATS servers of its own or uses another's, not both")
	}
	for _, u := range c.URLs {
		if p, err := url.Parse(u); err != nil || p.Host == "" || p.Scheme != "nats" && p.Scheme != "tls" {
			return errors.New("the address of a NATS server is nats://host:port or tls://host:port") // it may hold a password
		}
	}
	switch {
	case (c.CertFile == "") != (c.KeyFile == ""):
		return errors.New("a certificate for NATS needs its key, and a key its certificate")
	case len(c.URLs) == 0 && c.CAFile+c.CertFile+c.Credentials != "":
		return errors.New("files for NATS, and no address of a NATS server")
	}
	for _, a := range c.Routes {
		if _, port, err := net.SplitHostPort(a); err != nil || port == "" {
			return fmt.Errorf("route %q is not host:port", a)
		}
	}
	return nil
}

// A Secret is what the servers of a cluster have in common.
type Secret [32]byte

// minPhrase is how long what a secret is made of must be: 128 bits in hex.
const minPhrase = 32

// ParseSecret makes a secret of the contents of a file, of which only space at
// the ends does not count. It should be random; short ones are refused.
func ParseSecret(phrase []byte) (s Secret, err error) {
	text := strings.TrimSpace(string(phrase))
	if len(text) < minPhrase {
		return s, errors.New(`a cluster secret has at least 32 characters; "openssl rand -hex 32" makes one`)
	}
	return sha256.Sum256([]byte("stunt cluster secret 1\x00" + text)), nil
}

// Derive returns another secret, for something that has a name.
func (s Secret) Derive(what string) (key [32]byte) {
	b, err := hkdf.Key(sha256.New, s[:], nil, what, len(key))
	if err != nil {
		panic(err) // of lengths that are constant
	}
	return [32]byte(b)
}
