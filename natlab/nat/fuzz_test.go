package nat

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// FuzzNAT throws arbitrary packets at a NAT with state, from both sides. None
// may panic, grow, or leave with a sum that was right and no longer is.
func FuzzNAT(f *testing.F) {
	syn := pkt{src: x1, dst: rp, flags: "S", seq: 1000}.bytes(f)
	for i := range Profiles() {
		f.Add(uint8(i), syn, pkt{src: rp, dst: n1 + ":5000", flags: "SA", seq: 5000, ack: 1001}.bytes(f))
	}
	f.Add(uint8(0), pkt{src: x1, dst: rp, data: "x"}.bytes(f), timeExceeded(f, router, n1+":0", pkt{src: n1 + ":5000", dst: rp, flags: "S"}.bytes(f)))
	f.Add(uint8(21), pkt{src: y1, dst: n1 + ":5000", flags: "S"}.bytes(f), echo(f, "198.51.100.1", n1, 0, 5000))
	f.Add(uint8(6), pkt{src: x6, dst: r6p, flags: "S"}.bytes(f), pkt{src: s6p, dst: x6, flags: "S"}.bytes(f))
	f.Add(uint8(6), echo(f, "fd00::2", "2001:db8::1", 128, 9), timeExceeded(f, "[2001:db8::99]:0", x6, pkt{src: x6, dst: r6p, flags: "S"}.bytes(f)))

	profiles := Profiles()
	now := time.Unix(1e9, 0)
	f.Fuzz(func(t *testing.T, profile uint8, out, in []byte) {
		c := profiles[int(profile)%len(profiles)].Config
		n := New(c, []netip.Addr{netip.MustParseAddr(n1), netip.MustParseAddr(n2)}, 1)
		n.Outbound(append([]byte(nil), syn...), now)
		for _, b := range [][]byte{out, in} {
			for _, pass := range []func([]byte, time.Time) []Packet{n.Outbound, n.Inbound} {
				good := sumsAreRight(b)
				for _, p := range pass(append([]byte(nil), b...), now) {
					require.LessOrEqual(t, len(p.Data), max(len(b), 1280))
					require.True(t, !good || sumsAreRight(p.Data))
					n.Due(p)
				}
			}
		}
		n.Mappings(now.Add(time.Minute))
		n.Reboot(now)
		require.Empty(t, n.Mappings(now))
	})
}

// sumsAreRight reports whether b parses and its IP header and transport
// checksums are right.
func sumsAreRight(b []byte) bool {
	p, ok := parse(b)
	if !ok {
		return false
	}
	addrs := p.b[8:p.l4]
	if !p.v6 {
		if fold(sum(p.b[:p.l4])) != 0xffff {
			return false
		}
		addrs = p.b[12:20]
	}
	if p.proto == protoUDP && be.Uint16(p.b[p.sum:]) == 0 {
		return true
	}
	seed := uint32(p.proto) + uint32(len(p.b)-p.l4) + sum(addrs)
	if p.proto == protoICMP {
		seed = 0
	}
	return fold(seed+sum(p.b[p.l4:])) == 0xffff
}
