package nat

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestHandshakeFromTheInside(t *testing.T) {
	for _, remote := range [][2]string{{x1, rp}, {x6, r6p}} {
		s := newSim(t, Config{Strict: true})
		public := s.connect(remote[0], remote[1])
		require.Equal(t, []State{HalfOpen}, s.states())
		s.receives(pkt{src: remote[1], dst: public, flags: "SA", seq: 5000, ack: s.isn + 1}, remote[0])
		require.Equal(t, []State{HalfOpen}, s.states())
		s.sends(pkt{src: remote[0], dst: remote[1], flags: "A", seq: s.isn + 1, ack: 5001})
		require.Equal(t, []State{Established}, s.states())
		s.receives(pkt{src: remote[1], dst: public, flags: "FA", seq: 5001, ack: s.isn + 1}, remote[0])
		require.Equal(t, []State{Established}, s.states(), "half-closed is still in use")
		s.sends(pkt{src: remote[0], dst: remote[1], flags: "FA", seq: s.isn + 1, ack: 5002})
		require.Equal(t, []State{Closing}, s.states())
		s.receives(pkt{src: remote[1], dst: public, flags: "A", seq: 5002, ack: s.isn + 2}, remote[0])
		require.False(t, s.knocks(remote[1], public), "a closing connection is no hole")
	}
}

func TestHandshakeFromTheOutside(t *testing.T) {
	s := newSim(t, Config{Filtering: EIF, Strict: true})
	public := s.connect(x1, rp)
	s.receives(pkt{src: sp, dst: public, flags: "S", seq: 70}, x1)
	s.sends(pkt{src: x1, dst: sp, flags: "SA", seq: 90, ack: 71})
	s.receives(pkt{src: sp, dst: public, flags: "A", seq: 71, ack: 91}, x1)
	require.Equal(t, []State{HalfOpen, Established}, s.states())
}

// Simultaneous open (RFC 9293 section 3.5, RFC 5382 REQ-2), as two kept sockets do it.
func TestSimultaneousOpen(t *testing.T) {
	for _, strict := range []bool{false, true} {
		s := newSim(t, Config{Strict: strict, RefuseSYNACKOut: true})
		public := s.connect(x1, rp)
		s.receives(pkt{src: rp, dst: public, flags: "S", seq: 70}, x1)
		s.sends(pkt{src: x1, dst: rp, flags: "SA", seq: s.isn, ack: 71})
		require.Equal(t, []State{HalfOpen}, s.states())
		s.receives(pkt{src: rp, dst: public, flags: "SA", seq: 70, ack: s.isn + 1}, x1)
		require.Equal(t, []State{Established}, s.states())
	}
}

func TestRefuseSYNIn(t *testing.T) {
	s := newSim(t, Config{RefuseSYNIn: true, Filtering: EIF, Unsolicited: RST})
	public := s.connect(x1, rp)
	g := s.in(pkt{src: rp, dst: public, flags: "S", seq: 70})
	require.Len(t, g, 1)
	require.Equal(t, Outside, g[0].Dir, "refused SYNs get the answer of unsolicited ones")
	require.True(t, g[0].tcp.RST)
	s.receives(pkt{src: rp, dst: public, flags: "SA", seq: 70, ack: s.isn + 1}, x1)
	require.True(t, s.knocks(sp, public), "only after a SYN to the same endpoint")
}

func TestRefuseSYNACKOut(t *testing.T) {
	for _, refuse := range []bool{false, true} {
		s := newSim(t, Config{RefuseSYNACKOut: refuse})
		s.connect(x1, rp)
		require.Equal(t, refuse, len(s.out(pkt{src: x1, dst: rp, flags: "SA", seq: s.isn, ack: 71})) == 0)
	}
}

func TestInboundErrorWhileHalfOpen(t *testing.T) {
	for _, r := range []Reaction{{}, {Close: true}, {Swallow: true}, {Close: true, Swallow: true}} {
		for _, icmp := range []bool{false, true} {
			c := Config{OnRST: r}
			if icmp {
				c = Config{OnICMP: r}
			}
			s := newSim(t, c)
			public := s.connect(x1, rp)
			sent := pkt{src: public, dst: rp, flags: "S", seq: s.isn}.bytes(t)
			b := pkt{src: rp, dst: public, flags: "RA", ack: s.isn + 1}.bytes(t)
			if icmp {
				b = timeExceeded(t, "192.0.2.1:0", public, sent)
			}
			g := s.decodeAll(s.Inbound(b, s.now))
			require.Equal(t, r.Swallow, len(g) == 0, "%+v icmp=%v", r, icmp)
			require.Equal(t, !r.Close, s.knocks(rp, public), "%+v icmp=%v", r, icmp)
		}
	}
}

