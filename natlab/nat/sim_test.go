package nat

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/stretchr/testify/require"
)

// The cast: X and Y inside, N the public addresses, R and S outside.
const (
	x1 = "10.0.0.2:5000"
	y1 = "10.0.0.3:5000"
	n1 = "203.0.113.1"
	n2 = "203.0.113.2"
	rp = "198.51.100.1:80"
	rq = "198.51.100.1:81"
	sp = "198.51.100.2:80"

	x6  = "[fd00::2]:5000"
	r6p = "[2001:db8::1]:80"
	r6q = "[2001:db8::1]:81"
	s6p = "[2001:db8::2]:80"
)

// sim drives one NAT under a clock that the test moves.
type sim struct {
	*NAT
	t   testing.TB
	now time.Time
	isn uint32 // of the last connect, as the inside knows it
	pub uint32 // and as the outside does
}

func newSim(t testing.TB, c Config, public ...string) *sim {
	t.Helper()
	require.NoError(t, c.Validate())
	if len(public) == 0 {
		public = []string{n1}
	}
	var addrs []netip.Addr
	for _, a := range public {
		addrs = append(addrs, netip.MustParseAddr(a))
	}
	return &sim{NAT: New(c, addrs, 1), t: t, now: time.Unix(1e9, 0), isn: 1000}
}

// pkt describes a packet to build. Without flags it is UDP.
type pkt struct {
	src, dst string
	flags    string // of "SARF"
	seq, ack uint32
	data     string
	options  []layers.TCPOption
}

func (p pkt) bytes(t testing.TB) []byte {
	t.Helper()
	src, dst := netip.MustParseAddrPort(p.src), netip.MustParseAddrPort(p.dst)
	ip, network := ipLayer(src.Addr(), dst.Addr(), layers.IPProtocolTCP)
	payload := gopacket.Payload(p.data)
	if p.flags == "" {
		ip, network = ipLayer(src.Addr(), dst.Addr(), layers.IPProtocolUDP)
		udp := &layers.UDP{SrcPort: layers.UDPPort(src.Port()), DstPort: layers.UDPPort(dst.Port())}
		require.NoError(t, udp.SetNetworkLayerForChecksum(network))
		return serialize(t, ip, udp, payload)
	}
	tcp := &layers.TCP{
		SrcPort: layers.TCPPort(src.Port()), DstPort: layers.TCPPort(dst.Port()),
		Seq: p.seq, Ack: p.ack, Window: 1000, Options: p.options,
		SYN: strings.Contains(p.flags, "S"), ACK: strings.Contains(p.flags, "A"),
		RST: strings.Contains(p.flags, "R"), FIN: strings.Contains(p.flags, "F"),
	}
	require.NoError(t, tcp.SetNetworkLayerForChecksum(network))
	return serialize(t, ip, tcp, payload)
}

