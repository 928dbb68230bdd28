package portmap

import (
	"encoding/binary"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt/natlab"
)

var local = netip.MustParseAddrPort("0.0.0.0:40000")

// TestHostileAnswers: what a gateway may say that is no mapping. Nothing is
// left with it either: where it has made one, it is told to remove it.
func TestHostileAnswers(t *testing.T) {
	natlab.Need(t)
	mapped4 := func(b ...byte) []byte { return append([]byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff}, b...) }
	t.Parallel()
	cases := []struct {
		name     string
		protocol Protocol
		answer   func(q []byte) [][]byte
		want     string
		removed  bool
	}{
		{"wrong nonce", PCP, pcpGateway(put(24, 1, 2, 3, 4)), "no answer", false},
		{"another port", PCP, pcpGateway(put(40, 0x12, 0x34)), "no answer", false},
		{"for UDP", PCP, pcpGateway(put(36, 17)), "no answer", false},
		{"another version", PCP, pcpGateway(put(0, 3)), "no answer", false},
		{"a request", PCP, pcpGateway(put(1, pcpMap)), "no answer", false},
		{"another opcode", PCP, pcpGateway(put(1, pcpResponse|2)), "no answer", false},
		{"cut short", PCP, pcpGateway(func(r []byte) [][]byte { return [][]byte{r[:40], r[:3], {}} }), "no answer", false},
		{"not authorized", PCP, pcpGateway(put(3, 2)), "not authorized", false},
		{"an unknown result", PCP, pcpGateway(put(3, 200)), "result 200", false},
		{"no life", PCP, pcpGateway(put(4, 0, 0, 0, 0)), "keeps a mapping for 0s", true},
		{"a short life", PCP, pcpGateway(put(4, 0, 0, 0, 1)), "keeps a mapping for 1s", true},
		{"port 80", PCP, pcpGateway(put(42, 0, 80)), "gave port 80", true},
		{"port 0", PCP, pcpGateway(put(42, 0, 0)), "gave port 0", true},
		{"loopback", PCP, pcpGateway(put(44, mapped4(127, 0, 0, 1)...)), "at 127.0.0.1", true},
		{"multicast", PCP, pcpGateway(put(44, mapped4(224, 0, 0, 1)...)), "at 224.0.0.1", true},
		{"broadcast", PCP, pcpGateway(put(44, mapped4(255, 255, 255, 255)...)), "at 255.255.255.255", true},
		{"nowhere", PCP, pcpGateway(put(44, mapped4(0, 0, 0, 0)...)), "at 0.0.0.0", true},
		{"an IPv6 address", PCP, pcpGateway(put(44, 0x20, 1, 0xd, 0xb8)), "says that it is at 2001:db8", true},
		{"a flood", PCP, func([]byte) [][]byte { return make([][]byte, 100) }, "too many answers", false},
		{"only NAT-PMP", PCP, pmpGateway(nil), "speaks NAT-PMP, not PCP", false},

		{"another port", NATPMP, pmpGateway(put(8, 0x12, 0x34)), "no answer", false},
		{"for UDP", NATPMP, pmpGateway(put(1, pmpResponse|1)), "no answer", false},
		{"a request", NATPMP, pmpGateway(put(1, pmpMapTCP)), "no answer", false},
		{"cut short", NATPMP, pmpGateway(func(r []byte) [][]byte { return [][]byte{r[:15], r[:7], {}} }), "no answer", false},
		{"no resources", NATPMP, pmpGateway(put(2, 0, 4)), "no resources", false},
		{"an unknown result", NATPMP, pmpGateway(put(2, 9, 9)), "result 2313", false},
		{"no life", NATPMP, pmpGateway(put(12, 0, 0, 0, 0)), "keeps a mapping for 0s", true},
		{"port 80", NATPMP, pmpGateway(put(10, 0, 80)), "gave port 80", true},
		{"only PCP", NATPMP, pcpGateway(nil), "unsupported version", false},
		{"silence", NATPMP, silent, "no answer", false},
	}
	// All at once: most of them only wait.
	fakes, errs := make([]*fake, len(cases)), make([]error, len(cases))
	var asking sync.WaitGroup
	for i, tt := range cases {
		fakes[i] = newFake(t, serverPort, tt.answer)
		asking.Go(func() { _, errs[i] = mapOnly(t.Context(), Config{Gateway: fakes[i].addr}, local, tt.protocol) })
	}
	asking.Wait()
	for i, tt := range cases {
		t.Run(tt.protocol.String()+" "+tt.name, func(t *testing.T) {
			require.ErrorContains(t, errs[i], tt.want)
			require.ErrorIs(t, errs[i], ErrNone)
			removed := false
			for len(fakes[i].asks) > 0 {
				removed = removed || life(<-fakes[i].asks) == 0
			}
			require.Equal(t, tt.removed, removed)
		})
	}
}

