package probe

import (
	"encoding/hex"
	"io"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/pion/stun/v3"
	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt/internal/sock"
)

func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.NewReplacer(" ", "", "\n", "", "\t", "").Replace(s))
	if err != nil {
		panic(err)
	}
	return b
}

// A standard client's smallest request, byte by byte, and the answer to it.
func TestBindingGolden(t *testing.T) {
	s := &Server{Software: "test", Public: map[netip.Addr]netip.Addr{
		netip.MustParseAddr("10.0.0.1"): netip.MustParseAddr("192.0.2.1"),
		netip.MustParseAddr("10.0.0.2"): netip.MustParseAddr("192.0.2.2"),
	}}
	for _, a := range []string{"10.0.0.1:3478", "10.0.0.1:3479", "10.0.0.2:3478", "10.0.0.2:3479"} {
		s.Alternates = append(s.Alternates, netip.MustParseAddrPort(a))
	}
	request := unhex(`0001 0000 2112A442 000102030405060708090A0B`)
	answer := unhex(`0101 0038 2112A442 000102030405060708090A0B
		0020 0008 0001 BC52 EA12D545
		0001 0008 0001 9D40 CB007107
		802C 0008 0001 0D97 C0000202
		802B 0008 0001 0D96 C0000201
		8022 0004 74657374`)
	c := &script{in: request, local: "10.0.0.1:3478", remote: "203.0.113.7:40256"}
	s.ServeConn(t.Context(), c)
	require.Equal(t, hex.EncodeToString(answer), hex.EncodeToString(c.out))
}

// A whole connection as another implementation's bytes: the sample response of
// RFC 5769 section 2.2 and 2.3 must read as what it says.
func TestRFC5769(t *testing.T) {
	v4 := unhex(`0101003c 2112a442 b7e7a701 bc34d686 fa87dfae 8022000b 74657374 20766563 746f7220
		00200008 0001a147 e112a643 00080014 2b91f599 fd9e90c3 8c7489f9 2af9ba53 f06be7d7
		80280004 c07d4c96`)
	v6 := unhex(`01010048 2112a442 b7e7a701 bc34d686 fa87dfae 8022000b 74657374 20766563 746f7220
		00200014 0002a147 0113a9fa a5d3f179 bc25f4b5 bed2b9d9 00080014 a382954e 4be67bf1 1784c97c
		8292c275 bfe3ed41 80280004 c8fb0b4c`)
	var m stun.Message
	for want, raw := range map[string][]byte{"192.0.2.1:32853": v4, "[2001:db8:1234:5678:11:2233:4455:6677]:32853": v6} {
		require.NoError(t, readMessage(&script{in: raw}, &m))
		require.NoError(t, stun.Fingerprint.Check(&m))
		a, err := parseAnswer(&m)
		require.NoError(t, err)
		require.Equal(t, want, a.mapped.String())
	}
	// The sample request of section 2.1 is ICE's, which has attributes that a
	// plain server must say it does not know.
	request := unhex(`00010058 2112a442 b7e7a701 bc34d686 fa87dfae 80220010 5354554e 20746573 7420636c 69656e74
		00240004 6e0001ff 80290008 932ff9b1 51263b36 00060009 6576746a 3a683676 59202020
		00080014 9aeaa70c bfd8cb56 781ef2b5 b2d3f249 c1b571a2 80280004 e57a3bcf`)
	c := &script{in: request, local: "10.0.0.1:3478", remote: "192.0.2.1:32853"}
	new(Server).ServeConn(t.Context(), c)
	require.NoError(t, readMessage(&script{in: c.out}, &m))
	require.Equal(t, stun.BindingError, m.Type)
	require.NoError(t, stun.Fingerprint.Check(&m), "FINGERPRINT answers FINGERPRINT")
	var unknown stun.UnknownAttributes
	require.NoError(t, unknown.GetFrom(&m))
	require.Equal(t, stun.UnknownAttributes{stun.AttrPriority}, unknown)
}

// talk returns what the server of one endpoint answers to the messages.
func talk(t *testing.T, s *Server, messages ...*stun.Message) []*stun.Message {
	t.Helper()
	c := &script{local: "127.0.0.1:3478", remote: "127.0.0.1:40000"}
	for _, m := range messages {
		c.in = append(c.in, m.Raw...)
	}
	s.ServeConn(t.Context(), c)
	require.True(t, c.closed, "the server owns the connection")
	out := &script{in: c.out}
	var answers []*stun.Message
	for {
		m := new(stun.Message)
		err := readMessage(out, m)
		if err == io.EOF {
			return answers
		}
		require.NoError(t, err)
		answers = append(answers, m)
	}
}

func code(t *testing.T, m *stun.Message) stun.ErrorCode {
	t.Helper()
	var e stun.ErrorCodeAttribute
	require.NoError(t, e.GetFrom(m))
	return e.Code
}

