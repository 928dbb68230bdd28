package nat

import (
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/stretchr/testify/require"
)

// timeExceeded builds a time-exceeded about b; ports of the endpoints are ignored.
func timeExceeded(t testing.TB, src, dst string, b []byte) []byte {
	t.Helper()
	from, to := netip.MustParseAddrPort(src).Addr(), netip.MustParseAddrPort(dst).Addr()
	if from.Is6() {
		ip, network := ipLayer(from, to, layers.IPProtocolICMPv6)
		icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeTimeExceeded, 0)}
		require.NoError(t, icmp.SetNetworkLayerForChecksum(network))
		return serialize(t, ip, icmp, gopacket.Payload(append(make([]byte, 4), b...)))
	}
	ip, _ := ipLayer(from, to, layers.IPProtocolICMPv4)
	icmp := &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeTimeExceeded, 0)}
	return serialize(t, ip, icmp, gopacket.Payload(b))
}

func echo(t testing.TB, src, dst string, typ uint8, id uint16) []byte {
	t.Helper()
	from, to := netip.MustParseAddr(src), netip.MustParseAddr(dst)
	if from.Is6() {
		ip, network := ipLayer(from, to, layers.IPProtocolICMPv6)
		icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(typ, 0)}
		require.NoError(t, icmp.SetNetworkLayerForChecksum(network))
		return serialize(t, ip, icmp, &layers.ICMPv6Echo{Identifier: id, SeqNumber: 1}, gopacket.Payload("ping"))
	}
	ip, _ := ipLayer(from, to, layers.IPProtocolICMPv4)
	icmp := &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(typ, 0), Id: id, Seq: 1}
	return serialize(t, ip, icmp, gopacket.Payload("ping"))
}

const router = "192.0.2.1:0"

func TestErrorIn(t *testing.T) {
	for _, p := range []pkt{
		{src: x1, dst: rp, flags: "S", seq: 1000},
		{src: x1, dst: rp, data: "odd"},
	} {
		for _, cut := range []int{0, 28, 32, 36} { // 28: all that RFC 792 asks a router to return
			s := newSim(t, Config{Assignment: Random, RewriteSeq: true})
			sent := s.sends(p)
			about := append([]byte(nil), sent.Data...)
			if cut > 0 && cut < len(about) {
				about = about[:cut]
			}
			g := s.decodeAll(s.Inbound(timeExceeded(t, router, sent.src, about), s.now))
			require.Len(t, g, 1)
			require.Equal(t, Inside, g[0].Dir)
			require.Equal(t, "10.0.0.2:0", g[0].dst)
			require.Equal(t, p.bytes(t)[:len(about)], g[0].inner, "the inside gets back what it sent, to the checksum")
		}
	}
}

func TestErrorOut(t *testing.T) {
	s := newSim(t, Config{Assignment: Random, RewriteSeq: true})
	public := s.establish(x1, rp)
	for _, cut := range []int{0, 28, 36} {
		p := pkt{src: rp, dst: public, flags: "A", seq: 5001, ack: s.isn + 1, data: "data"}.bytes(t)
		got := s.decodeAll(s.Inbound(append([]byte(nil), p...), s.now))
		require.Len(t, got, 1)
		about := got[0].Data
		want := p
		if cut > 0 {
			about, want = about[:cut], p[:cut]
		}
		g := s.decodeAll(s.Outbound(timeExceeded(t, "10.9.9.9:0", rp, about), s.now))
		require.Len(t, g, 1)
		require.Equal(t, n1+":0", g[0].src, "RFC 5508 REQ-5: not the inside router's own address")
		require.Equal(t, want, g[0].inner)
	}
}

func TestError6(t *testing.T) {
	s := newSim(t, Config{})
	p := pkt{src: x6, dst: r6p, flags: "S", seq: 1000}
	s.sends(p)
	b := timeExceeded(t, "[2001:db8::99]:0", x6, p.bytes(t))
	g := s.decodeAll(s.Inbound(append([]byte(nil), b...), s.now))
	require.Len(t, g, 1)
	require.Equal(t, b, g[0].Data)
	back := pkt{src: r6p, dst: x6, flags: "SA"}
	require.Len(t, s.Outbound(timeExceeded(t, "[fd00::1]:0", r6p, back.bytes(t)), s.now), 1)
	require.Empty(t, s.Inbound(timeExceeded(t, "[2001:db8::99]:0", x6, pkt{src: x6, dst: s6p, flags: "S"}.bytes(t)), s.now),
		"about nothing we know")
}

