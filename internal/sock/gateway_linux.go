package sock

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"io"
	"net/netip"
	"os"
	"strconv"
	"strings"
)

// Gateway returns the router of the IPv4 default route, invalid where there is
// none or the system does not tell: only Linux does.
func (n *Net) Gateway() (gateway netip.Addr) {
	n.Do(func() error {
		f, err := os.Open("/proc/thread-self/net/route") // of the namespace that we are in
		if err != nil {
			return err
		}
		defer f.Close()
		gateway = parseRoutes(f)
		return nil
	})
	return gateway
}

// Gateway6 is Gateway for IPv6: mostly a link-local address, which has the
// interface as its zone then.
func (n *Net) Gateway6() (gateway netip.Addr) {
	n.Do(func() error {
		f, err := os.Open("/proc/thread-self/net/ipv6_route")
		if err != nil {
			return err // of a kernel without IPv6
		}
		defer f.Close()
		gateway = parseRoutes6(f)
		return nil
	})
	return gateway
}

// parseRoutes6 reads /proc/net/ipv6_route: destination, prefix length, source,
// prefix length, next hop, metric, two counts, flags, interface; all in
// hexadecimal but the last, and the addresses byte by byte.
func parseRoutes6(r io.Reader) (gateway netip.Addr) {
	best := uint64(1 << 32)
	for lines := bufio.NewScanner(r); lines.Scan(); {
		f := strings.Fields(lines.Text())
		if len(f) < 10 || f[1] != "00" || f[3] != "00" || strings.Trim(f[0], "0") != "" {
			continue
		}
		hop, err1 := hex.DecodeString(f[4])
		metric, err2 := strconv.ParseUint(f[5], 16, 32)
		ip, ok := netip.AddrFromSlice(hop)
		if err1 != nil || err2 != nil || !ok || ip.IsUnspecified() || metric >= best {
			continue
		}
		if ip.IsLinkLocalUnicast() {
			ip = ip.WithZone(f[9])
		}
		gateway, best = ip, metric
	}
	return gateway
}

// parseRoutes reads /proc/net/route: interface, destination, gateway, flags...
// in hexadecimal, the addresses in the machine's byte order.
func parseRoutes(r io.Reader) netip.Addr {
	for lines := bufio.NewScanner(r); lines.Scan(); {
		f := strings.Fields(lines.Text())
		if len(f) < 8 || f[1] != "00000000" || f[7] != "00000000" {
			continue
		}
		v, err := strconv.ParseUint(f[2], 16, 32)
		if err != nil || v == 0 {
			continue
		}
		var b [4]byte
		binary.NativeEndian.PutUint32(b[:], uint32(v))
		return netip.AddrFrom4(b)
	}
	return netip.Addr{}
}
