package netwatch

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/gostunt/stunt/internal/sock"
)

// route asks the kernel for the way to a destination as its own sockets would
// go, with all tables and rules. Where it does not say, by looking.
func route(n *sock.Net, to netip.Addr) Route {
	r := Route{To: to}
	err := n.Do(func() (err error) {
		r, err = askRoute(to)
		return err
	})
	switch {
	case errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EHOSTUNREACH):
		return Route{To: to}
	case err != nil:
		return routeOfSocket(n, to)
	}
	return r
}

// askRoute sends RTM_GETROUTE, which the kernel answers before send returns
// (rtnetlink(7)).
func askRoute(to netip.Addr) (Route, error) {
	fd, err := routeSocket(0)
	if err != nil {
		return Route{}, err
	}
	defer unix.Close(fd)
	if err := unix.Sendto(fd, routeRequest(to), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return Route{}, os.NewSyscallError("sendto", err)
	}
	buf := make([]byte, 4096) // an answer is some hundred bytes
	size, _, err := unix.Recvfrom(fd, buf, 0)
	if err != nil {
		return Route{}, os.NewSyscallError("recvfrom", err)
	}
	return parseRoute(to, buf[:size])
}

// routeRequest is struct nlmsghdr, struct rtmsg, and a struct rtattr with the
// destination, all in the machine's byte order.
func routeRequest(to netip.Addr) []byte {
	dst := to.AsSlice()
	attr := unix.SizeofRtAttr + len(dst)
	b := make([]byte, unix.SizeofNlMsghdr+unix.SizeofRtMsg+attr)
	order := binary.NativeEndian
	order.PutUint32(b, uint32(len(b)))
	order.PutUint16(b[4:], unix.RTM_GETROUTE)
	order.PutUint16(b[6:], unix.NLM_F_REQUEST)
	msg := b[unix.SizeofNlMsghdr:]
	msg[0], msg[1] = unix.AF_INET6, byte(to.BitLen())
	if to.Is4() {
		msg[0] = unix.AF_INET
	}
	rta := msg[unix.SizeofRtMsg:]
	order.PutUint16(rta, uint16(attr))
	order.PutUint16(rta[2:], unix.RTA_DST)
	copy(rta[unix.SizeofRtAttr:], dst)
	return b
}

var errNoAnswer = errors.New("netlink: not an answer")

// parseRoute reads what the kernel says.
func parseRoute(to netip.Addr, b []byte) (Route, error) {
	messages, err := syscall.ParseNetlinkMessage(b)
	if err != nil {
		return Route{}, err
	}
	if len(messages) == 0 {
		return Route{}, errNoAnswer
	}
	m := &messages[0]
	switch m.Header.Type {
	case unix.NLMSG_ERROR:
		if len(m.Data) < 4 {
			return Route{}, errNoAnswer
		}
		return Route{}, syscall.Errno(-int32(binary.NativeEndian.Uint32(m.Data)))
	case unix.RTM_NEWROUTE:
	default:
		return Route{}, errNoAnswer
	}
	attrs, err := syscall.ParseNetlinkRouteAttr(m)
	if err != nil {
		return Route{}, err
	}
	r := Route{To: to}
	for _, a := range attrs {
		switch a.Attr.Type {
		case unix.RTA_OIF:
			if len(a.Value) == 4 {
				r.Link = int(binary.NativeEndian.Uint32(a.Value))
			}
		case unix.RTA_GATEWAY:
			r.Gateway, _ = netip.AddrFromSlice(a.Value)
		case unix.RTA_VIA: // a gateway of the other family: that, and its address
			if len(a.Value) > 2 {
				r.Gateway, _ = netip.AddrFromSlice(a.Value[2:])
			}
		}
	}
	return r, nil
}
