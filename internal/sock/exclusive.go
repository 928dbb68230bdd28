package sock

import (
	"context"
	"errors"
	"net"
	"runtime"

	"github.com/libp2p/go-reuseport"
)

// ListenExclusive listens on address, a host:port as [net.Listen] takes it,
// with a port of its own: a second listener on the same address is an error
// that matches EADDRINUSE. Servers use it; [Net.Listen] shares its port, and
// two servers that share one by accident would each get half of the clients.
// [Net.Dial] can still leave from that port. An empty host listens for both
// families. Accepted connections have no kernel keepalive: a server's
// protocols have deadlines, and four system calls per connection are saved. The
// SYNs are kept for [SYNOf].
func (n *Net) ListenExclusive(ctx context.Context, address string) (*net.TCPListener, error) {
	lc := net.ListenConfig{KeepAlive: -1}
	lc.SetMultipathTCP(false)
	var ln net.Listener
	err := n.Do(func() (err error) {
		ln, err = lc.Listen(ctx, "tcp", address)
		return err
	})
	if err != nil {
		return nil, err
	}
	tl := ln.(*net.TCPListener)
	if err := errors.Join(shareWithDials(tl), SaveSYN(tl)); err != nil {
		tl.Close()
		return nil, err
	}
	return tl, nil
}

// shareWithDials marks a port that was bound alone as one that may be shared
// from now on. The kernel asks both sockets at each bind, so a dial, which is
// marked before its bind, gets the port; another ListenExclusive does not.
// Windows needs no mark, and refuses one that comes after the bind.
func shareWithDials(ln *net.TCPListener) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	rc, err := ln.SyscallConn()
	if err != nil {
		return err
	}
	return reuseport.Control(ln.Addr().Network(), ln.Addr().String(), rc)
}