func TestErrorsAboutNothing(t *testing.T) {
	s := newSim(t, Config{Filtering: Open})
	public := s.connect(x1, rp)
	about := pkt{src: public, dst: rp, flags: "S", seq: s.isn}.bytes(t)
	other := pkt{src: public, dst: sp, flags: "S", seq: s.isn}.bytes(t)
	require.Empty(t, s.Inbound(timeExceeded(t, router, public, other), s.now), "no such session")
	require.Empty(t, s.Inbound(timeExceeded(t, router, public, about[:27]), s.now), "cut too short")
	require.Empty(t, s.Inbound(timeExceeded(t, router, public, timeExceeded(t, n1+":0", rp, about)), s.now), "about an error")
	bad := timeExceeded(t, router, public, about)
	bad[30]++
	require.Empty(t, s.Inbound(bad, s.now), "RFC 5508 REQ-3: a damaged error")
	require.Empty(t, s.Outbound(timeExceeded(t, "10.0.0.2:0", rp, about), s.now), "no such session")
	require.Len(t, s.Inbound(timeExceeded(t, router, public, about), s.now), 1)
}

func TestEstablishedOutlivesErrors(t *testing.T) {
	s := newSim(t, Config{OnICMP: Reaction{Close: true, Swallow: true}})
	public := s.establish(x1, rp)
	about := pkt{src: public, dst: rp, flags: "A", seq: s.isn + 1}.bytes(t)
	require.Len(t, s.Inbound(timeExceeded(t, router, public, about), s.now), 1)
	require.Equal(t, []State{Established}, s.states(), "RFC 5382 REQ-10")
}

func TestEcho(t *testing.T) {
	s := newSim(t, Config{})
	send := func(b []byte) []got { t.Helper(); return s.decodeAll(s.Outbound(b, s.now)) }
	recv := func(b []byte) []got { t.Helper(); return s.decodeAll(s.Inbound(b, s.now)) }
	const r = "198.51.100.1"
	first := send(echo(t, "10.0.0.2", r, layers.ICMPv4TypeEchoRequest, 5000))
	require.Len(t, first, 1)
	require.Equal(t, n1+":5000", first[0].src)
	second := send(echo(t, "10.0.0.3", r, layers.ICMPv4TypeEchoRequest, 5000))
	require.Len(t, second, 1)
	require.NotEqual(t, n1+":5000", second[0].src, "the identifier is taken")
	g := recv(echo(t, r, n1, layers.ICMPv4TypeEchoReply, uint16(port(second[0].src))))
	require.Len(t, g, 1)
	require.Equal(t, "10.0.0.3:5000", g[0].dst)
	g = recv(timeExceeded(t, router, n1+":0", second[0].Data))
	require.Len(t, g, 1, "traceroute")
	require.Equal(t, "10.0.0.3:0", g[0].dst)

	require.Empty(t, recv(echo(t, r, n1, layers.ICMPv4TypeEchoRequest, 5000)), "nobody pings the inside")
	require.Empty(t, recv(echo(t, "198.51.100.2", n1, layers.ICMPv4TypeEchoReply, 5000)))
	require.Empty(t, send(echo(t, "10.0.0.2", r, layers.ICMPv4TypeEchoReply, 5000)))
	require.Empty(t, send(echo(t, "10.0.0.2", r, layers.ICMPv4TypeTimestampRequest, 5000)))

	require.Len(t, send(echo(t, "fd00::2", "2001:db8::1", layers.ICMPv6TypeEchoRequest, 1)), 1)
	require.Len(t, recv(echo(t, "2001:db8::1", "fd00::2", layers.ICMPv6TypeEchoReply, 1)), 1)
	require.Empty(t, recv(echo(t, "2001:db8::1", "fd00::2", layers.ICMPv6TypeEchoRequest, 1)))
	require.Empty(t, send(echo(t, "fd00::2", "2001:db8::1", layers.ICMPv6TypeNeighborSolicitation, 1)))
}
