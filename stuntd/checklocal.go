package stuntd

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/gostunt/stunt/internal/sock"
	"github.com/gostunt/stunt/rendezvous"
	"github.com/gostunt/stunt/stuntd/check"
)

// look says what a server with this configuration would meet with on this
// machine. It changes nothing there: no key is made, no file written.
func (c *Config) look(ctx context.Context, r *check.Report) {
	c.lookAtKey(r)
	c.lookAtListen(ctx, r)
	c.lookAtOthers(ctx, r)
	c.lookAtAddresses(r)
	c.lookAtFiles(r)
	c.lookAtLimits(r)
	lookAtClock(r)
}

// lookAtKey looks at what nodes know the server by.
func (c *Config) lookAtKey(r *check.Report) {
	if c.CertFile != "" {
		f, err := loadCert(c.CertFile, c.KeyFile)
		if err != nil {
			r.Bad("certificate", "", "%v", err)
			return
		}
		cert, _ := f.get(nil) // it has been read
		switch left := time.Until(cert.Leaf.NotAfter); {
		case left < 0:
			r.Bad("certificate", "renew it", "it has ended on %s", cert.Leaf.NotAfter.UTC().Format(time.DateOnly))
		case left < 14*24*time.Hour: // as check.Remote has it
			r.Doubt("certificate", "see why it was not renewed", "it ends in %d days", int(left.Hours()/24))
		default:
			r.Good("certificate", "%s, until %s", strings.Join(cert.Leaf.DNSNames, ", "), cert.Leaf.NotAfter.UTC().Format(time.DateOnly))
		}
		return
	}
	if len(c.ACME.Hosts) > 0 {
		r.Good("certificate", "for %s, from an authority (-acme-host): look from elsewhere whether it is there", strings.Join(c.ACME.Hosts, ", "))
		return
	}
	dir, err := c.stateDir()
	if err != nil {
		r.Bad("key", "", "%v", err)
		return
	}
	path := filepath.Join(dir, "server.key")
	_, err = readKey(path)
	info, serr := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		r.Doubt("key", "", "%s is made at the first start: nodes will need the new pin", path)
	case err != nil:
		r.Bad("key", "put the copy back that you have of it", "%v", err)
	case serr == nil && runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0:
		r.Bad("key", "chmod 600 "+path, "others on this machine can read %s, and be this server", path)
	default:
		r.Good("key", "%s, of which you should have a copy", path)
	}
}

// lookAtListen tries to listen. If something does already, it should be us.
func (c *Config) lookAtListen(ctx context.Context, r *check.Report) {
	for _, addr := range c.listen() {
		ln, err := new(sock.Net).ListenExclusive(ctx, addr)
		switch {
		case err == nil:
			ln.Close()
			r.Good("listen", "%s is free", addr)
		case sock.Classify(err) == sock.AddrInUse && answers(ctx, addr):
			r.Good("listen", "%s is in use, by something that answers STUN as a server does", addr)
		case sock.Classify(err) == sock.AddrInUse:
			r.Bad("listen", "stop what has it, or listen elsewhere (-listen)", "%s is in use by another program", addr)
		default:
			r.Bad("listen", "name an address of this machine (-listen)", "%v", err)
		}
	}
}

// lookAtOthers looks whether the addresses of the other listeners are ours. One
// that is in use may be by this server, as it runs.
func (c *Config) lookAtOthers(ctx context.Context, r *check.Report) {
	for _, l := range []struct{ flag, addr string }{{"-admin", c.Admin.Listen}, {"-cluster-listen", c.Cluster.Listen}, {"-acme-http", c.ACME.HTTP}} {
		if l.addr == "" {
			continue
		}
		ln, err := new(sock.Net).ListenExclusive(ctx, l.addr)
		switch {
		case err == nil:
			ln.Close()
		case sock.Classify(err) != sock.AddrInUse:
			r.Bad("listen", "name an address of this machine ("+l.flag+")", "%v", err)
		}
	}
}

// answers reports whether a STUN server answers at an address of ours.
func answers(ctx context.Context, addr string) bool {
	a, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		return false
	}
	at := a.AddrPort()
	if !at.Addr().IsValid() || at.Addr().IsUnspecified() {
		at = sock.Loopback(at.Port())
	}
	return check.AnswersSTUN(ctx, netip.AddrPortFrom(at.Addr().Unmap(), at.Port()))
}

