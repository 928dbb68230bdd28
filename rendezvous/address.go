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
	// Other and Other6 are where the same server answers STUN besides, for a
	// session over IPv4 and over IPv6: its OTHER-ADDRESS (RFC 5780 section
	// 7.4), told beforehand. An unspecified address is the one that Host has.
	// Invalid: not told, and to be asked for. This package makes no use of them.
	Other, Other6 netip.AddrPort
}

// ParseServers reads server addresses separated by commas, each
//
//	host[:port][#[sha256:pin][+other]…]
//
// with the pin in hex or base64url. An IPv6 address with a port takes brackets.
// An other endpoint is ip:port, one for each family, or :port for both.
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
	hostport, fragment, more := strings.Cut(s, "#")
	a := ServerAddr{Port: DefaultPort}
	if more {
		if err := a.parseFragment(fragment); err != nil {
			return a, err
		}
	}
	var err error
	a.Host, a.Port, err = splitHostPort(hostport)
	return a, err
}

func (a *ServerAddr) parseFragment(s string) error {
	pin, others, more := strings.Cut(s, "+")
	if pin != "" || !more {
		text, ok := strings.CutPrefix(pin, "sha256:")
		if !ok {
			return errors.New("what follows # is neither sha256:… nor +…")
		}
		var err error
		if a.Pin, err = parsePin(text); err != nil {
			return err
		}
	}
	for more {
		var other string
		other, others, more = strings.Cut(others, "+")
		if err := a.addOther(other); err != nil {
			return err
		}
	}
	return nil
}

// addOther reads one other endpoint. There is one for each family, which also
// bounds how many there are.
func (a *ServerAddr) addOther(s string) error {
	if port, ok := strings.CutPrefix(s, ":"); ok {
		if err := a.addOther("0.0.0.0:" + port); err != nil {
			return err
		}
		return a.addOther("[::]:" + port)
	}
	other, err := netip.ParseAddrPort(s)
	if err != nil || other.Port() == 0 || other.Addr().Zone() != "" || other.Addr().Is4In6() || other.Addr().IsMulticast() {
		return fmt.Errorf("%q is not ip:port or :port", s)
	}
	field := &a.Other
	if other.Addr().Is6() {
		field = &a.Other6
	}
	if field.IsValid() {
		return fmt.Errorf("%q is a second other endpoint of its family", s)
	}
	*field = other
	return nil
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
	fragment := a.others()
	if a.Pin != (Pin{}) {
		fragment = "sha256:" + base64.RawURLEncoding.EncodeToString(a.Pin[:]) + fragment
	}
	if fragment == "" {
		return a.HostPort()
	}
	return a.HostPort() + "#" + fragment
}

func (a ServerAddr) others() string {
	if a.Other.Addr() == netip.IPv4Unspecified() && a.Other6 == netip.AddrPortFrom(netip.IPv6Unspecified(), a.Other.Port()) {
		return fmt.Sprintf("+:%d", a.Other.Port())
	}
	var s string
	for _, o := range []netip.AddrPort{a.Other, a.Other6} {
		if o.IsValid() {
			s += "+" + o.String()
		}
	}
	return s
}

// keyExchanges are what a client offers, and not the post-quantum one that
// crypto/tls would begin with. What a session carries is no secret for decades:
// names, addresses, tokens that expire, and the messages of a handshake that is
// X25519 itself, on which alone the secrecy of a connection hangs. In return the first message is a
// quarter as long and one segment, a server keeps 2.6 KiB less for as long as the
// session lives, and both have less to compute. P-256, for which no key goes along,
// is for servers that FIPS 140 forbids X25519. A server takes what anybody offers.
var keyExchanges = []tls.CurveID{tls.X25519, tls.CurveP256}

// tlsConfig returns how a client with the certificate talks to the server.
func (a ServerAddr) tlsConfig(cert tls.Certificate, roots *x509.CertPool) *tls.Config {
	cfg := &tls.Config{
		MinVersion:       tls.VersionTLS13,
		CurvePreferences: keyExchanges,
		NextProtos:       []string{ALPN},
		ServerName:       a.Host,
		RootCAs:          roots,
		Certificates:     []tls.Certificate{cert},
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
