//go:build !windows && !plan9 && !js && !wasip1

package sock

import "golang.org/x/sys/unix"

func ttlOption(v4 bool) (level, opt int) {
	if v4 {
		return unix.IPPROTO_IP, unix.IP_TTL
	}
	return unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS
}