// lookAtAddresses says what nodes can learn from the addresses, and what they
// are told to dial.
func (c *Config) lookAtAddresses(r *check.Report) {
	own, err := new(sock.Net).Prefixes()
	if err != nil {
		r.Doubt("addresses", "", "those of this machine are not known: %v", err)
		return
	}
	pub, err := parsePublic(c.Public, own)
	if err != nil {
		r.Bad("public", "", "%v", err)
		return
	}
	ips, ports := make(map[string]bool), make(map[string]bool)
	for _, addr := range c.listen() {
		host, port, err := net.SplitHostPort(addr)
		if err != nil {
			continue // that it can't listen was said
		}
		ips[host], ports[port] = true, true
	}
	const more = "listen on two IPs and two ports, all four (-listen)"
	switch {
	case len(ips) > 1 && len(ports) > 1 && len(c.listen()) >= 4:
		r.Good("addresses", "two addresses and two ports: nodes can learn all about their NAT")
	case len(ports) > 1 && c.Cluster.Name != "":
		r.Good("addresses", "one address and two ports: nodes can learn all about their NAT while another server of the cluster lends an address with the same two ports")
	case c.Cluster.Name != "":
		r.Doubt("addresses", "listen on two ports, the same at all servers of the cluster (-listen)", "one port: nodes don't learn whether their NAT depends on the peer's")
	case len(ports) > 1:
		r.Doubt("addresses", more, "one address: nodes don't learn whether their NAT depends on the peer's, nor all of whom it lets in")
	default:
		r.Doubt("addresses", more, "one port: nodes learn their public address, and little of their NAT")
	}
	host := pub.host
	switch {
	case host != "":
	case len(c.ACME.Hosts) > 0:
		host = c.ACME.Hosts[0]
	default:
		host = pub.ownHost(c.first(), c.leaf(), own)
	}
	if ip, err := netip.ParseAddr(host); err == nil && (ip.IsPrivate() || ip.IsLoopback() || ip.IsLinkLocalUnicast()) {
		r.Doubt("public", "say what the outside sees (-public), if nodes are to come from there", "nodes are told %s, which only this network reaches", host)
	} else {
		r.Good("public", "nodes are told %s", host)
	}
}

// first returns the first address that is listened on.
func (c *Config) first() netip.Addr {
	a, err := net.ResolveTCPAddr("tcp", c.listen()[0])
	if err != nil || !a.AddrPort().Addr().IsValid() {
		return netip.IPv6Unspecified()
	}
	return a.AddrPort().Addr()
}

// leaf returns the certificate that names the server, or one without a name.
func (c *Config) leaf() *tls.Certificate {
	if c.CertFile != "" {
		if cert, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile); err == nil {
			return &cert
		}
	}
	return &tls.Certificate{Leaf: new(x509.Certificate)}
}

// lookAtFiles looks at the other files that flags name.
func (c *Config) lookAtFiles(r *check.Report) {
	for _, f := range []struct {
		about, path string
		read        func() error
	}{
		{"relay secret", c.Relay.SecretFile, func() error { _, err := c.Relay.secret(); return err }},
		{"cluster", c.Cluster.SecretFile, func() error { _, _, err := c.secrets(); return err }},
		{"admin token", c.Admin.TokenFile, func() error { _, err := c.Admin.token(); return err }},
		{"access", c.Access.File, func() error { _, _, err := (&Config{Access: Access{File: c.Access.File}}).gate(); return err }},
		{"token key", c.tokenKeyInUse(), func() error { return absentOr(readTokenKey(c.tokenKeyInUse())) }},
		{"names", c.Names, func() error { return c.lookAtNames() }},
		{"record", c.Record, func() error { return folder(c.Record) }},
	} {
		if f.path == "" {
			continue
		}
		if err := f.read(); err != nil {
			r.Bad(f.about, "", "%v", err)
		} else {
			r.Good(f.about, "%s", f.path)
		}
	}
}

// tokenKeyInUse is the file with the key of tokens; empty if none are asked for.
func (c *Config) tokenKeyInUse() string {
	if !c.Access.Tokens {
		return ""
	}
	path, _ := c.tokenKeyPath() // of the state's folder lookAtKey has spoken
	return path
}

// absentOr is the error of a key that is made at the first start.
func absentOr(_ ed25519.PublicKey, _ ed25519.PrivateKey, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// lookAtNames says what is wrong with the file of names, or where it is to be.
func (c *Config) lookAtNames() error {
	text, err := readFile(c.Names, int64(rendezvous.MaxNamesText)+1)
	if errors.Is(err, fs.ErrNotExist) {
		return folder(c.Names)
	}
	if err == nil {
		err = new(rendezvous.Server).RecallNames(text)
	}
	return err
}

// folder says what is wrong with the folder of a file that is to be written.
func folder(path string) error {
	info, err := os.Stat(filepath.Dir(path))
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("%s is no folder", filepath.Dir(path))
	}
	return err
}

// lookAtLimits compares the limit on open files with that on connections.
func (c *Config) lookAtLimits(r *check.Report) {
	asked, _ := c.Limits.withDefaults() // checked
	got := fitFiles(asked, slog.New(slog.DiscardHandler))
	const do = "raise the limit on open files (ulimit -n, LimitNOFILE=)"
	switch {
	case got.Conns < asked.Conns/8:
		r.Bad("files", do, "%d connections are all that the limit on open files allows, of %d", got.Conns, asked.Conns)
	case got.Conns < asked.Conns:
		r.Doubt("files", do, "%d connections are all that the limit on open files allows, of %d", got.Conns, asked.Conns)
	default:
		r.Good("files", "enough for %d connections", got.Conns)
	}
}

func lookAtClock(r *check.Report) {
	switch ok, err := synchronised(); {
	case err != nil:
		r.Doubt("clock", "", "%v", err)
	case !ok:
		r.Doubt("clock", "let NTP set it: relays of several servers and tokens need it", "nothing keeps the clock of this machine right")
	default:
		r.Good("clock", "it is kept right")
	}
}