func TestServerAnswers(t *testing.T) {
	ok := stun.MustBuild(stun.TransactionID, stun.BindingRequest)
	raw := func(t stun.AttrType, v ...byte) stun.Setter { return stun.RawAttribute{Type: t, Value: v} }
	build := func(s ...stun.Setter) *stun.Message {
		return stun.MustBuild(append([]stun.Setter{stun.TransactionID, stun.BindingRequest}, s...)...)
	}
	t.Run("optional attributes are ignored", func(t *testing.T) {
		a := talk(t, new(Server), build(raw(0xC999, 1, 2, 3), raw(stun.AttrUsername, 'x')), ok)
		require.Len(t, a, 2)
		require.Equal(t, stun.BindingSuccess, a[0].Type)
		require.Equal(t, ok.TransactionID, a[1].TransactionID)
		require.False(t, a[0].Contains(stun.AttrOtherAddress), "there is no other")
	})
	t.Run("indications and other methods are discarded", func(t *testing.T) {
		a := talk(t, new(Server),
			stun.MustBuild(stun.TransactionID, stun.NewType(stun.MethodBinding, stun.ClassIndication)),
			stun.MustBuild(stun.TransactionID, stun.NewType(stun.MethodAllocate, stun.ClassRequest)), ok)
		require.Len(t, a, 1)
		require.Equal(t, ok.TransactionID, a[0].TransactionID)
	})
	t.Run("required attributes are named", func(t *testing.T) {
		a := talk(t, new(Server), build(raw(0x7001), raw(0x7002)), ok)
		require.Len(t, a, 2)
		require.Equal(t, stun.CodeUnknownAttribute, code(t, a[0]))
		var u stun.UnknownAttributes
		require.NoError(t, u.GetFrom(a[0]))
		require.Equal(t, stun.UnknownAttributes{0x7001, 0x7002}, u)
	})
	t.Run("no other address", func(t *testing.T) {
		a := talk(t, new(Server), build(ask{change: changeIP}), ok)
		require.Len(t, a, 2)
		require.Equal(t, stun.CodeUnknownAttribute, code(t, a[0]))
	})
	t.Run("malformed attributes end it", func(t *testing.T) {
		for _, bad := range []stun.Setter{
			raw(stun.AttrChangeRequest, 1), raw(attrDialPort, 1), raw(attrDialPort, 0, 80, 0, 0),
		} {
			a := talk(t, new(Server), build(bad), ok)
			require.Len(t, a, 1)
			require.Equal(t, stun.CodeBadRequest, code(t, a[0]))
		}
	})
	t.Run("a wrong fingerprint ends it", func(t *testing.T) {
		require.Empty(t, talk(t, new(Server), build(raw(stun.AttrFingerprint, 1, 2, 3, 4)), ok))
	})
	t.Run("close", func(t *testing.T) {
		require.Len(t, talk(t, new(Server), build(ask{close: true}), ok), 1)
	})
	t.Run("what is not STUN ends it", func(t *testing.T) {
		cookie := build()
		cookie.Raw[4] = 0
		odd := build()
		odd.Raw[3] = 1
		long := build()
		long.Raw[2] = 0xff
		for _, m := range []*stun.Message{cookie, odd, long} {
			require.Empty(t, talk(t, new(Server), m, ok))
		}
	})
}

func TestOthers(t *testing.T) {
	for _, tt := range []struct {
		name, local, alternates, other string
	}{
		{"alone", "10.0.0.1:1", "10.0.0.1:1", "invalid AddrPort"},
		{"two ports", "10.0.0.1:1", "10.0.0.1:1 10.0.0.1:2", "10.0.0.1:2"},
		{"two addresses", "10.0.0.1:1", "10.0.0.1:1 10.0.0.2:1", "10.0.0.2:1"},
		{"complete", "10.0.0.2:1", "10.0.0.1:1 10.0.0.1:2 10.0.0.2:1 10.0.0.2:2", "10.0.0.1:2"},
		{"three of four", "10.0.0.1:1", "10.0.0.1:1 10.0.0.1:2 10.0.0.2:1", "10.0.0.2:2"},
		{"everywhere", "10.0.0.1:1", "0.0.0.0:1 0.0.0.0:2", "10.0.0.1:2"},
		{"other family", "10.0.0.1:1", "[2001:db8::1]:1 [2001:db8::1]:2", "invalid AddrPort"},
		{"neither half in common", "10.0.0.1:1", "10.0.0.1:1 10.0.0.2:2", "invalid AddrPort"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := new(Server)
			for _, a := range strings.Fields(tt.alternates) {
				s.Alternates = append(s.Alternates, netip.MustParseAddrPort(a))
			}
			require.Equal(t, tt.other, s.Other(netip.MustParseAddrPort(tt.local)).String())
		})
	}
}

