package nat

import (
	"testing"
	"time"

	"github.com/gopacket/gopacket/layers"
	"github.com/stretchr/testify/require"
)

func TestDroppedUnheard(t *testing.T) {
	v4 := pkt{src: x1, dst: rp, flags: "S", seq: 1}.bytes(t)
	v6 := pkt{src: x6, dst: r6p, flags: "S", seq: 1}.bytes(t)
	edit := func(b []byte, off int, v ...byte) []byte {
		b = append([]byte(nil), b...)
		copy(b[off:], v)
		return b
	}
	for name, b := range map[string][]byte{
		"empty":                nil,
		"no version":           {0},
		"version 5":            edit(v4, 0, 0x55),
		"IPv4 header cut":      v4[:19],
		"IPv6 header cut":      v6[:39],
		"header length 16":     edit(v4, 0, 0x44),
		"header beyond end":    edit(v4, 0, 0x4f),
		"length beyond end":    edit(v4, 2, 0xff, 0xff),
		"length in header":     edit(v4, 2, 0, 19),
		"length 0":             edit(v4, 2, 0, 0),
		"IPv6 length beyond":   edit(v6, 4, 0xff, 0xff),
		"more fragments":       edit(v4, 6, 0x20, 0),
		"fragment offset":      edit(v4, 6, 0, 1),
		"other protocol":       edit(v4, 9, 47),
		"ICMPv6 in IPv4":       edit(v4, 9, protoICMPv6),
		"ICMP in IPv6":         edit(v6, 6, protoICMP),
		"IPv6 fragment header": edit(v6, 6, 44),
		"transport cut":        edit(v4, 2, 0, 27),
		"TCP cut":              edit(v4, 2, 0, 39),
		"data offset 16":       edit(v4, 32, 0x40),
		"data offset beyond":   edit(v4, 32, 0xf0),
		"SYN and RST":          edit(v4, 33, flagSYN|flagRST),
		"SYN and FIN":          edit(v4, 33, flagSYN|flagFIN),
		"source port 0":        edit(v4, 20, 0, 0),
		"destination port 0":   edit(v4, 22, 0, 0),
	} {
		s := newSim(t, Config{Filtering: Open})
		require.Empty(t, s.Outbound(b, s.now), name)
		require.Empty(t, s.Inbound(b, s.now), name)
	}
	s := newSim(t, Config{})
	require.Len(t, s.Outbound(append(v4[:len(v4):len(v4)], "padding"...), s.now), 1)
	g := s.decodeAll(s.Outbound(append(v4[:len(v4):len(v4)], "padding"...), s.now))
	require.Len(t, g[0].Data, len(v4), "what is beyond the stated length stays here")
}

func TestIPOptions(t *testing.T) {
	s := newSim(t, Config{Assignment: Random})
	plain := pkt{src: x1, dst: rp, flags: "S", seq: 1}.bytes(t)
	b := append(append([]byte(nil), plain[:20]...), 1, 1, 1, 0) // three no-operations and the end
	b = append(b, plain[20:]...)
	b[0] = 0x46
	be.PutUint16(b[2:], uint16(len(b)))
	be.PutUint16(b[10:], 0)
	be.PutUint16(b[10:], ^fold(sum(b[:24])))
	require.Len(t, s.decodeAll(s.Outbound(b, s.now)), 1)
}

func TestUDPChecksums(t *testing.T) {
	s := newSim(t, Config{Assignment: Random})
	b := pkt{src: x1, dst: rp, data: "none"}.bytes(t)
	copy(b[26:], []byte{0, 0})
	p := s.Outbound(b, s.now)
	require.Len(t, p, 1)
	require.Zero(t, be.Uint16(p[0].Data[26:]), "sent without stays without (RFC 768)")

	// Every checksum, so also the one that comes out as 0 and is sent as 0xffff.
	zero := false
	for i := range 1 << 16 {
		b := pkt{src: x1, dst: rp, data: "12"}
		raw := b.bytes(t)
		be.PutUint16(raw[28:], uint16(i))
		fresh(raw)
		p := s.Outbound(raw, s.now)
		got := be.Uint16(p[0].Data[26:])
		fresh(p[0].Data)
		require.Equal(t, be.Uint16(p[0].Data[26:]), got)
		zero = zero || got == 0xffff
	}
	require.True(t, zero)
}

// fresh computes a UDP checksum anew.
func fresh(b []byte) {
	b[26], b[27] = 0, 0
	c := ^fold(sum(b[12:20]) + protoUDP + uint32(len(b)-20) + sum(b[20:]))
	if c == 0 {
		c = 0xffff
	}
	be.PutUint16(b[26:], c)
}

