package relay

import (
	"bytes"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestTickets: what does not open a stream, and what the relay says to it.
func TestTickets(t *testing.T) {
	addr := serve(t, &Server{})
	td, tl := tickets()
	other := Secret{9}
	foreign, _ := other.Tickets([16]byte{1}, bob, alice, time.Now())
	expired, _ := testSecret.Tickets([16]byte{1}, bob, alice, time.Now().Add(-Lifetime-2*time.Second))
	asListener := bytes.Clone(td)
	asListener[0] = byte(Listener)
	otherKey := bytes.Clone(td)
	otherKey[offKey] ^= 1
	later := bytes.Clone(expired)
	later[offExpiry] ^= 1
	nobody := testSecret.sign(ticket{3, [16]byte{1}, [32]byte{1}, time.Now().Add(time.Hour).Unix()})
	for name, x := range map[string]struct {
		ticket []byte
		is     Status
	}{
		"another secret":          {foreign, BadTicket},
		"zeros":                   {make([]byte, TicketSize), BadTicket},
		"expired":                 {expired, Expired},
		"expired, and patched":    {later, BadTicket},
		"the other role, patched": {asListener, BadTicket},
		"another key, patched":    {otherKey, BadTicket},
		"a role that is none":     {nobody, BadTicket},
	} {
		require.ErrorIs(t, status(t, open(t, addr, x.ticket, "data")), x.is, name)
	}

	first := open(t, addr, td, "")
	require.ErrorIs(t, status(t, open(t, addr, td, "")), Used, "while the first waits")
	second := open(t, addr, tl, "")
	require.NoError(t, ReadStatus(first))
	require.NoError(t, ReadStatus(second))
	for _, again := range [][]byte{td, tl} {
		require.ErrorIs(t, status(t, open(t, addr, again, "")), Used, "a ticket serves once")
	}
	_, err := Preamble(td[1:])
	require.Error(t, err, "what is no ticket is not sent")
}

// TestStrangersAreNotPaired: two tickets make a pair only if they are of one
// dial between the same keys.
func TestStrangersAreNotPaired(t *testing.T) {
	s := &Server{Limits: Limits{Wait: 100 * time.Millisecond}}
	addr := serve(t, s)
	mallory, dial := testKey(3), [16]byte{7}
	td, _ := testSecret.Tickets(dial, bob, alice, time.Now())
	_, tl := testSecret.Tickets(dial, mallory, alice, time.Now()) // who saw the dial id and used it, too
	a, b := open(t, addr, td, ""), open(t, addr, tl, "")
	require.ErrorIs(t, status(t, a), Alone)
	require.ErrorIs(t, status(t, b), Alone)
	require.EqualValues(t, 2, s.Stats().Refused[Alone])
	require.Zero(t, s.Stats().Paired)
}

// TestGarbage: what is no stream gets no answer.
func TestGarbage(t *testing.T) {
	addr := serve(t, &Server{})
	for _, b := range []string{"r", "rlay", "rlay\x02", "rlax\x01" + string(make([]byte, 200)), "GET / HTTP/1.1\r\n\r\n"} {
		c, err := net.Dial("tcp", addr)
		require.NoError(t, err)
		c.SetDeadline(time.Now().Add(10 * time.Second))
		_, err = c.Write([]byte(b))
		require.NoError(t, err)
		c.(*net.TCPConn).CloseWrite() // an error if the relay was faster
		_, err = c.Read(make([]byte, 1))
		require.Error(t, err, "%q", b)
		c.Close()
	}
}

// TestLimits: each holds where it is reached, and gives way when it is not.
func TestLimits(t *testing.T) {
	for name, l := range map[string]Limits{
		limitWaiting:          {Waiting: 2},
		limitWaitingPerSource: {WaitingPerSource: 2},
		limitStreamsPerKey:    {StreamsPerKey: 2},
		limitStreamsPerSource: {StreamsPerSource: 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &Server{Limits: l}
			addr := serve(t, s)
			var last []byte
			for range 2 {
				var td []byte
				td, last = tickets()
				open(t, addr, td, "")
			}
			require.Eventually(t, func() bool { return s.Stats().Waiting == 2 }, 10*time.Second, time.Millisecond)
			third, _ := tickets()
			require.ErrorIs(t, status(t, open(t, addr, third, "")), Busy)
			if l.Waiting+l.WaitingPerSource > 0 { // the second end of a pair takes no place, it makes one
				require.NoError(t, ReadStatus(open(t, addr, last, "")))
				again := open(t, addr, third, "")
				require.Eventually(t, func() bool { return s.Stats().Waiting == 2 }, 10*time.Second, time.Millisecond,
					"a ticket that was refused for a limit has not been used")
				again.Close()
			}
			require.EqualValues(t, 1, s.Stats().Refused[Busy])
			requireMet(t, s, name)
		})
	}
	t.Run("streams per second", func(t *testing.T) {
		t.Parallel()
		var now atomic.Int64
		now.Store(time.Now().Unix())
		s := &Server{Limits: Limits{StreamsPerSecond: 1}, Now: func() time.Time { return time.Unix(now.Load(), 0) }}
		addr := serve(t, s)
		for range 4 {
			td, _ := tickets()
			open(t, addr, td, "").Close() // it need not stay
		}
		entered := func(n int) {
			require.Eventually(t, func() bool {
				s.table.mu.Lock()
				defer s.table.mu.Unlock()
				return len(s.table.order) == n
			}, 10*time.Second, time.Millisecond)
		}
		entered(4)
		td, tl := tickets()
		require.ErrorIs(t, status(t, open(t, addr, td, "")), Busy)
		requireMet(t, s, limitStreamsPerSecond)
		open(t, addr, tl, "") // whom others dial has no part in it
		entered(5)
		now.Add(1)
		require.NoError(t, ReadStatus(open(t, addr, td, "")))
	})
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		s := &Server{Full: func() bool { return true }}
		td, _ := tickets()
		require.ErrorIs(t, status(t, open(t, serve(t, s), td, "")), Busy)
		requireMet(t, s, limitMemory)
	})
	t.Run("pairs", func(t *testing.T) {
		t.Parallel()
		s := &Server{Limits: Limits{Pairs: 1}}
		addr := serve(t, s)
		a, _ := join(t, addr)
		td, tl := tickets()
		open(t, addr, td, "")
		require.Eventually(t, func() bool { return s.Stats().Waiting == 1 }, 10*time.Second, time.Millisecond)
		require.ErrorIs(t, status(t, open(t, addr, tl, "")), Busy)
		requireMet(t, s, limitPairs)
		a.SetLinger(0)
		a.Close()
		require.Eventually(t, func() bool { return s.Stats().Pairs == 0 }, 10*time.Second, time.Millisecond)
		require.NoError(t, ReadStatus(open(t, addr, tl, "")), "the pair is over, and its place free")
	})
}

