package sock

import (
	"syscall"

	"golang.org/x/sys/windows"
)

func setTTL(c syscall.RawConn, v4 bool, ttl int) error {
	level, opt := windows.IPPROTO_IPV6, windows.IPV6_UNICAST_HOPS
	if v4 {
		level, opt = windows.IPPROTO_IP, windows.IP_TTL
	}
	var err error
	if cerr := c.Control(func(fd uintptr) {
		err = windows.SetsockoptInt(windows.Handle(fd), level, opt, ttl)
	}); cerr != nil {
		return cerr
	}
	return err
}
