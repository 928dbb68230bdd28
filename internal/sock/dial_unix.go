//go:build linux || darwin || freebsd

package sock

import (
	"context"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Start sends a SYN from local to remote and returns without waiting for what
// comes of it. SYNs leave in the order of the calls, which matters to a NAT
// that numbers its mappings; a [net.Dialer] tells nobody when its SYN is out.
// The caller ends a Pending with Wait or Close.
func (n *Net) Start(local, remote netip.AddrPort, ttl int) (*Pending, error) {
	return n.Begin(local, remote, Opening{TTL: ttl})
}

// Begin is Start with more to say.
func (n *Net) Begin(local, remote netip.AddrPort, o Opening) (*Pending, error) {
	fd := -1
	err := n.Do(func() (err error) {
		fd, err = connecting(local, remote, o)
		return err
	})
	if err != nil {
		return nil, dialError(local, remote, err)
	}
	if local.Port() == 0 {
		if port, ok := boundPort(fd); ok {
			n.pickedNew(netip.AddrPortFrom(local.Addr(), port))
		}
	}
	return &Pending{file: os.NewFile(uintptr(fd), "tcp"), local: local, remote: remote}, nil
}

// connecting returns a socket in SYN_SENT, or one that is connected already.
func connecting(local, remote netip.AddrPort, o Opening) (int, error) {
	family := unix.AF_INET6
	if remote.Addr().Is4() {
		family = unix.AF_INET
	}
	fd, err := socket(family)
	if err != nil {
		return -1, err
	}
	if err := connect(fd, local, remote, o); err != nil {
		unix.Close(fd) // it would keep its port bound
		return -1, err
	}
	return fd, nil
}

// connect prepares a socket and sends its SYN.
func connect(fd int, local, remote netip.AddrPort, o Opening) error {
	for _, opt := range []int{unix.SO_REUSEADDR, unix.SO_REUSEPORT} {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, opt, 1); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	}
	if o.TTL > 0 {
		if err := setTTL(fd, remote.Addr().Is4(), o.TTL); err != nil {
			return err
		}
	}
	o.apply(fd, remote.Addr().Is4())
	if local.IsValid() {
		if err := unix.Bind(fd, sockaddr(local)); err != nil {
			return os.NewSyscallError("bind", err)
		}
	}
	switch err := unix.Connect(fd, sockaddr(remote)); err {
	case nil, unix.EINPROGRESS, unix.EINTR:
		return nil
	default:
		return os.NewSyscallError("connect", err)
	}
}

// boundPort returns the local port of a socket.
func boundPort(fd int) (uint16, bool) {
	switch a, _ := unix.Getsockname(fd); a := a.(type) {
	case *unix.SockaddrInet4:
		return uint16(a.Port), true
	case *unix.SockaddrInet6:
		return uint16(a.Port), true
	}
	return 0, false // closed already: nothing to remember
}

func setTTL(fd int, v4 bool, ttl int) error {
	level, opt := ttlOption(v4)
	return os.NewSyscallError("setsockopt", unix.SetsockoptInt(fd, level, opt, ttl))
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// Pending is a socket whose SYN is out.
type Pending struct {
	file          *os.File
	local, remote netip.AddrPort
}

// Close gives the socket up. The kernel sends nothing.
func (p *Pending) Close() error { return p.file.Close() }

// SetTTL changes the time to live of the packets that follow: repetitions of
// the SYN, and the SYN-ACK if the other end's SYN comes. It fails once the
// Pending has ended.
func (p *Pending) SetTTL(ttl int) error {
	rc, err := p.file.SyscallConn()
	if err != nil {
		return err
	}
	if cerr := rc.Control(func(fd uintptr) { err = setTTL(int(fd), p.remote.Addr().Is4(), ttl) }); cerr != nil {
		return cerr
	}
	return err
}

// Wait returns the connection when it stands, or why it does not. It ends the
// Pending.
func (p *Pending) Wait(ctx context.Context) (*net.TCPConn, error) {
	defer p.file.Close()
	stop := context.AfterFunc(ctx, func() { p.file.SetWriteDeadline(time.Unix(1, 0)) })
	defer stop()
	err := p.finish()
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, dialError(p.local, p.remote, err)
	}
	c, err := net.FileConn(p.file) // a duplicate, known to the poller as a connection
	if err != nil {
		return nil, dialError(p.local, p.remote, err)
	}
	return notSelf(c.(*net.TCPConn))
}

// finish waits until the socket is writable or has failed.
func (p *Pending) finish() error {
	rc, err := p.file.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = rc.Write(func(fd uintptr) bool {
		errno, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		switch {
		case err != nil:
			failed = os.NewSyscallError("getsockopt", err)
		case errno != 0:
			failed = explain(int(fd), os.NewSyscallError("connect", syscall.Errno(errno)))
		default:
			// No error may mean no answer yet: only a connected socket has a peer.
			_, err := unix.Getpeername(int(fd))
			return err == nil
		}
		return true
	})
	if failed != nil {
		return failed
	}
	return err
}