// Dial backs come from exactly the endpoint that was asked for, go only to the
// asker, and say what they met.
func TestDialBack(t *testing.T) {
	at := start(t, &Server{MessageRate: -1}, "127.0.0.1:0", "127.0.0.1:1", "127.0.0.2:0", "127.0.0.2:1")
	ln, err := new(sock.Net).Listen(t.Context(), sock.Loopback(0))
	require.NoError(t, err)
	defer ln.Close()
	mine := sock.AddrPort(ln.Addr())
	c, err := new(sock.Net).Dial(t.Context(), mine, at[0], 0)
	require.NoError(t, err)
	defer sock.Abort(c)

	visits := visitsTo(ln)
	for change, from := range map[byte]netip.AddrPort{
		changePort:            at[1],
		changeIP:              at[2],
		changeIP | changePort: at[3],
	} {
		a, err := exchange(t.Context(), c, ask{change: change})
		require.NoError(t, err)
		require.Equal(t, connected, a.dialled.outcome)
		require.Equal(t, dialBackVisit{from, a.dialled.token}, <-visits)
	}

	// From a port of our choice, and from the endpoint of the connection.
	free, err := new(sock.Net).Listen(t.Context(), netip.MustParseAddrPort("127.0.0.1:0"))
	require.NoError(t, err)
	from := sock.AddrPort(free.Addr())
	free.Close()
	for _, q := range []ask{{from: from.Port()}, {from: from.Port(), change: changeIP}} {
		if q.change != 0 {
			from = netip.AddrPortFrom(at[2].Addr(), from.Port())
		}
		a, err := exchange(t.Context(), c, q)
		require.NoError(t, err)
		require.Equal(t, connected, a.dialled.outcome)
		require.Equal(t, dialBackVisit{from, a.dialled.token}, <-visits)
	}
	second := dial(t, at[0])
	a, err := exchange(t.Context(), second, ask{port: mine.Port()})
	require.NoError(t, err)
	require.Equal(t, failed, a.dialled.outcome, "the first connection is between these two endpoints")

	// Another port, where nobody listens any more.
	gone, err := new(sock.Net).Listen(t.Context(), sock.Loopback(0))
	require.NoError(t, err)
	gone.Close()
	a, err = exchange(t.Context(), c, ask{change: changePort, port: sock.AddrPort(gone.Addr()).Port()})
	require.NoError(t, err)
	require.Equal(t, refused, a.dialled.outcome)
	ln.Close()
	for range visits {
		require.Fail(t, "a visit that was not asked for")
	}
}

// Whatever is asked for, the server connects to the address that asks, and
// from no port that could be a service's.
func TestNeverAThirdParty(t *testing.T) {
	s := &Server{Alternates: []netip.AddrPort{
		netip.MustParseAddrPort("192.0.2.1:3478"), netip.MustParseAddrPort("192.0.2.1:3479"), netip.MustParseAddrPort("192.0.2.2:3478"),
	}}
	f := flow{local: s.Alternates[0], remote: netip.MustParseAddrPort("203.0.113.7:40000"), around: s.around(s.Alternates[0])}
	for change := byte(0); change <= 8; change++ {
		for _, from := range []uint16{0, minDialFrom, 65535} {
			o, ok := s.source(f, ask{change: change & (changeIP | changePort), from: from})
			require.True(t, ok)
			require.Contains(t, []string{"192.0.2.1", "192.0.2.2"}, o.at.Addr().String())
			require.True(t, from == 0 || o.at.Port() == from)
		}
	}
	for _, bad := range []stun.RawAttribute{
		{Type: attrDialFrom, Value: []byte{0, 80, 0, 0}},
		{Type: attrDialFrom, Value: []byte{0x7f, 0xff, 0, 0}},
		{Type: attrDialFrom, Value: []byte{0xff}},
		{Type: attrDialPort, Value: []byte{3, 0xff, 0, 0}},
		{Type: attrHold, Value: []byte{1}},
	} {
		a := talk(t, new(Server), stun.MustBuild(stun.TransactionID, stun.BindingRequest, bad))
		require.Equal(t, stun.CodeBadRequest, code(t, a[0]), "%v", bad)
	}
}

// Answers are held back for those who ask, in bounded number, and given up
// when the asker speaks or leaves.
func TestHold(t *testing.T) {
	began := time.Now()
	at := start(t, &Server{}, "127.0.0.1:0")
	_, err := exchange(t.Context(), dial(t, at[0]), ask{hold: 20 * time.Millisecond})
	require.NoError(t, err)
	require.GreaterOrEqual(t, time.Since(began), 20*time.Millisecond)

	full := start(t, &Server{Holds: -1}, "127.0.0.1:0")
	_, err = exchange(t.Context(), dial(t, full[0]), ask{hold: maxHold})
	require.NoError(t, err, "answered at once")

	c := dial(t, at[0])
	_, err = send(c, ask{hold: maxHold})
	require.NoError(t, err)
	_, err = exchange(t.Context(), c, ask{})
	require.Error(t, err, "the connection has ended")
}

