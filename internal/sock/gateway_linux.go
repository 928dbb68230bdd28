package sock

import (
	"bufio"
	"encoding/binary"
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