// requireMet shows that a limit was met once, and no other was.
func requireMet(t *testing.T, s *Server, limit string) {
	t.Helper()
	met := s.Stats().Met
	require.Len(t, met, len(limitNames))
	for name, n := range met {
		require.Equal(t, name == limit, n == 1, "%s: %d", name, n)
		require.LessOrEqual(t, n, int64(1), name)
	}
}

// TestUsedTicketsAreForgotten: what is remembered of tickets ends with them.
func TestUsedTicketsAreForgotten(t *testing.T) {
	var tb table
	l, _ := Limits{StreamsPerKey: 1 << 20, StreamsPerSecond: 1 << 20, StreamsPerSource: 1 << 20, WaitingPerSource: 1 << 20, Waiting: 1 << 20}.WithDefaults()
	tb.init(l)
	now := time.Unix(1e9, 0)
	enter := func(i int) Status {
		_, st := tb.enter(&Stream{ticket: ticket{Dialer, [16]byte{byte(i), byte(i >> 8), byte(i >> 16)}, [32]byte{}, now.Add(Lifetime).Unix()}}, now)
		return st
	}
	for i := range maxUsed {
		require.Equal(t, Paired, enter(i))
	}
	require.Equal(t, Busy, enter(maxUsed), "there is a bound")
	require.EqualValues(t, 1, tb.met[limitUsedTickets])
	now = now.Add(Lifetime + time.Second)
	require.Equal(t, Paired, enter(maxUsed))
	require.Len(t, tb.used, 1)
	require.Len(t, tb.order, 1)
}

func TestServerNeedsASecret(t *testing.T) {
	a, b := net.Pipe()
	defer b.Close()
	_, err := new(Server).Greet(a)
	require.ErrorContains(t, err, "Server.Secret is not set", "a zero secret would be everybody's")
	for _, short := range []string{"", "short", "  \n"} {
		_, err := ParseSecret([]byte(short))
		require.Error(t, err)
	}
	one, err := ParseSecret([]byte("0123456789abcdef0123456789abcdef"))
	require.NoError(t, err)
	two, err := ParseSecret([]byte("\n0123456789abcdef0123456789abcdef\r\n"))
	require.NoError(t, err)
	require.Equal(t, one, two)
	_, err = Limits{Pairs: -1}.WithDefaults()
	require.Error(t, err)
}

// FuzzPreamble: random bytes neither crash the relay nor open a stream, and
// none is read beyond a preamble.
func FuzzPreamble(f *testing.F) {
	now := time.Unix(1e9, 0) // the workers are processes of their own
	td, tl := testSecret.Tickets([16]byte{1}, bob, alice, now)
	for _, ticket := range [][]byte{td, tl} {
		pre, _ := Preamble(ticket)
		f.Add(pre)
		f.Add(pre[:len(pre)-1])
		f.Add(append(pre, "more"...))
	}
	f.Add([]byte("rlay\x02"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		raw, err := readPreamble(r)
		if err != nil {
			return
		}
		if read := len(b) - r.Len(); read != preambleSize {
			t.Fatalf("%d bytes were read", read)
		}
		tk, st := testSecret.open(&raw, now)
		if st != Paired {
			return
		}
		if !bytes.Equal(testSecret.sign(tk), raw[:]) || !bytes.Equal(raw[:], td) && !bytes.Equal(raw[:], tl) {
			t.Fatalf("a ticket that nobody signed: %x", raw)
		}
	})
}
