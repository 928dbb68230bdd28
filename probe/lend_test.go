package probe

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt/internal/sock"
)

func endpoints(s string) (at []netip.AddrPort) {
	for _, a := range strings.Fields(s) {
		at = append(at, netip.MustParseAddrPort(a))
	}
	return at
}

// Where there is no second address of our own, that of a lender is told of, if
// clients can derive from it where somebody listens; and of several lenders one
// that has all.
func TestBorrow(t *testing.T) {
	const one, two = "192.0.2.1:1", "192.0.2.1:1 192.0.2.1:2"
	for _, tt := range []struct {
		name, alternates, lenders, other, lender string
	}{
		{"none", two, "", "192.0.2.1:2", ""},
		{"one port", one, "192.0.2.9:1", "192.0.2.9:1", "192.0.2.9:1"},
		{"two ports", two, "192.0.2.9:1 192.0.2.9:2", "192.0.2.9:2", "192.0.2.9:1 192.0.2.9:2"},
		{"one port of two", one, "192.0.2.9:2 192.0.2.9:1", "192.0.2.9:1", "192.0.2.9:2 192.0.2.9:1"},
		{"three of four", two, "192.0.2.9:1", "192.0.2.9:2", "192.0.2.9:1"},
		{"who has all", two, "192.0.2.8:1; 192.0.2.9:1 192.0.2.9:2", "192.0.2.9:2", "192.0.2.9:1 192.0.2.9:2"},
		{"the first", two, "192.0.2.8:1 192.0.2.8:2; 192.0.2.9:1 192.0.2.9:2", "192.0.2.8:2", "192.0.2.8:1 192.0.2.8:2"},
		{"other ports", two, "192.0.2.9:3 192.0.2.9:2", "192.0.2.1:2", ""},
		{"the same address", two, "192.0.2.1:1", "192.0.2.1:2", ""},
		{"other family", two, "[2001:db8::9]:1", "192.0.2.1:2", ""},
		{"a private one", two, "10.0.0.9:1 127.0.0.1:1", "192.0.2.1:2", ""},
		{"a second address of our own", two + " 192.0.2.2:1", "192.0.2.9:1 192.0.2.9:2", "192.0.2.2:2", ""},
		{"one that clients are not told of", one + " 192.0.2.2:2", "192.0.2.9:1", "192.0.2.9:1", "192.0.2.9:1"},
		{"everywhere", "0.0.0.0:1 0.0.0.0:2", "192.0.2.9:1 192.0.2.9:2", "192.0.2.9:2", "192.0.2.9:1 192.0.2.9:2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := &Server{Alternates: endpoints(tt.alternates), Lenders: func() (all []Lender) {
				for l := range strings.SplitSeq(tt.lenders, ";") {
					all = append(all, Lender{Endpoints: endpoints(l)})
				}
				return all
			}}
			local := netip.MustParseAddrPort(one)
			require.Equal(t, tt.other, s.Other(local).String())
			r := s.around(local)
			for change, port := range map[byte]uint16{changeIP: 1, changeIP | changePort: 2} {
				o, ok := s.source(flow{local: local, around: r}, ask{change: change})
				if r.lender == nil {
					require.Equal(t, "", tt.lender)
					require.Nil(t, o.lender)
					continue
				}
				require.True(t, ok)
				require.Equal(t, endpoints(tt.lender), o.lender.Endpoints)
				require.Equal(t, r.ip.Addr(), o.at.Addr())
				if o.at.Port() != 0 { // any, where the lender does not listen at the right one
					require.Equal(t, port, o.at.Port())
					require.Contains(t, o.lender.Endpoints, o.at)
				}
			}
		})
	}
}

