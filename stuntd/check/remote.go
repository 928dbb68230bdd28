package check

import (
	"context"
	"crypto/x509"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/gostunt/stunt/internal/sock"
	"github.com/gostunt/stunt/rendezvous"
)

// A Target is a server to look at.
type Target struct {
	Server  rendezvous.ServerAddr
	Token   string         // to be let in with; may be empty
	RootCAs *x509.CertPool // for a server without a pin; nil: the system's
}

const (
	// connectTime is for one connection: with two repeated SYNs.
	connectTime = 5 * time.Second
	// mostAddresses are looked at, of those that a name has.
	mostAddresses = 8
)

// visit is one look at a server.
type visit struct {
	*Report
	target  Target
	reached []netip.AddrPort // what accepts, at least one once reach has returned true
}

// Remote looks at a server from here, as a node would. It says nothing of what
// only the server's own machine can tell.
func Remote(ctx context.Context, t Target, r *Report) {
	v := &visit{Report: r, target: t}
	if !v.reach(ctx) {
		return
	}
	v.web(ctx)
	for _, is4 := range []bool{true, false} {
		if i := slices.IndexFunc(v.reached, func(a netip.AddrPort) bool { return a.Addr().Is4() == is4 }); i >= 0 {
			v.stun(ctx, v.reached[i])
		}
	}
	v.sessions(ctx)
}

// reach finds the server's addresses and connects to each. It reports whether
// one accepts.
func (v *visit) reach(ctx context.Context) bool {
	addrs, err := v.resolve(ctx)
	if err != nil {
		v.Bad("name", "see to its A and AAAA records", "%s is not found: %v", v.target.Server.Host, err)
		return false
	}
	for _, a := range addrs {
		took, err := knock(ctx, a)
		switch {
		case err == nil:
			v.reached = append(v.reached, a)
			v.Good("port", "%v accepts connections, after %v", a, took.Round(time.Millisecond))
		case a.Addr().Is6() && errors.Is(err, syscall.ENETUNREACH) || errors.Is(err, syscall.EADDRNOTAVAIL):
			v.Doubt("port", "look from a host that has IPv6", "%v was not tried: this host has no IPv6", a)
		default:
			v.Bad("port", "see that stuntd runs and listens there, and that the firewall lets TCP in", "%v does not accept connections: %v", a, plain(err))
		}
	}
	return len(v.reached) > 0
}

func (v *visit) resolve(ctx context.Context) (addrs []netip.AddrPort, err error) {
	host, port := v.target.Server.Host, v.target.Server.Port
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.AddrPort{netip.AddrPortFrom(ip, port)}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	for _, ip := range ips[:min(len(ips), mostAddresses)] {
		addrs = append(addrs, netip.AddrPortFrom(ip.Unmap(), port))
	}
	return addrs, err
}

// connect connects to an address; whoever closes the connection leaves nothing
// behind.
func connect(ctx context.Context, a netip.AddrPort) (*net.TCPConn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	var network *sock.Net
	return network.Dial(ctx, sock.Unspecified(a.Addr(), 0), a, 0)
}

// knock connects and hangs up.
func knock(ctx context.Context, a netip.AddrPort) (time.Duration, error) {
	began := time.Now()
	c, err := connect(ctx, a)
	if err != nil {
		return 0, err
	}
	sock.Abort(c)
	return time.Since(began), nil
}

// plain returns what went wrong without where: that is said already.
func plain(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return errors.New("no answer in " + strconv.Itoa(int(connectTime/time.Second)) + " s")
	}
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}