func TestRSTWhileEstablished(t *testing.T) {
	for _, flags := range []string{"R", "RA"} {
		s := newSim(t, Config{OnRST: Reaction{Swallow: true}})
		public := s.establish(x1, rp)
		s.receives(pkt{src: rp, dst: public, flags: flags, seq: 5001}, x1)
		require.Equal(t, []State{Closing}, s.states())
		require.False(t, s.knocks(rp, public))
		require.Equal(t, public, s.connect(x1, rp), "a new SYN from the inside opens it again")
		require.Equal(t, []State{HalfOpen}, s.states())
		require.True(t, s.knocks(rp, public))
	}
}

func TestOutboundRSTShutsTheHole(t *testing.T) {
	s := newSim(t, Config{})
	public := s.connect(x1, rp)
	s.sends(pkt{src: x1, dst: rp, flags: "R", seq: s.isn + 1})
	require.False(t, s.knocks(rp, public), "traversal rule 1: an RST releases the hole")
}

func TestClosingAndTheFilter(t *testing.T) {
	for _, f := range []FilteringBehavior{APDF, ADF, EIF, Open} {
		s := newSim(t, Config{Filtering: f})
		public := s.connect(x1, rp)
		s.sends(pkt{src: x1, dst: rp, flags: "R", seq: s.isn + 1})
		require.Equal(t, f >= EIF, s.knocks(rp, public), "a new connection as if there had been none")
	}
}

// Traversal rule 3: a listener that answers in the place of a closed connecting
// socket has another sequence number, and a strict tracker drops its SYN-ACK.
func TestStrictSYNACK(t *testing.T) {
	for _, strict := range []bool{false, true} {
		s := newSim(t, Config{Strict: strict})
		public := s.connect(x1, rp)
		require.Equal(t, strict, len(s.in(pkt{src: rp, dst: public, flags: "SA", seq: 70, ack: s.isn + 2})) == 0,
			"acknowledges another SYN")
		require.Equal(t, strict, len(s.out(pkt{src: x1, dst: rp, flags: "SA", seq: s.isn, ack: 71})) == 0 && strict,
			"answers no SYN")
		s = newSim(t, Config{Strict: strict})
		public = s.connect(x1, rp)
		s.receives(pkt{src: rp, dst: public, flags: "S", seq: 70}, x1)
		require.Equal(t, strict, len(s.out(pkt{src: x1, dst: rp, flags: "SA", seq: s.isn + 9, ack: 71})) == 0)
		require.Equal(t, strict, len(s.in(pkt{src: rp, dst: public, flags: "SA", seq: 71, ack: s.isn + 1})) == 0)
		s.sends(pkt{src: x1, dst: rp, flags: "SA", seq: s.isn, ack: 71})
	}
}

func TestStrictRST(t *testing.T) {
	s := newSim(t, Config{Strict: true, OnRST: Reaction{Close: true}})
	public := s.connect(x1, rp)
	require.Empty(t, s.in(pkt{src: rp, dst: public, flags: "RA", ack: s.isn}), "acknowledges another SYN")
	require.Empty(t, s.in(pkt{src: rp, dst: public, flags: "R", seq: 1}), "acknowledges none")
	s.receives(pkt{src: rp, dst: public, flags: "RA", ack: s.isn + 1}, x1)
	require.Empty(t, s.Mappings(s.now))

	public = s.establish(x1, rp)
	require.Empty(t, s.in(pkt{src: rp, dst: public, flags: "R", seq: 5000}), "before the window")
	require.Empty(t, s.in(pkt{src: rp, dst: public, flags: "R", seq: 1 << 30}), "beyond it")
	require.Empty(t, s.out(pkt{src: x1, dst: rp, flags: "R", seq: 1}))
	require.Empty(t, s.in(pkt{src: rp, dst: public, flags: "S", seq: 1}), "a SYN within a connection")
	require.Equal(t, []State{Established}, s.states())
	s.receives(pkt{src: rp, dst: public, flags: "R", seq: 5001}, x1)
	require.Equal(t, []State{Closing}, s.states())
}