// Behind a 1:1 NAT it is the address that clients know that counts.
func TestBorrowBehindNAT(t *testing.T) {
	s := &Server{Alternates: endpoints("0.0.0.0:1"), Public: map[netip.Addr]netip.Addr{netip.MustParseAddr("10.0.0.1"): netip.MustParseAddr("192.0.2.1")},
		Lenders: func() []Lender { return []Lender{{Endpoints: endpoints("10.0.0.9:1 192.0.2.9:1")}} }}
	require.Equal(t, "192.0.2.9:1", s.Other(netip.MustParseAddrPort("10.0.0.1:1")).String())
}

// What another server asks for is done only from an address of ours that clients
// know, and to one that a client of ours could have.
func TestLends(t *testing.T) {
	natted := map[netip.Addr]netip.Addr{netip.MustParseAddr("10.0.0.1"): netip.MustParseAddr("192.0.2.1")}
	for _, tt := range []struct {
		name, alternates, from, to string
		public                     map[netip.Addr]netip.Addr
		local                      string // empty: refused
	}{
		{"a port that we listen on", "192.0.2.1:1 192.0.2.1:2", "192.0.2.1:2", "203.0.113.7:40000", nil, "192.0.2.1:2"},
		{"any port", "192.0.2.1:1", "192.0.2.1:0", "203.0.113.7:40000", nil, "192.0.2.1:0"},
		{"a high port", "192.0.2.1:1", "192.0.2.1:32768", "203.0.113.7:1024", nil, "192.0.2.1:32768"},
		{"a port of a service", "192.0.2.1:1", "192.0.2.1:22", "203.0.113.7:40000", nil, ""},
		{"not our address", "192.0.2.1:1", "192.0.2.2:1", "203.0.113.7:40000", nil, ""},
		{"behind a NAT", "10.0.0.1:1", "192.0.2.1:1", "203.0.113.7:40000", natted, "10.0.0.1:1"},
		{"behind a NAT, everywhere", "[::]:1", "192.0.2.1:1", "203.0.113.7:40000", natted, "0.0.0.0:1"},
		{"a private client", "192.0.2.1:1", "192.0.2.1:1", "10.0.0.7:40000", nil, ""},
		{"a private network", "10.0.0.1:1", "10.0.0.1:1", "10.0.0.7:40000", nil, "10.0.0.1:1"},
		{"out of a private network", "10.0.0.1:1", "10.0.0.1:1", "203.0.113.7:40000", nil, ""},
		{"a loopback client", "192.0.2.1:1", "192.0.2.1:1", "127.0.0.1:40000", nil, ""},
		{"a carrier's inside", "192.0.2.1:1", "192.0.2.1:1", "100.100.100.200:40000", nil, ""},
		{"inside of a carrier", "100.64.0.1:1", "100.64.0.1:1", "100.64.0.7:40000", nil, "100.64.0.1:1"},
		{"ourselves", "192.0.2.1:1", "192.0.2.1:1", "192.0.2.1:40000", nil, ""},
		{"ourselves behind a NAT", "10.0.0.1:1 192.0.2.2:1", "192.0.2.2:1", "192.0.2.1:40000", natted, ""},
		{"IPv6", "[2001:db8::1]:1", "[2001:db8::1]:1", "[2001:db8::7]:40000", nil, "[2001:db8::1]:1"},
		{"a private IPv6 address", "[2001:db8::1]:1", "[2001:db8::1]:1", "[fd00::7]:40000", nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := &Server{Alternates: endpoints(tt.alternates), Public: tt.public}
			o := order{time.Second, netip.MustParseAddrPort(tt.from), netip.MustParseAddrPort(tt.to)}
			var same order
			require.NoError(t, same.decode(o.encode()))
			require.Equal(t, o, same)
			local, ok := s.lends(o)
			require.Equal(t, tt.local != "", ok)
			if ok {
				require.Equal(t, tt.local, local.String())
			}
		})
	}
}

