// Package sock opens the TCP sockets that holes are punched with. It is the
// only place in the project that sets socket options, and the only one that
// knows what an operating system calls a refused connection.
//
// Every socket shares its local port (SO_REUSEADDR and SO_REUSEPORT), because
// one port carries the session with the server, a listener and every attempt
// at once; and none is Multipath TCP, whose option middleboxes on a punched
// path drop or answer with RST.
package sock

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strconv"

	"github.com/libp2p/go-reuseport"
)

// ErrSelfConnect is returned by [Net.Dial] and [Pending.Wait] when the socket reached itself: TCP
// lets a connecting socket meet its own SYN when local and remote are equal.
var ErrSelfConnect = errors.New("the connection is one to itself")

// Net opens sockets. The zero value and a nil *Net use the network of the
// calling process. Open is not changed after the first use. A Net is safe for
// concurrent use.
type Net struct {
	// Open, if not nil, runs every function that creates a socket or asks for
	// the addresses of the machine, so that a caller can enter a network
	// namespace around it. It must run open exactly once, on the calling
	// goroutine, and return its error.
	Open func(open func() error) error

	picked recent // ports of the kernel's choice
}

// Do runs open as Open says. It is for what creates a socket or asks for the
// addresses of the machine in another package.
func (n *Net) Do(open func() error) error {
	if n == nil || n.Open == nil {
		return open()
	}
	return n.Open(open)
}

// Listen listens on local; port 0 picks one, of those that n has not used in
// the last minutes if there is one. An unspecified IPv6 address listens for
// IPv6 only, so that both families can hold the same port.
func (n *Net) Listen(ctx context.Context, local netip.AddrPort) (*net.TCPListener, error) {
	for pick := 1; ; pick++ {
		ln, err := n.listen(ctx, local)
		if err != nil || local.Port() != 0 || n.pickedNew(AddrPort(ln.Addr())) || pick == maxPicks {
			return ln, err
		}
		ln.Close()
	}
}

func (n *Net) listen(ctx context.Context, local netip.AddrPort) (*net.TCPListener, error) {
	lc := net.ListenConfig{Control: reuseport.Control}
	lc.SetMultipathTCP(false)
	var ln net.Listener
	err := n.Do(func() (err error) {
		ln, err = lc.Listen(ctx, family(local), local.String())
		return err
	})
	if err != nil {
		return nil, err
	}
	return ln.(*net.TCPListener), nil
}

// Dial connects from local to remote and bounds the attempt by ctx. An invalid
// local address or port 0 leaves the choice to the kernel. A ttl above 0 is
// the time to live of every packet of the connection.
func (n *Net) Dial(ctx context.Context, local, remote netip.AddrPort, ttl int) (*net.TCPConn, error) {
	p, err := n.Start(local, remote, ttl)
	if err != nil {
		return nil, err
	}
	return p.Wait(ctx)
}

// notSelf returns c unless it is a connection to itself.
func notSelf(c *net.TCPConn) (*net.TCPConn, error) {
	local, remote := AddrPort(c.LocalAddr()), AddrPort(c.RemoteAddr())
	if local != remote {
		return c, nil
	}
	c.Close()
	return nil, dialError(local, remote, ErrSelfConnect)
}

func dialError(local, remote netip.AddrPort, err error) error {
	oe := &net.OpError{Op: "dial", Net: family(remote), Addr: net.TCPAddrFromAddrPort(remote), Err: err}
	if local.IsValid() {
		oe.Source = net.TCPAddrFromAddrPort(local)
	}
	return oe
}

// Prefixes returns the unicast addresses of the machine's interfaces with
// their prefix lengths, without loopback and link-local ones.
func (n *Net) Prefixes() ([]netip.Prefix, error) {
	var addrs []net.Addr
	err := n.Do(func() (err error) {
		addrs, err = net.InterfaceAddrs()
		return err
	})
	if err != nil {
		return nil, err
	}
	var ps []netip.Prefix
	for _, a := range addrs {
		p, err := netip.ParsePrefix(a.String())
		if err != nil {
			continue // not an IP address
		}
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits())
		if ip := p.Addr(); ip.IsGlobalUnicast() {
			ps = append(ps, p)
		}
	}
	return ps, nil
}

// Abort closes c with a RST and without TIME_WAIT, so that its port can
// connect to the same place again at once.
func Abort(c *net.TCPConn) {
	c.SetLinger(0)
	c.Close()
}

// AddrPort returns a TCP address as a value, its IPv4 addresses as such. It is
// the zero AddrPort if a is not a TCP address.
func AddrPort(a net.Addr) netip.AddrPort {
	ta, ok := a.(*net.TCPAddr)
	if !ok || ta == nil {
		return netip.AddrPort{}
	}
	ap := ta.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// Unspecified is the wildcard address of the family of like, with port.
func Unspecified(like netip.Addr, port uint16) netip.AddrPort {
	if like.Is4() {
		return netip.AddrPortFrom(netip.IPv4Unspecified(), port)
	}
	return netip.AddrPortFrom(netip.IPv6Unspecified(), port)
}

// Loopback returns the loopback address with port, for tests and fallbacks.
func Loopback(port uint16) netip.AddrPort {
	return netip.MustParseAddrPort("127.0.0.1:" + strconv.Itoa(int(port)))
}

func family(a netip.AddrPort) string {
	if a.Addr().Is4() {
		return "tcp4"
	}
	return "tcp6"
}
