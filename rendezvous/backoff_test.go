package rendezvous

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// longest returns the longest of many draws from the same state.
func longest(r round, v visit) (most time.Duration) {
	for range 2000 {
		again := r
		most = max(most, again.next(v))
	}
	return most
}

func TestBackoff(t *testing.T) {
	r := round{servers: make([]ServerAddr, 1)}
	far, near := visit{found: FoundServer}, visit{}
	require.LessOrEqual(t, longest(r, far), firstDelay, "the first attempt follows at once")
	for range 20 {
		r.next(far)
	}
	require.LessOrEqual(t, longest(r, far), farDelay)
	require.Greater(t, longest(r, far), farDelay/2, "spread over the whole delay")
	require.LessOrEqual(t, longest(r, near), nearDelay, "a server that is back is found within seconds")
	r.next(visit{found: FoundServer, lasted: stableTime})
	require.LessOrEqual(t, longest(r, far), 2*firstDelay, "a session that lasted makes a new start")
	wait := r.next(visit{notBefore: time.Now().Add(time.Hour)})
	require.Greater(t, wait, 59*time.Minute, "a drained server is left alone")
}

func TestRoundOverServers(t *testing.T) {
	a, b, c := ServerAddr{Host: "a"}, ServerAddr{Host: "b"}, ServerAddr{Host: "c"}
	configured := []ServerAddr{a, b, c}
	r := round{servers: configured}
	var seen []ServerAddr
	step := func(strike bool) {
		seen = append(seen, r.server())
		if strike {
			require.True(t, r.strike())
		}
		require.LessOrEqual(t, r.next(visit{}), firstDelay, "one round over all servers before it slows down")
	}
	step(false)
	step(true)
	step(false)
	require.Equal(t, []ServerAddr{a, b, c}, seen)
	r.next(visit{})
	require.Equal(t, c, r.server())
	require.True(t, r.strike())
	r.next(visit{})
	require.Equal(t, a, r.server())
	require.False(t, r.strike(), "none is left")
	require.Equal(t, []ServerAddr{a, b, c}, configured, "the configuration is not ours to change")
}

// All nodes end at the same server: the first that is there.
func TestRoundPrefersTheFirst(t *testing.T) {
	r := round{servers: make([]ServerAddr, 3)}
	lasted := visit{found: FoundServer, lasted: stableTime}
	r.next(visit{})
	require.Equal(t, 1, r.at)
	r.next(lasted)
	require.Equal(t, 0, r.at, "after a session that lasted, from the beginning")
	r.next(visit{lasted: time.Second})
	require.Equal(t, 1, r.at, "one that did not is no reason to come again at once")
	r.next(visit{lasted: stableTime, notBefore: time.Now()})
	require.Equal(t, 2, r.at, "one that said goodbye isn't either")

	for range 2 * maxRelapses {
		r.back(0, lasted)
		r.next(visit{lasted: time.Second})
		require.Equal(t, 1, r.at, "the preferred one was no good")
	}
	require.Equal(t, maxRelapses, r.relapses, "so it is looked for less and less often")
	r.back(0, lasted)
	r.next(lasted)
	require.Zero(t, r.relapses)

	r.next(visit{})
	r.next(visit{})
	r.restart()
	require.Equal(t, round{servers: r.servers}, r, "in another network, all is new")
}

// Who is turned away stays away for longer than who found nobody, and at once
// for as long as that may take: also where the RST comes before connect has seen
// that it was accepted.
func TestTurnedAway(t *testing.T) {
	for errno, want := range map[syscall.Errno]Found{syscall.ECONNRESET: FoundFull, syscall.ECONNREFUSED: FoundGone, syscall.EHOSTUNREACH: FoundNobody} {
		c := NewClient(ClientConfig{Dial: func(context.Context, string, string) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", errno)}
		}})
		_, got, err := c.connect(t.Context(), ServerAddr{}, tls.Certificate{})
		require.ErrorIs(t, err, errno)
		require.Equal(t, want, got, errno.Error())
	}
	h := serve(t, &Server{})
	h.stop()
	ln, err := net.Listen("tcp", h.addr.HostPort())
	require.NoError(t, err)
	defer ln.Close()
	go func() {
		if c, err := ln.Accept(); err == nil {
			abort(c)
			c.Close()
		}
	}()
	c := NewClient(ClientConfig{})
	cert, err := Certificate(newKey(t))
	require.NoError(t, err)
	_, got, err := c.connect(within(t), h.addr, cert)
	require.Error(t, err)
	require.Equal(t, FoundFull, got, "%v", err)
}