// Nothing is dialled for what can't be an order.
func TestBadOrders(t *testing.T) {
	good := order{time.Second, netip.MustParseAddrPort("192.0.2.1:1"), netip.MustParseAddrPort("203.0.113.7:40000")}
	change := func(f func(o *order)) []byte {
		o := good
		f(&o)
		return o.encode()
	}
	to := func(s string) []byte { return change(func(o *order) { o.to = netip.MustParseAddrPort(s) }) }
	s := &Server{Alternates: endpoints("192.0.2.1:1"), Net: &sock.Net{Open: func(func() error) error {
		t.Error("a socket")
		return errors.New("no network")
	}}}
	for _, b := range [][]byte{
		nil, {1}, good.encode()[1:], append(good.encode(), 0), to("203.0.113.7:1023"), to("224.0.0.1:40000"), to("0.0.0.0:40000"),
		to("169.254.169.254:40000"), to("255.255.255.255:40000"), to("[2001:db8::1]:40000"),
		change(func(o *order) { o.patience = 0 }), change(func(o *order) { o.patience = dialBackTimeout + time.Millisecond }),
		order{time.Second, netip.MustParseAddrPort("[::ffff:192.0.2.1]:1"), netip.MustParseAddrPort("[::ffff:203.0.113.7]:40000")}.encode(),
		order{time.Second, netip.MustParseAddrPort("[fe80::1]:1"), netip.MustParseAddrPort("[fe80::2]:40000")}.encode(),
	} {
		var d dialled
		require.NoError(t, d.decode(s.Lend(t.Context(), b)))
		require.Equal(t, declined, d.outcome, "%x", b)
	}
}

// lent is a pair of servers with an address each, of which the first borrows
// from the second.
func lent(t *testing.T, second *Server, ask func(context.Context, []byte) ([]byte, error)) (first *Server, at []netip.AddrPort) {
	there := start(t, second, "127.0.0.2:0", "127.0.0.2:1")
	if ask == nil {
		ask = func(ctx context.Context, order []byte) ([]byte, error) { return second.Lend(ctx, order), nil }
	}
	first = &Server{MessageRate: -1, Lenders: func() []Lender { return []Lender{{Endpoints: there, Ask: ask}} }}
	var here []string
	for _, a := range there {
		here = append(here, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), a.Port()).String())
	}
	start(t, first, here...)
	return first, append(first.Alternates, there...)
}

// Dial backs come from exactly the lender's endpoint that was asked for.
func TestLentDialBack(t *testing.T) {
	second := new(Server)
	first, at := lent(t, second, nil)
	ln, err := new(sock.Net).Listen(t.Context(), sock.Loopback(0))
	require.NoError(t, err)
	defer ln.Close()
	c, err := new(sock.Net).Dial(t.Context(), sock.AddrPort(ln.Addr()), at[0], 0)
	require.NoError(t, err)
	defer sock.Abort(c)
	a, err := exchange(t.Context(), c, ask{})
	require.NoError(t, err)
	require.Equal(t, at[3], a.other)

	visits := visitsTo(ln)
	for change, from := range map[byte]netip.AddrPort{changePort: at[1], changeIP: at[2], changeIP | changePort: at[3]} {
		a, err := exchange(t.Context(), c, ask{change: change})
		require.NoError(t, err)
		require.Equal(t, connected, a.dialled.outcome)
		require.Equal(t, dialBackVisit{from, a.dialled.token}, <-visits)
	}
	free, err := new(sock.Net).Listen(t.Context(), netip.AddrPortFrom(at[2].Addr(), 0))
	require.NoError(t, err)
	from := sock.AddrPort(free.Addr())
	free.Close()
	a, err = exchange(t.Context(), c, ask{change: changeIP, from: from.Port()})
	require.NoError(t, err)
	require.Equal(t, dialBackVisit{from, a.dialled.token}, <-visits)

	gone, err := new(sock.Net).Listen(t.Context(), sock.Loopback(0))
	require.NoError(t, err)
	gone.Close()
	a, err = exchange(t.Context(), c, ask{change: changeIP, port: sock.AddrPort(gone.Addr()).Port()})
	require.NoError(t, err)
	require.Equal(t, refused, a.dialled.outcome)

	require.Equal(t, []int64{3, 1}, []int64{first.Stats().Borrowed["connected"], first.Stats().Borrowed["refused"]})
	require.Equal(t, []int64{3, 1}, []int64{second.Stats().DialBacks["connected"], second.Stats().DialBacks["refused"]})
	require.Equal(t, int64(1), first.Stats().DialBacks["connected"], "from the other port of its own")
	ln.Close()
	for range visits {
		require.Fail(t, "a visit that was not asked for")
	}
}

