package nat

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestUnsolicited(t *testing.T) {
	for _, tc := range []struct {
		answer     Answer
		icmp, icm6 string
	}{
		{Silence, "", ""},
		{RST, "", ""},
		{PortUnreachable, "DestinationUnreachable(Port)", "DestinationUnreachable(PortUnreachable)"},
		{HostUnreachable, "DestinationUnreachable(Host)", "DestinationUnreachable(AddressUnreachable)"},
		{AdminProhibited, "DestinationUnreachable(CommAdminProhibited)", "DestinationUnreachable(AdminProhibited)"},
	} {
		for _, delay := range []time.Duration{0, time.Second} {
			t.Run(fmt.Sprint(tc.answer, delay), func(t *testing.T) {
				s := newSim(t, Config{Unsolicited: tc.answer, AnswerAfter: delay})
				for dst, icmp := range map[string]string{n1 + ":7000": tc.icmp, x6: tc.icm6} {
					src := rp
					if dst == x6 {
						src = r6p
					}
					syn := pkt{src: src, dst: dst, flags: "S", seq: 70, data: "fast open"}
					g := s.in(syn)
					if tc.answer == Silence {
						require.Empty(t, g)
						continue
					}
					require.Len(t, g, 1)
					require.Equal(t, Outside, g[0].Dir)
					require.Equal(t, delay, g[0].Delay)
					require.True(t, s.Due(g[0].Packet))
					require.Equal(t, icmp, g[0].icmp)
					if tc.answer == RST {
						require.Equal(t, [2]string{dst, src}, [2]string{g[0].src, g[0].dst})
						require.True(t, g[0].tcp.RST && g[0].tcp.ACK && !g[0].tcp.SYN)
						require.EqualValues(t, 70+1+len(syn.data), g[0].tcp.Ack, "RFC 9293 section 3.10.7.1")
						require.Zero(t, g[0].tcp.Seq)
						continue
					}
					require.Equal(t, syn.bytes(t), g[0].inner, "the packet that it is about, as it was")
				}
				require.Empty(t, s.Mappings(s.now))
			})
		}
	}
}

func TestOnlySYNsAreAnswered(t *testing.T) {
	s := newSim(t, Config{Unsolicited: RST})
	for _, flags := range []string{"A", "R", "SA", "FA", ""} {
		require.Empty(t, s.in(pkt{src: rp, dst: n1 + ":7000", flags: flags}), flags)
	}
}

func TestUnreachableIsShort(t *testing.T) {
	s := newSim(t, Config{Unsolicited: PortUnreachable})
	big := string(make([]byte, 1400))
	require.Len(t, s.in(pkt{src: rp, dst: n1 + ":7000", flags: "S", data: big})[0].Data, 576)
	require.Len(t, s.in(pkt{src: r6p, dst: x6, flags: "S", data: big})[0].Data, 1280)
}

// RFC 5382 REQ-4: no answer for 6 s, and none at all if in the meantime a SYN
// for the connection goes out.
func TestREQ4(t *testing.T) {
	c, ok := Profile("eim-req4")
	require.True(t, ok)
	for _, v6 := range []bool{false, true} {
		inside, remote, public := x1, rp, n1+":5000"
		if v6 {
			inside, remote, public = x6, r6p, x6
		}
		syn := pkt{src: remote, dst: public, flags: "S", seq: 70}
		s := newSim(t, c)
		first := s.in(syn)
		require.Len(t, first, 1)
		require.Equal(t, 6*time.Second, first[0].Delay)
		s.now = s.now.Add(time.Second)
		require.Empty(t, s.in(syn), "one answer for all retransmissions")
		s.now = s.now.Add(5 * time.Second)
		require.True(t, s.Due(first[0].Packet))

		second := s.in(syn)
		require.Len(t, second, 1, "then the next may wait")
		s.now = s.now.Add(time.Second)
		s.connect(inside, remote)
		require.False(t, s.Due(second[0].Packet), "called off")
		require.True(t, s.knocks(remote, public), "the retransmission opens simultaneously")

		s.Reboot(s.now)
		third := s.in(syn)
		require.Len(t, third, 1)
		s.connect(y1, remote4(remote))
		s.Reboot(s.now)
		require.False(t, s.Due(third[0].Packet), "lost in a reboot")
	}
}

// remote4 gives IPv6 tests a destination for a SYN that has nothing to do with
// theirs.
func remote4(remote string) string {
	if remote == r6p {
		return rp
	}
	return sp
}

func TestHeldAnswersAreBounded(t *testing.T) {
	s := newSim(t, Config{Unsolicited: RST, AnswerAfter: time.Second})
	answers := 0
	for i := range maxHeld + 10 {
		raw := pkt{src: rp, dst: n1 + ":7000", flags: "S"}.bytes(t)
		be.PutUint16(raw[20:], uint16(i+1))
		answers += len(s.Inbound(raw, s.now))
	}
	require.Equal(t, maxHeld, answers)
}