// life is the lifetime that a mapping request asks for, and -1 of others.
func life(q []byte) int64 {
	switch {
	case len(q) == pcpMapSize && q[0] == pcpVersion && q[1] == pcpMap:
		return int64(binary.BigEndian.Uint32(q[4:]))
	case len(q) == 12 && q[0] == pmpVersion && q[1] == pmpMapTCP:
		return int64(binary.BigEndian.Uint32(q[8:]))
	}
	return -1
}

// TestNobody: where no gateway is, no protocol takes long.
func TestNobody(t *testing.T) {
	natlab.Need(t)
	t.Parallel()
	_, err := Map(t.Context(), Config{Gateway: newAddr()}, local)
	require.ErrorIs(t, err, ErrNone)
	require.ErrorContains(t, err, "pcp: ")
	require.ErrorContains(t, err, "nat-pmp: ")
	require.ErrorContains(t, err, "upnp: no answer")
	_, err = Map(t.Context(), Config{}, netip.MustParseAddrPort("[fe80::1]:40000"))
	require.ErrorContains(t, err, "no mapping for")
}

// TestStrayAnswers: wrong answers do not keep the right one away, wherever they
// come from.
func TestStrayAnswers(t *testing.T) {
	natlab.Need(t)
	t.Parallel()
	other, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	defer other.Close()
	f := newFake(t, serverPort, nil)
	f.set(pcpGateway(func(r []byte) [][]byte {
		lie := append([]byte(nil), r...)
		lie[24] ^= 1 // the nonce
		lie[43] ^= 1 // the port
		return [][]byte{lie, r[:20], {0, 1, 2}, r}
	}))
	m, err := mapOnly(t.Context(), Config{Gateway: f.addr}, local, PCP)
	require.NoError(t, err)
	defer m.Close()
	require.Equal(t, "203.0.113.7:40000", m.External().String())
}

// TestAnotherSource: who answers in the gateway's stead is not heard, even if
// it knows all that the gateway knows.
func TestAnotherSource(t *testing.T) {
	natlab.Need(t)
	t.Parallel()
	impostor, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(newAddr(), serverPort)))
	require.NoError(t, err)
	defer impostor.Close()
	gateway, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(newAddr(), serverPort)))
	require.NoError(t, err)
	heard := make(chan int, 1)
	go func() { // until the gateway's socket is closed
		buf, n := make([]byte, 2048), 0
		defer func() { heard <- n }()
		for {
			k, src, err := gateway.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			n++
			for _, b := range pcpGateway(nil)(buf[:k]) {
				impostor.WriteToUDPAddrPort(b, src)
			}
		}
	}()
	addr := gateway.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
	_, err = mapOnly(t.Context(), Config{Gateway: addr}, local, PCP)
	require.ErrorContains(t, err, "no answer")
	gateway.Close()
	require.Equal(t, sends, <-heard, "as often as is asked")
}

// TestRenewal: a mapping is asked for again by itself, with what it had, and
// tells when it has become another; Close removes it.
func TestRenewal(t *testing.T) {
	natlab.Need(t)
	for protocol, gateway := range map[Protocol]func(func([]byte) [][]byte) func([]byte) [][]byte{PCP: pcpGateway, NATPMP: pmpGateway} {
		t.Run(protocol.String(), func(t *testing.T) {
			t.Parallel()
			port := map[Protocol]int{PCP: 42, NATPMP: 10}[protocol]
			f := newFake(t, serverPort, gateway(put(port, 0xc0, 0x01)))
			m, err := mapOnly(t.Context(), Config{Gateway: f.addr, Lifetime: 2 * time.Second}, local, protocol)
			require.NoError(t, err)
			require.Equal(t, uint16(0xc001), m.External().Port())
			for n := 0; n < 2; { // the first, and one after half of its life
				if q := <-f.asks; life(q) == 2 {
					n++
					asked := map[Protocol]int{PCP: 42, NATPMP: 6}[protocol]
					want := map[int]uint16{1: 40000, 2: 0xc001}[n]
					require.Equal(t, want, binary.BigEndian.Uint16(q[asked:]), "what is asked for")
				}
			}
			select {
			case <-m.Changed():
				require.Fail(t, "nothing has changed")
			default:
			}
			f.set(gateway(put(port, 0xc0, 0x02)))
			<-m.Changed()
			require.Equal(t, uint16(0xc002), m.External().Port())

			require.NoError(t, m.Close())
			var last []byte
			for len(f.asks) > 0 {
				last = <-f.asks
			}
			require.Zero(t, life(last), "removed: %x", last)
			require.ErrorIs(t, m.Refresh(t.Context()), net.ErrClosed)
		})
	}
}