// A lender that does not answer, or nonsense, costs the test that needed it, for
// no longer than a dial back takes.
func TestLenderIsNoUse(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]func(context.Context) ([]byte, error){
		"gone":     func(context.Context) ([]byte, error) { return nil, errors.New("nobody listens") },
		"silent":   func(ctx context.Context) ([]byte, error) { <-ctx.Done(); return nil, ctx.Err() },
		"nonsense": func(context.Context) ([]byte, error) { return bytes.Repeat([]byte{0xff}, 16), nil },
		"short":    func(context.Context) ([]byte, error) { return []byte{1}, nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ends := make(chan time.Time, 1)
			first, at := lent(t, new(Server), func(ctx context.Context, _ []byte) ([]byte, error) {
				end, _ := ctx.Deadline()
				ends <- end
				return answer(ctx)
			})
			c := dial(t, at[0])
			const patience = 20 * time.Millisecond
			a, err := exchange(t.Context(), c, ask{change: changeIP, patience: patience})
			require.NoError(t, err)
			require.Equal(t, failed, a.dialled.outcome)
			require.LessOrEqual(t, time.Until(<-ends), patience+handOver)
			a, err = exchange(t.Context(), c, ask{change: changePort})
			require.NoError(t, err)
			require.Equal(t, refused, a.dialled.outcome, "what it can do itself")
			require.Equal(t, int64(1), first.Stats().Borrowed["failed"])
		})
	}
}

// What is done for others is bounded, for each address that is dialled and in
// all, whoever asks.
func TestLendingLimits(t *testing.T) {
	ask := func(s *Server, n int) (declines int) {
		start(t, s, "127.0.0.2:0")
		o := order{time.Second, s.Alternates[0], netip.MustParseAddrPort("127.0.0.1:1024")}
		for range n {
			var d dialled
			require.NoError(t, d.decode(s.Lend(t.Context(), o.encode())))
			if d.outcome == declined {
				declines++
			}
		}
		return declines
	}
	require.Equal(t, 3, ask(&Server{DialBackRate: 1e-9}, dialBurst+3), "of one source")
	s := &Server{DialBacks: 4, DialBackRate: 1e-9}
	require.NotZero(t, ask(s, dialBurst), "in all")
	require.NotZero(t, s.Stats().Met["lent_dial_backs"])
	s = &Server{DialBacks: 1}
	require.Equal(t, 2, ask(s, 2), "half of one is none")
	require.Equal(t, int64(2), s.Stats().Met["lent_dial_backs"])
}

// An order that is read is in bounds, and reads the same when it is written.
func FuzzOrder(f *testing.F) {
	f.Add(order{time.Second, netip.MustParseAddrPort("192.0.2.1:3478"), netip.MustParseAddrPort("203.0.113.7:40000")}.encode())
	f.Add(order{dialBackTimeout, netip.MustParseAddrPort("[2001:db8::1]:0"), netip.MustParseAddrPort("[2001:db8::2]:40000")}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		var o order
		if o.decode(b) != nil {
			return
		}
		if o.patience > dialBackTimeout || o.to.Port() < minDialPort || o.from.Addr().Is4() != o.to.Addr().Is4() || o.to.Addr().IsMulticast() || o.to.Addr().IsLinkLocalUnicast() {
			t.Fatalf("%+v", o)
		}
		if !bytes.Equal(b, o.encode()) {
			t.Fatalf("%x became %x", b, o.encode())
		}
	})
}
