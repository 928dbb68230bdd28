package sock

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSYNOf(t *testing.T) {
	far := listen(t, Loopback(0))
	require.NoError(t, SaveSYN(far))
	c, err := ours.Dial(t.Context(), netip.AddrPort{}, AddrPort(far.Addr()), 9)
	require.NoError(t, err)
	defer c.Close()
	accepted, err := far.AcceptTCP()
	require.NoError(t, err)
	defer accepted.Close()
	s, ok := SYNOf(accepted)
	require.True(t, ok)
	require.EqualValues(t, 9, s.TTL, "loopback has no router")
	require.NotZero(t, s.Seq)
	_, ok = SYNOf(accepted)
	require.False(t, ok, "the kernel gives it once")
	_, ok = SYNOf(c)
	require.False(t, ok, "it is our own")
}

func FuzzParseSYN(f *testing.F) {
	f.Add(make([]byte, 40))
	v6 := make([]byte, 60)
	v6[0], v6[6] = 0x60, 6
	f.Add(v6)
	f.Add([]byte{0x4f, 19: 0})
	f.Fuzz(func(t *testing.T, b []byte) { parseSYN(b) })
}

func TestParseRoutes(t *testing.T) {
	head := "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\n"
	for in, want := range map[string]netip.Addr{
		head + "eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\n":                                                      netip.MustParseAddr("192.168.1.1"),
		head + "eth0\t0001A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\neth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\n": netip.MustParseAddr("192.168.1.1"),
		head + "tun0\t00000000\t00000000\t0001\t0\t0\t0\t00000000\n":                                                        {}, // a device, not a router
		head + "eth0\t00000000\tzz\t0003\t0\t0\t100\t00000000\n":                                                            {},
		"": {},
	} {
		require.Equal(t, want, parseRoutes(strings.NewReader(in)))
	}
	ours.Gateway() // whatever it is
}

func TestParseRoutes6(t *testing.T) {
	const (
		zero  = "00000000000000000000000000000000 00 00000000000000000000000000000000 00 "
		local = "fe800000000000000000000000000001"
		here  = "20010db8000100000000000000000001"
	)
	line := func(to, hop, metric, device string) string {
		return to + hop + " " + metric + " 00000001 00000000 00000003 " + device + "\n"
	}
	for in, want := range map[string]string{
		line(zero, local, "00000400", "eth0"):                                      "fe80::1%eth0",
		line(zero, here, "00000400", "eth0"):                                       "2001:db8:1::1",
		line(zero, here, "00000400", "eth0") + line(zero, local, "00000064", "up"): "fe80::1%up", // of the better route
		line(zero, strings.Repeat("0", 32), "00000400", "tun0"):                    "",           // a device, not a router
		line(strings.Replace(zero, " 00 ", " 40 ", 1), local, "00000400", "eth0"):  "",           // to one network
		line(zero, "zz", "00000400", "eth0"):                                       "",
		"":                                                                         "",
	} {
		ip, _ := netip.ParseAddr(want)
		require.Equal(t, ip, parseRoutes6(strings.NewReader(in)), in)
	}
	ours.Gateway6() // whatever it is
}

func TestSource(t *testing.T) {
	require.Equal(t, netip.MustParseAddr("127.0.0.1"), ours.Source(netip.MustParseAddr("127.0.0.9")))
	require.False(t, ours.Source(netip.Addr{}).IsValid())
}