// TestGatewayRestarts: an epoch that goes back says that the mapping was lost
// and made anew, even if it is the same.
func TestGatewayRestarts(t *testing.T) {
	natlab.Need(t)
	for protocol, gateway := range map[Protocol]func(func([]byte) [][]byte) func([]byte) [][]byte{PCP: pcpGateway, NATPMP: pmpGateway} {
		t.Run(protocol.String(), func(t *testing.T) {
			t.Parallel()
			f := newFake(t, serverPort, gateway(nil))
			m, err := mapOnly(t.Context(), Config{Gateway: f.addr}, local, protocol)
			require.NoError(t, err)
			defer m.Close()
			require.NoError(t, m.Refresh(t.Context()))
			require.Empty(t, m.Changed())
			f.set(gateway(put(map[Protocol]int{PCP: 8, NATPMP: 4}[protocol], 0, 0, 0, 5)))
			require.NoError(t, m.Refresh(t.Context()))
			require.Len(t, m.Changed(), 1)
		})
	}
}

// TestGatewayGoesAndComes: a mapping that is not renewed is none when its
// lease is over, and one again when the gateway is back.
func TestGatewayGoesAndComes(t *testing.T) {
	natlab.Need(t)
	t.Parallel()
	f := newFake(t, serverPort, pcpGateway(nil))
	m, err := mapOnly(t.Context(), Config{Gateway: f.addr, Lifetime: time.Second}, local, PCP)
	require.NoError(t, err)
	f.conn.Close()
	<-m.Changed()
	require.False(t, m.External().IsValid())
	f.open(t, serverPort)
	<-m.Changed()
	require.Equal(t, "203.0.113.7:40000", m.External().String())
	f.set(silent)
	require.NoError(t, m.Close(), "also where the gateway says nothing to it")
}

// TestAbsurdLifetime: a promise to keep a mapping for 136 years is not relied on.
func TestAbsurdLifetime(t *testing.T) {
	natlab.Need(t)
	t.Parallel()
	f := newFake(t, serverPort, pcpGateway(put(4, 0xff, 0xff, 0xff, 0xff)))
	m, err := mapOnly(t.Context(), Config{Gateway: f.addr, Lifetime: 2 * time.Second}, local, PCP)
	require.NoError(t, err)
	defer m.Close()
	for n := 0; n < 2; {
		if life(<-f.asks) == 2 {
			n++
		}
	}
}

func TestEpoch(t *testing.T) {
	start := time.Now()
	for _, tt := range []struct {
		name  string
		value uint32
		after time.Duration
		want  bool
	}{
		{"on time", 1300, 300 * time.Second, false},
		{"a second back, of rounding", 999, 0, false},
		{"two seconds back", 998, 0, true},
		{"from the beginning", 3, 300 * time.Second, true},
		{"slow, but not slower than clocks are", 1283, 300 * time.Second, false},
		{"half as fast", 1150, 300 * time.Second, true},
		{"twice as fast", 1600, 300 * time.Second, true},
		{"the end of the count", 1<<32 - 1, time.Second, true},
	} {
		var e epoch
		require.False(t, e.restarted(1000, start), "the first is only noted")
		require.Equal(t, tt.want, e.restarted(tt.value, start.Add(tt.after)), tt.name)
	}
}

func TestSeconds(t *testing.T) {
	require.Equal(t, uint32(0), seconds(0))
	require.Equal(t, uint32(1), seconds(time.Millisecond), "not 0, which removes")
	require.Equal(t, uint32(600), seconds(10*time.Minute))
	require.Equal(t, ^uint32(0), seconds(1<<62))
}

func FuzzPCP(f *testing.F) {
	f.Add(pcpRequest(pcpAnnounce, netip.IPv6LinkLocalAllNodes(), 0))
	for _, b := range pcpGateway(nil)(pcpMapRequest(netip.MustParseAddr("10.0.0.2"), nonce{1}, wish{40000, netip.AddrPort{}, time.Hour})) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parsePCP(b)
		if err != nil {
			return
		}
		if r.opcode == pcpMap && (len(b) < pcpMapSize || !r.external.Addr().IsValid()) {
			t.Fatalf("%x is %+v", b, r)
		}
		if r.lifetime < 0 || b[0] != pcpVersion {
			t.Fatalf("%x is %+v", b, r)
		}
	})
}

func FuzzNATPMP(f *testing.F) {
	f.Add([]byte{0, 128, 0, 0, 0, 0, 0, 9, 203, 0, 113, 7})
	for _, b := range pmpGateway(nil)(pmpMapRequest(wish{40000, netip.AddrPort{}, time.Hour})) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parsePMP(b)
		if err != nil {
			return
		}
		if r.result == 0 && r.opcode == pmpAddress && !r.address.Is4() || r.lifetime < 0 || !isPMP(b) {
			t.Fatalf("%x is %+v", b, r)
		}
	})
}