func ipLayer(src, dst netip.Addr, proto layers.IPProtocol) (gopacket.SerializableLayer, gopacket.NetworkLayer) {
	if src.Is6() {
		l := &layers.IPv6{Version: 6, HopLimit: 60, NextHeader: proto, SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
		return l, l
	}
	l := &layers.IPv4{Version: 4, TTL: 60, Protocol: proto, Flags: layers.IPv4DontFragment,
		SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
	return l, l
}

func serialize(t testing.TB, l ...gopacket.SerializableLayer) []byte {
	t.Helper()
	b := gopacket.NewSerializeBuffer()
	require.NoError(t, gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, l...))
	return append([]byte(nil), b.Bytes()...)
}

// got is a packet that the NAT sent, decoded by somebody else's code.
type got struct {
	Packet
	src, dst string
	tcp      *layers.TCP
	icmp     string // its type and code
	inner    []byte // what an ICMP error is about
}

// decode checks every checksum on the way.
func decode(t testing.TB, p Packet) got {
	t.Helper()
	first := layers.LayerTypeIPv4
	if p.Data[0]>>4 == 6 {
		first = layers.LayerTypeIPv6
	}
	d := gopacket.NewPacket(p.Data, first, gopacket.Default)
	require.Nil(t, d.ErrorLayer(), "the packet must parse")
	for _, l := range d.Layers() {
		if l, ok := l.(interface {
			SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
		}); ok {
			require.NoError(t, l.SetNetworkLayerForChecksum(d.NetworkLayer()))
		}
	}
	err, bad := d.VerifyChecksums()
	require.NoError(t, err)
	require.Empty(t, bad, "every checksum must be right after a rewrite")
	g := got{Packet: p}
	var sport, dport uint16
	for _, l := range d.Layers() {
		switch l := l.(type) {
		case *layers.TCP:
			g.tcp, sport, dport = l, uint16(l.SrcPort), uint16(l.DstPort)
		case *layers.UDP:
			sport, dport = uint16(l.SrcPort), uint16(l.DstPort)
		case *layers.ICMPv4:
			g.icmp, g.inner = l.TypeCode.String(), l.Payload
			sport, dport = l.Id, l.Id
		case *layers.ICMPv6:
			g.icmp, g.inner = l.TypeCode.String(), l.Payload
			if len(g.inner) > 4 {
				g.inner = g.inner[4:] // gopacket leaves the unused word in
			}
		}
	}
	nl := d.NetworkLayer().NetworkFlow()
	src, _ := netip.AddrFromSlice(nl.Src().Raw())
	dst, _ := netip.AddrFromSlice(nl.Dst().Raw())
	g.src = netip.AddrPortFrom(src, sport).String()
	g.dst = netip.AddrPortFrom(dst, dport).String()
	return g
}

func (s *sim) decodeAll(list []Packet) []got {
	s.t.Helper()
	var all []got
	for _, p := range list {
		all = append(all, decode(s.t, p))
	}
	return all
}

// out and in pass a packet through and decode what comes of it.
func (s *sim) out(p pkt) []got {
	s.t.Helper()
	return s.decodeAll(s.Outbound(p.bytes(s.t), s.now))
}

func (s *sim) in(p pkt) []got {
	s.t.Helper()
	return s.decodeAll(s.Inbound(p.bytes(s.t), s.now))
}

// sends requires that p leaves, and returns what left.
func (s *sim) sends(p pkt) got {
	s.t.Helper()
	g := s.out(p)
	require.Len(s.t, g, 1, "the packet must leave")
	require.Equal(s.t, Outside, g[0].Dir)
	return g[0]
}

// receives requires that p comes in at the endpoint it says, and returns what came.
func (s *sim) receives(p pkt, inside string) got {
	s.t.Helper()
	g := s.in(p)
	require.Len(s.t, g, 1, "the packet must come in")
	require.Equal(s.t, Inside, g[0].Dir)
	require.Equal(s.t, inside, g[0].dst)
	return g[0]
}

// connect sends the SYN of a new connection and returns its public endpoint.
func (s *sim) connect(src, dst string) string {
	s.t.Helper()
	s.isn += 100_000
	g := s.sends(pkt{src: src, dst: dst, flags: "S", seq: s.isn})
	s.pub = g.tcp.Seq
	return g.src
}

// establish completes a handshake from the inside. The inside's next sequence
// number is s.isn+1, the outside's 5001.
func (s *sim) establish(src, dst string) string {
	s.t.Helper()
	public := s.connect(src, dst)
	s.receives(pkt{src: dst, dst: public, flags: "SA", seq: 5000, ack: s.pub + 1}, src)
	s.sends(pkt{src: src, dst: dst, flags: "A", seq: s.isn + 1, ack: 5001})
	return public
}

// knocks reports whether a SYN from outside gets in.
func (s *sim) knocks(src, dst string) bool {
	s.t.Helper()
	g := s.in(pkt{src: src, dst: dst, flags: "S", seq: 77})
	return len(g) == 1 && g[0].Dir == Inside
}

func (s *sim) states() (list []State) {
	for _, m := range s.Mappings(s.now) {
		list = append(list, m.State)
	}
	return list
}

func port(endpoint string) int { return int(netip.MustParseAddrPort(endpoint).Port()) }
