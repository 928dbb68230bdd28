package rendezvous

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// DefaultPort is the port of a server whose address names none: the one of
// STUN (RFC 8489 section 18.6), which stuntd answers on the same port.
const DefaultPort = 3478

// maxServers bounds a list of addresses: it comes from a flag or a file, and
// a client tries them all before it gives up.
const maxServers = 32

// A Pin is the SHA-256 of a certificate's SubjectPublicKeyInfo, as in RFC 7469.
type Pin [sha256.Size]byte

// PinOf returns the pin of a certificate.
func PinOf(cert *x509.Certificate) Pin { return sha256.Sum256(cert.RawSubjectPublicKeyInfo) }

// A ServerAddr says where a server is and how to know it.
type ServerAddr struct {
	Host string // a DNS name or an IP address, without brackets
	Port uint16
	// Pin, if not zero, is the only proof asked of the server, whose
	// certificate may then be self-signed. Without it the certificate must
	// be valid for Host under the client's RootCAs.
	Pin Pin
}

// ParseServers reads server addresses separated by commas, each
//
//	host[:port][#sha256:pin]
//
// with the pin in hex or base64url. An IPv6 address with a port takes brackets.
func ParseServers(s string) ([]ServerAddr, error) {
	fields := strings.Split(s, ",")
	if len(fields) > maxServers {
		return nil, fmt.Errorf("%d server addresses, at most %d are used", len(fields), maxServers)
	}
	var addrs []ServerAddr
	for _, f := range fields {
		a, err := parseServer(strings.TrimSpace(f))
		if err != nil {
			return nil, fmt.Errorf("server address %q: %w", f, err)
		}
		addrs = append(addrs, a)
	}
	return addrs, nil
}

func parseServer(s string) (ServerAddr, error) {
	hostport, fragment, pinned := strings.Cut(s, "#")
	a := ServerAddr{Port: DefaultPort}
	if pinned {
		text, ok := strings.CutPrefix(fragment, "sha256:")
		if !ok {
			return a, errors.New("what follows # is not sha256:…")
		}
		pin, err := parsePin(text)
		if err != nil {
			return a, err
		}
		a.Pin = pin
	}
	var err error
	a.Host, a.Port, err = splitHostPort(hostport)
	return a, err
}

func splitHostPort(s string) (host string, port uint16, err error) {
	// A bare IPv6 address is all colons, and has no room for a port.
	bare := s
	if strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]") {
		bare = s[1 : len(s)-1]
	}
	if ip, err := netip.ParseAddr(bare); err == nil {
		return ip.String(), DefaultPort, nil
	}
	if !strings.Contains(s, ":") {
		host, port = s, DefaultPort
	} else {
		var text string
		if host, text, err = net.SplitHostPort(s); err != nil {
			return "", 0, err
		}
		n, err := strconv.ParseUint(text, 10, 16)
		if err != nil || n == 0 {
			return "", 0, fmt.Errorf("port %q is not a number from 1 to 65535", text)
		}
		port = uint16(n)
	}
	if host == "" || len(host) > 253 || strings.ContainsAny(host, "/@[] \t\r\n") {
		return "", 0, fmt.Errorf("%q is not a host", host)
	}
	return host, port, nil
}

// parsePin reads hex or base64url, told apart by their lengths.
func parsePin(s string) (Pin, error) {
	var raw []byte
	var err error
	if len(s) == hex.EncodedLen(len(Pin{})) {
		raw, err = hex.DecodeString(s)
	} else {
		raw, err = base64.RawURLEncoding.DecodeString(strings.TrimRight(s, "="))
	}
	if err != nil || len(raw) != len(Pin{}) || Pin(raw) == (Pin{}) {
		return Pin{}, errors.New("the pin is not 32 bytes in hex or base64url")
	}
	return Pin(raw), nil
}

// HostPort returns the address to dial.
func (a ServerAddr) HostPort() string {
	return net.JoinHostPort(a.Host, strconv.Itoa(int(a.Port)))
}

// String returns the address as ParseServers reads it.
func (a ServerAddr) String() string {
	if a.Pin == (Pin{}) {
		return a.HostPort()
	}
	return a.HostPort() + "#sha256:" + base64.RawURLEncoding.EncodeToString(a.Pin[:])
}

// tlsConfig returns how a client with the certificate talks to the server.
func (a ServerAddr) tlsConfig(cert tls.Certificate, roots *x509.CertPool) *tls.Config {
	cfg := &tls.Config{
		MinVersion:   tls.VersionTLS13,
		NextProtos:   []string{ALPN},
		ServerName:   a.Host,
		RootCAs:      roots,
		Certificates: []tls.Certificate{cert},
	}
	if a.Pin != (Pin{}) {
		cfg.InsecureSkipVerify = true // for VerifyConnection, which asks for more
		cfg.VerifyConnection = func(state tls.ConnectionState) error {
			got := PinOf(state.PeerCertificates[0])
			if subtle.ConstantTimeCompare(got[:], a.Pin[:]) != 1 {
				return fmt.Errorf("%w: it is sha256:%s", ErrPin, base64.RawURLEncoding.EncodeToString(got[:]))
			}
			return nil
		}
	}
	return cfg
}