// The server says what a client's SYN looked like, if it was kept.
func TestSYNIsShown(t *testing.T) {
	at := start(t, &Server{}, "127.0.0.1:0")
	c, err := new(sock.Net).Dial(t.Context(), netip.AddrPort{}, at[0], 33)
	require.NoError(t, err)
	defer sock.Abort(c)
	for _, want := range []uint8{0, 33, 0} { // not asked for; asked; the kernel gives it once
		a, err := exchange(t.Context(), c, ask{syn: want != 0})
		require.NoError(t, err)
		if runtime.GOOS != "linux" {
			want = 0
		}
		require.Equal(t, want, a.syn.TTL)
	}
}

func TestDialBackLimits(t *testing.T) {
	declines := func(s *Server, n int) (declines int) {
		at := start(t, s, "127.0.0.1:0")
		c := dial(t, at[0])
		for range n {
			a, err := exchange(t.Context(), c, ask{change: changePort})
			require.NoError(t, err)
			if a.dialled.outcome == declined {
				declines++
			}
		}
		return declines
	}
	require.Equal(t, 3, declines(&Server{MessageRate: -1, DialBackRate: 1e-9}, dialBurst+3), "of one source")
	require.Equal(t, 2, declines(&Server{DialBacks: -1}, 2), "of all")
}

func TestSources(t *testing.T) {
	s := newSources(1, 2)
	now := time.Now()
	a, b := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::ffff:1")
	require.True(t, s.allow(a, now))
	require.True(t, s.allow(b, now))
	require.False(t, s.allow(a, now), "a /64 is one source")
	require.True(t, s.allow(netip.MustParseAddr("2001:db8:0:1::1"), now))
	require.True(t, s.allow(a, now.Add(time.Second)))
	for i := range maxSources + 10 {
		s.allow(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), now)
	}
	require.Equal(t, maxSources, s.recent.Len())
	require.Len(t, s.entries, maxSources)
}

// What a server says is believed only as far as it can be true and harmless.
func TestExchangeDistrusts(t *testing.T) {
	ask := func(remote string, s ...stun.Setter) (answer, error) {
		client, server := net.Pipe()
		defer client.Close()
		go func() {
			defer server.Close()
			var req stun.Message
			if readMessage(server, &req) == nil {
				server.Write(stun.MustBuild(append([]stun.Setter{&req, stun.BindingSuccess}, s...)...).Raw)
			}
		}()
		return exchange(t.Context(), &addressed{Conn: client, remote: netip.MustParseAddrPort(remote)}, ask{})
	}
	mapped := func(s string, port int) stun.Setter { return &stun.XORMappedAddress{IP: net.ParseIP(s), Port: port} }
	other := func(s string) stun.Setter { return &stun.OtherAddress{IP: net.ParseIP(s), Port: 3479} }

	for _, bad := range []stun.Setter{mapped("224.0.0.1", 1), mapped("0.0.0.0", 1), mapped("203.0.113.7", 0), mapped("2001:db8::1", 1)} {
		_, err := ask("192.0.2.1:3478", bad)
		require.Error(t, err)
	}
	for o, fine := range map[string]bool{"192.0.2.2": true, "192.168.1.1": false, "127.0.0.1": false, "2001:db8::1": false} {
		a, err := ask("192.0.2.1:3478", mapped("203.0.113.7", 40000), other(o))
		require.NoError(t, err)
		require.Equal(t, fine, a.other.IsValid(), o)
	}
	a, err := ask("192.168.1.2:3478", mapped("192.168.1.5", 40000), other("192.168.1.3"))
	require.NoError(t, err)
	require.True(t, a.other.IsValid(), "a server in the same private network")
}

// script is a connection with a given input; it keeps the output.
type script struct {
	net.Conn
	in, out       []byte
	local, remote string
	closed        bool
}

func (c *script) Read(b []byte) (int, error) {
	if len(c.in) == 0 {
		return 0, io.EOF
	}
	n := copy(b, c.in[:min(len(c.in), 7)]) // never a whole header
	c.in = c.in[n:]
	return n, nil
}

func (c *script) Write(b []byte) (int, error) {
	c.out = append(c.out, b...)
	return len(b), nil
}

func (c *script) LocalAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(c.local))
}

func (c *script) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(c.remote))
}
func (c *script) Close() error                     { c.closed = true; return nil }
func (c *script) SetDeadline(time.Time) error      { return nil }
func (c *script) SetReadDeadline(time.Time) error  { return nil }
func (c *script) SetWriteDeadline(time.Time) error { return nil }
