package nat

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Two hosts behind one NAT, at their public endpoints (RFC 5382 REQ-8).
func TestHairpin(t *testing.T) {
	for _, h := range []Hairpinning{NoHairpin, HairpinExternal, HairpinInternal} {
		t.Run(h.String(), func(t *testing.T) {
			s := newSim(t, Config{Hairpin: h, Assignment: Sequential, First: 40000, RewriteSeq: true})
			nx, ny := s.connect(x1, rp), s.connect(y1, rp)
			syn := pkt{src: y1, dst: nx, flags: "S", seq: 70}
			require.Empty(t, s.out(syn), "X has not sent to Y's public endpoint: APDF")
			g := s.out(pkt{src: x1, dst: ny, flags: "S", seq: 50})
			if h == NoHairpin {
				require.Empty(t, g)
				return
			}
			require.Len(t, g, 1, "Y has, so X's SYN comes in")
			require.Equal(t, y1, g[0].dst)
			g = s.out(syn)
			require.Len(t, g, 1)
			require.Equal(t, Inside, g[0].Dir)
			require.Equal(t, x1, g[0].dst)
			want := map[Hairpinning]string{HairpinExternal: ny, HairpinInternal: y1}[h]
			require.Equal(t, want, g[0].src)

			if h == HairpinExternal {
				g = s.out(pkt{src: x1, dst: ny, flags: "SA", seq: 50, ack: g[0].tcp.Seq + 1})
				require.Len(t, g, 1)
				require.Equal(t, []string{nx, y1}, []string{g[0].src, g[0].dst})
				require.EqualValues(t, 71, g[0].tcp.Ack, "both offsets are undone")
				g = s.decodeAll(s.Outbound(timeExceeded(t, y1, nx, g[0].Data), s.now))
				require.Len(t, g, 1, "and so does an error about it")
				require.Equal(t, []string{n1 + ":0", "10.0.0.2:0"}, []string{g[0].src, g[0].dst})
			}
		})
	}
}

func TestHairpinAnswer(t *testing.T) {
	for _, a := range []Answer{RST, PortUnreachable} {
		for _, delay := range []time.Duration{0, time.Second} {
			s := newSim(t, Config{Hairpin: HairpinExternal, Unsolicited: a, AnswerAfter: delay})
			s.connect(x1, rp)
			g := s.out(pkt{src: x1, dst: n1 + ":7000", flags: "S", seq: 70})
			require.Len(t, g, 1)
			require.Equal(t, Inside, g[0].Dir, "the answer comes back in")
			require.Equal(t, delay, g[0].Delay)
			require.True(t, s.Due(g[0].Packet))
		}
	}
}

func TestNoHairpinMakesNoMapping(t *testing.T) {
	s := newSim(t, Config{})
	require.Empty(t, s.out(pkt{src: x1, dst: n1 + ":7000", flags: "S"}))
	require.Empty(t, s.Mappings(s.now))
}
