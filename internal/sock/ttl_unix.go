//go:build !windows && !plan9 && !js && !wasip1

package sock

import (
	"syscall"

	"golang.org/x/sys/unix"
)

func setTTL(c syscall.RawConn, v4 bool, ttl int) error {
	level, opt := unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS
	if v4 {
		level, opt = unix.IPPROTO_IP, unix.IP_TTL
	}
	var err error
	if cerr := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), level, opt, ttl) }); cerr != nil {
		return cerr
	}
	return err
}