func TestRewriteSeq(t *testing.T) {
	s := newSim(t, Config{RewriteSeq: true, Strict: true})
	first := s.sends(pkt{src: x1, dst: rp, flags: "S", seq: 1000})
	offset := first.tcp.Seq - 1000
	require.NotZero(t, offset)
	require.Equal(t, first.tcp.Seq, s.sends(pkt{src: x1, dst: rp, flags: "S", seq: 1000}).tcp.Seq,
		"a retransmission looks the same")
	in := s.receives(pkt{src: rp, dst: first.src, flags: "SA", seq: 5000, ack: 1001 + offset}, x1)
	require.EqualValues(t, 1001, in.tcp.Ack)
	require.EqualValues(t, 5000, in.tcp.Seq, "the outside's numbers stay")
	out := s.sends(pkt{src: x1, dst: rp, flags: "A", seq: 1001, ack: 5001})
	require.Equal(t, 1001+offset, out.tcp.Seq)
	require.EqualValues(t, 5001, out.tcp.Ack)

	for pad := range 4 { // SACK blocks at every alignment
		var o []layers.TCPOption
		for range pad {
			o = append(o, layers.TCPOption{OptionType: layers.TCPOptionKindNop})
		}
		data := make([]byte, 16)
		for i, edge := range []uint32{1100, 1200, 1300, 1400} {
			be.PutUint32(data[4*i:], edge+offset)
		}
		o = append(o, layers.TCPOption{OptionType: layers.TCPOptionKindSACK, OptionLength: 18, OptionData: data})
		in = s.receives(pkt{src: rp, dst: first.src, flags: "A", seq: 5001, ack: 1001 + offset, options: o}, x1)
		sack := in.tcp.Options[pad].OptionData
		for i, edge := range []uint32{1100, 1200, 1300, 1400} {
			require.Equal(t, edge, be.Uint32(sack[4*i:]))
		}
	}
	again := s.sends(pkt{src: x1, dst: rp, flags: "S", seq: 2000})
	require.NotEqual(t, offset, again.tcp.Seq-2000, "another connection, another offset")
}

func TestHostileOptions(t *testing.T) {
	s := newSim(t, Config{RewriteSeq: true})
	public := s.connect(x1, rp)
	for _, options := range [][]byte{{5, 0}, {5, 1}, {5, 200}, {5, 40, 1, 1}, {1, 1, 1, 5}, {8}, {5, 7, 1, 2, 3, 4, 5}, {0, 5, 10}} {
		b := pkt{src: rp, dst: public, flags: "A"}.bytes(t)
		b = append(b, options...)
		for len(b)%4 != 0 {
			b = append(b, 5)
		}
		b[32] = byte((len(b) - 20) / 4 << 4)
		be.PutUint16(b[2:], uint16(len(b)))
		require.Len(t, s.Inbound(b, s.now), 1)
	}
}

func BenchmarkEstablished(b *testing.B) {
	for _, bb := range []struct {
		name     string
		config   Config
		src, dst string
	}{
		{"IPv4", Config{Assignment: Random}, x1, rp},
		{"IPv4-seq-rewrite-strict", Config{Assignment: Random, RewriteSeq: true, Strict: true}, x1, rp},
		{"IPv6", Config{}, x6, r6p},
	} {
		b.Run(bb.name, func(b *testing.B) {
			s := newSim(b, bb.config)
			public := s.establish(bb.src, bb.dst)
			segment := pkt{src: bb.src, dst: bb.dst, flags: "A", seq: s.isn + 1, ack: 5001, data: string(make([]byte, 1400))}.bytes(b)
			ack := pkt{src: bb.dst, dst: public, flags: "A", seq: 5001, ack: s.isn + 1}.bytes(b)
			out, in := make([]byte, len(segment)), make([]byte, len(ack))
			b.ReportAllocs()
			for b.Loop() { // one segment out and one acknowledgement in
				s.now = s.now.Add(time.Microsecond)
				copy(out, segment)
				copy(in, ack)
				if len(s.Outbound(out, s.now)) != 1 || len(s.Inbound(in, s.now)) != 1 {
					b.Fatal("dropped")
				}
			}
		})
	}
}

func TestEstablishedPathAllocatesNothing(t *testing.T) {
	for _, c := range []Config{{}, {Assignment: Random, RewriteSeq: true, Strict: true}} {
		s := newSim(t, c)
		public := s.establish(x1, rp)
		out := pkt{src: x1, dst: rp, flags: "A", seq: s.isn + 1, ack: 5001}.bytes(t)
		in := pkt{src: rp, dst: public, flags: "A", seq: 5001, ack: s.isn + 1}.bytes(t)
		buf := make([]byte, len(out))
		require.Zero(t, testing.AllocsPerRun(100, func() {
			copy(buf, out)
			s.Outbound(buf, s.now)
			copy(buf, in)
			s.Inbound(buf, s.now)
		}))
	}
}