func TestTimeouts(t *testing.T) {
	c := Config{Timeouts: Timeouts{
		HalfOpen: time.Second, Established: time.Minute, Transitory: 2 * time.Second, UDP: 3 * time.Second}}
	s := newSim(t, c)
	alive := func(after time.Duration) bool { return len(s.NAT.Mappings(s.now.Add(after))) == 1 }
	check := func(want time.Duration) {
		t.Helper()
		// Mappings removes what has expired, so the later question comes last.
		require.True(t, alive(want-1))
		require.False(t, alive(want))
	}
	s.connect(x1, rp)
	check(time.Second)
	s.establish(x1, rp)
	check(time.Minute)
	public := s.establish(x1, rp)
	s.sends(pkt{src: x1, dst: rp, flags: "R", seq: s.isn + 1})
	check(2 * time.Second)
	s.sends(pkt{src: x1, dst: rp})
	check(3 * time.Second)

	s.establish(x1, rp)
	for range 5 {
		s.now = s.now.Add(time.Minute - 1)
		s.receives(pkt{src: rp, dst: public, flags: "A", seq: 5001, ack: s.isn + 1}, x1)
	}
	check(time.Minute)

	d := Timeouts{}.orDefault()
	require.GreaterOrEqual(t, d.Established, 2*time.Hour+4*time.Minute, "RFC 5382 REQ-5")
	require.GreaterOrEqual(t, d.HalfOpen, 4*time.Minute, "RFC 5382 REQ-5")
	require.GreaterOrEqual(t, d.UDP, 2*time.Minute, "RFC 4787 REQ-5")
	require.GreaterOrEqual(t, d.Echo, time.Minute, "RFC 5508 REQ-1")
}

func TestReboot(t *testing.T) {
	for _, pickUp := range []bool{false, true} {
		s := newSim(t, Config{PickUp: pickUp, Strict: true})
		public := s.establish(x1, rp)
		s.Reboot(s.now)
		require.Empty(t, s.Mappings(s.now))
		require.Empty(t, s.in(pkt{src: rp, dst: public, flags: "A", seq: 5001, ack: s.isn + 1}))
		for _, flags := range []string{"R", "SA", "FA"} {
			require.Empty(t, s.out(pkt{src: x1, dst: rp, flags: flags, seq: s.isn + 1, ack: 5001}), flags)
		}
		g := s.out(pkt{src: x1, dst: rp, flags: "A", seq: s.isn + 1, ack: 5001, data: "on"})
		require.Equal(t, pickUp, len(g) == 1)
		if pickUp {
			require.Equal(t, public, g[0].src, "a preserved port lets the connection survive")
			s.receives(pkt{src: rp, dst: public, flags: "A", seq: 5001, ack: s.isn + 3}, x1)
			require.Equal(t, []State{Established}, s.states())
		}
	}
	s := newSim(t, Config{Mapping: APDM, Assignment: Sequential, First: 40000})
	s.connect(x1, rp)
	s.connect(x1, rq)
	s.Reboot(s.now)
	require.Equal(t, 40000, port(s.connect(x1, sp)), "it begins again")
}

func TestAge(t *testing.T) {
	s := newSim(t, Config{Mapping: APDM, Filtering: APDF, Strict: true})
	s.establish(x1, rp)
	hole := s.connect(x1, rq)
	require.Len(t, s.states(), 2)
	s.Age(s.now)
	require.Equal(t, []State{Established}, s.states(), "what stands stays")
	require.Empty(t, s.in(pkt{src: rq, dst: hole, flags: "S"}), "the hole is gone")
}

func TestTableIsBounded(t *testing.T) {
	s := newSim(t, Config{Filtering: EIF, Timeouts: Timeouts{HalfOpen: time.Second}})
	public := s.connect(x1, rp)
	syn := pkt{src: rp, dst: public, flags: "S"}.bytes(t)
	flood := func(n int) (in int) {
		b := make([]byte, len(syn))
		for i := range n {
			copy(b, syn) // checksums are none of the filter's business
			be.PutUint32(b[12:], 11<<24|uint32(i))
			in += len(s.Inbound(b, s.now))
		}
		return in
	}
	require.Equal(t, maxSessions-1, flood(maxSessions+100), "the table has a limit")
	s.now = s.now.Add(time.Second)
	s.connect(x1, sp)
	require.Len(t, s.NAT.in, 1, "expired sessions make room")
}
