package natlab

import (
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/stretchr/testify/require"
)

// segment builds a TCP packet with right checksums.
func segment(t testing.TB, src, dst netip.AddrPort, ttl uint8, payload int) []byte {
	t.Helper()
	tcp := &layers.TCP{
		SrcPort: layers.TCPPort(src.Port()), DstPort: layers.TCPPort(dst.Port()),
		Seq: 7, SYN: true, Window: 1000,
	}
	var ip gopacket.NetworkLayer
	if src.Addr().Is4() {
		ip = &layers.IPv4{Version: 4, TTL: ttl, Protocol: layers.IPProtocolTCP, SrcIP: src.Addr().AsSlice(), DstIP: dst.Addr().AsSlice()}
	} else {
		ip = &layers.IPv6{Version: 6, HopLimit: ttl, NextHeader: layers.IPProtocolTCP, SrcIP: src.Addr().AsSlice(), DstIP: dst.Addr().AsSlice()}
	}
	require.NoError(t, tcp.SetNetworkLayerForChecksum(ip))
	b := gopacket.NewSerializeBuffer()
	opts := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	require.NoError(t, gopacket.SerializeLayers(b, opts, ip.(gopacket.SerializableLayer), tcp, gopacket.Payload(make([]byte, payload))))
	return b.Bytes()
}

var (
	from4 = netip.MustParseAddrPort("10.1.0.2:4000")
	to4   = netip.MustParseAddrPort("198.18.0.1:80")
	from6 = netip.MustParseAddrPort("[2001:db8:1::2]:4000")
	to6   = netip.MustParseAddrPort("[2001:db8::1]:80")
	hop4  = netip.MustParseAddr("198.19.0.1")
	hop6  = netip.MustParseAddr("2001:db8:ffff::1")
)

// Lowering the TTL by n gives the packet that was built with the lower TTL.
func TestLowerTTL(t *testing.T) {
	for _, end := range [][2]netip.AddrPort{{from4, to4}, {from6, to6}} {
		for from := 2; from < 256; from++ {
			for _, n := range []int{1, from / 2, from - 1} {
				b := segment(t, end[0], end[1], uint8(from), 0)
				lowerTTL(b, n)
				require.Equal(t, segment(t, end[0], end[1], uint8(from-n), 0), b, "%d less %d", from, n)
			}
		}
	}
}

// ICMP errors parse, with right checksums and no longer than allowed.
func TestICMPErrors(t *testing.T) {
	for _, test := range []struct {
		about []byte
		from  netip.Addr
		most  int
	}{
		{segment(t, from4, to4, 1, 0), hop4, 576},
		{segment(t, from4, to4, 1, 1400), hop4, 576},
		{segment(t, from6, to6, 1, 0), hop6, 1280},
		{segment(t, from6, to6, 1, 1400), hop6, 1280},
	} {
		p := icmpError(packetTooBig, test.from, test.about, 1234)
		require.LessOrEqual(t, len(p.b), test.most)
		require.Equal(t, source(test.about), destination(p.b))
		first := gopacket.Decoder(layers.LayerTypeIPv4)
		if is6(test.about) {
			first = layers.LayerTypeIPv6
		}
		parsed := gopacket.NewPacket(p.b, first, gopacket.Default)
		require.Nil(t, parsed.ErrorLayer())
		requireChecksum(t, p.b)
		proto, payload := transport(p.b)
		require.Equal(t, test.about[:len(quoted(proto, payload))], quoted(proto, payload))
		require.Nil(t, icmpError(timeExceeded, test.from, p.b, 0), "no error about an error")
	}
}

func requireChecksum(t *testing.T, b []byte) {
	t.Helper()
	proto, payload := transport(b)
	if is6(b) {
		require.Zero(t, fold(sum(payload, sum(b[8:40], uint32(len(payload))+uint32(proto)))))
		return
	}
	require.Zero(t, fold(sum(b[:20], 0)), "header")
	require.Zero(t, fold(sum(payload, 0)), "ICMP")
}

func TestTraceLines(t *testing.T) {
	syn := segment(t, from4, to4, 1, 5)
	require.Equal(t, "10.1.0.2:4000 > 198.18.0.1:80 S seq 7 ack 0 len 5", describe(syn, len(syn)))
	syn6 := segment(t, from6, to6, 1, 0)
	require.Equal(t, "[2001:db8:1::2]:4000 > [2001:db8::1]:80 S seq 7 ack 0 len 0", describe(syn6, len(syn6)))
	icmp := icmpError(timeExceeded, hop4, syn, 0).b
	require.Equal(t, "198.19.0.1 > 10.1.0.2 ICMP time exceeded (code 0) about [10.1.0.2:4000 > 198.18.0.1:80 S seq 7 ack 0 len 5]",
		describe(icmp, len(icmp)))
}

// Whatever a raw socket in a host sends, reading it does not panic, and the
// errors about it are well-formed.
func FuzzPacket(f *testing.F) {
	f.Add(segment(f, from4, to4, 1, 5))
	f.Add(segment(f, from6, to6, 1, 5))
	f.Add(icmpError(timeExceeded, hop4, segment(f, from4, to4, 1, 5), 0).b)
	f.Add(icmpError(timeExceeded, hop6, segment(f, from6, to6, 1, 5), 0).b)
	f.Fuzz(func(t *testing.T, b []byte) {
		describe(b[:min(len(b), headerBytes)], len(b))
		if !valid(b) {
			return
		}
		hop := hop4
		if is6(b) {
			hop = hop6
		}
		if ttl(b) > 1 {
			lowerTTL(b, ttl(b)-1)
			require.Equal(t, 1, ttl(b))
		}
		if p := icmpError(timeExceeded, hop, b, 0); p != nil {
			require.True(t, valid(p.b))
			require.Equal(t, source(b), destination(p.b))
			requireChecksum(t, p.b)
			describe(p.b, len(p.b))
		}
	})
}