// The longest of many draws says how long a client may wait.
func TestBackoffBounds(t *testing.T) {
	const spread = 40 * time.Second
	for _, tt := range []struct {
		failures int
		found    Found
		spread   time.Duration
		most     time.Duration
	}{
		{0, FoundFull, 0, firstDelay}, // it had a session, or there is another server
		{1, FoundFull, 0, farDelay},
		{20, FoundFull, 0, farDelay},
		{1, FoundServer, 0, 2 * firstDelay},
		{20, FoundServer, 0, farDelay},
		{1, FoundGone, 0, 2 * firstDelay},
		{20, FoundGone, 0, nearDelay},
		{20, FoundNobody, 0, nearDelay},

		// With many others who will come, too.
		{0, FoundServer, spread, spread / looks},
		{1, FoundGone, spread, spread},
		{20, FoundGone, spread, spread},
		{1, FoundFull, spread, spread},
		{1, FoundGone, time.Hour, maxSpread}, // whatever a server says
		{1, FoundGone, time.Second, time.Second},
		{20, FoundGone, time.Second, nearDelay},
		{1, FoundServer, spread, 2 * firstDelay}, // which is there
		{20, FoundNobody, spread, nearDelay},     // it may be our own network
	} {
		var most time.Duration
		for range 2000 {
			most = max(most, Backoff(tt.failures, tt.found, tt.spread))
		}
		require.LessOrEqual(t, most, tt.most, "%+v", tt)
		require.Greater(t, most, tt.most*9/10, "all of it is used: %+v", tt)
	}
}

// What a server has said of the return of all counts until another session has
// stood, and once for who is turned away.
func TestRoundSpreads(t *testing.T) {
	r := round{servers: make([]ServerAddr, 1)}
	gone, full := visit{found: FoundGone}, visit{found: FoundFull}
	r.next(visit{found: FoundServer, lasted: time.Hour, spread: maxSpread})
	require.Greater(t, longest(r, gone), maxSpread/2)
	r.next(gone)
	r.next(gone)
	require.Greater(t, longest(r, full), maxSpread/2)
	r.next(full)
	require.LessOrEqual(t, longest(r, full), farDelay)
	r.next(visit{found: FoundServer, lasted: time.Hour, spread: maxSpread})
	r.next(visit{found: FoundServer, lasted: time.Second})
	require.LessOrEqual(t, longest(r, gone), nearDelay, "a server with few nodes")

	r = round{servers: make([]ServerAddr, 2)}
	r.next(visit{found: FoundServer, lasted: time.Hour, spread: maxSpread})
	require.LessOrEqual(t, longest(r, full), maxSpread/looks, "the other server is looked for, too")
	r.next(full)
	require.Greater(t, longest(r, full), maxSpread/2, "and only then it is waited for")
}

// A server says how long its sessions should spread their return, and a client
// takes the last that it has said.
func TestSpreadIsTold(t *testing.T) {
	h := serve(t, &Server{ReturnRate: 2})
	p := h.peer(t, newKey(t))
	for range 6 {
		h.peer(t, newKey(t))
	}
	p.send(&ping{})
	require.Equal(t, 3*time.Second, read[*pong](p).Spread, "seven sessions")
	late := h.raw(t, newKey(t))
	late.send(&hello{Min: 1, Max: 1})
	require.Equal(t, 4*time.Second, read[*Welcome](late).Spread)

	addr := foreign(t, []string{ALPN}, func(c net.Conn) {
		write(c, &Welcome{Version: 1, Observed: netip.MustParseAddrPort("192.0.2.1:1"), Keepalive: minKeepalive, Spread: 8 * time.Second})
		write(c, &pong{Spread: 9 * time.Second})
		c.(*tls.Conn).CloseWrite()
		io.Copy(io.Discard, c)
	})
	cert, err := Certificate(newKey(t))
	require.NoError(t, err)
	v := NewClient(ClientConfig{}).visit(within(t), &round{servers: []ServerAddr{addr}}, cert, nil)
	require.Positive(t, v.lasted, "%v", v.err)
	require.Equal(t, 9*time.Second, v.spread)
}

func TestSleep(t *testing.T) {
	require.True(t, sleep(t.Context(), 0))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.False(t, sleep(ctx, time.Hour))
}

func TestErrorsMatch(t *testing.T) {
	err := lost(errorf(CodeReplaced, "by another"))
	require.ErrorIs(t, err, ErrDisconnected)
	require.ErrorIs(t, err, CodeReplaced)
	require.NotErrorIs(t, err, CodeIDTaken)
	require.Equal(t, CodeInternal, asError(errors.New("a secret")).Code)
	require.Empty(t, asError(errors.New("a secret")).Text)
	for c := CodeNone; c <= CodeNoConnection; c++ {
		require.NotContains(t, c.String(), "code ", "every code has a name")
	}
	require.Equal(t, "code 999", Code(999).String())
	require.True(t, Code(999).byPeer(), "a later version may have more refusals")
	require.Equal(t, "rendezvous: server h:1: rendezvous: id taken", (&FinalError{Server: ServerAddr{Host: "h", Port: 1}, Err: CodeIDTaken}).Error())
}
