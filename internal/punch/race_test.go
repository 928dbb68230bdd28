package punch

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/gostunt/stunt/internal/secure"
	"github.com/gostunt/stunt/internal/sock"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// end is one end of a dial on loopback.
type end struct {
	door Door
	port *Port
	race *Race
}

func newEnd(t *testing.T) *end {
	e := &end{}
	var err error
	e.port, err = OpenPort(t.Context(), nil, e.door.Knock)
	require.NoError(t, err)
	t.Cleanup(func() { e.door.Close(); e.port.Close() })
	return e
}

func (e *end) addr() netip.AddrPort { return sock.Loopback(e.port.Number()) }

// enter starts the end's race for a dial.
func (e *end) enter(t *testing.T, id [16]byte, dialer bool) {
	var err error
	e.race, err = NewRace(Config{Door: &e.door, Port: e.port, ID: id, Dialer: dialer, Window: 20 * time.Second})
	require.NoError(t, err)
}

// handshake returns what the messages through the server leave at each end.
func handshake(t *testing.T) (dialer, listener *secure.Session) {
	params := secure.Params{Peer: "alice", Port: 80, Mode: secure.Raw}
	rand.Read(params.DialID[:])
	_, a, _ := ed25519.GenerateKey(nil)
	_, b, _ := ed25519.GenerateKey(nil)
	i, msg1, err := secure.Initiate(a, params)
	require.NoError(t, err)
	r, err := secure.Respond(b, params, msg1)
	require.NoError(t, err)
	msg2, listener, err := r.Answer(false)
	require.NoError(t, err)
	dialer, err = i.Finish(msg2)
	require.NoError(t, err)
	return dialer, listener
}

// pair is two ends that are about to meet.
func pair(t *testing.T) (a, b *end, sa, sb *secure.Session) {
	a, b = newEnd(t), newEnd(t)
	sa, sb = handshake(t)
	a.enter(t, sa.Params().DialID, true)
	b.enter(t, sb.Params().DialID, false)
	return a, b, sa, sb
}

func (e *end) wait(t *testing.T) *Path {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	p, err := e.race.Wait(ctx)
	require.NoError(t, err)
	t.Cleanup(func() { p.Conn.Close() })
	return p
}

// requireSame shows that both paths are the two ends of one connection.
func requireSame(t *testing.T, a, b *Path) {
	require.Equal(t, a.Conn.LocalAddr().String(), b.Conn.RemoteAddr().String(), "both ends must choose the same connection")
	require.Equal(t, a.Conn.RemoteAddr().String(), b.Conn.LocalAddr().String())
	_, err := a.Conn.Write([]byte("first bytes"))
	require.NoError(t, err)
	got := make([]byte, 11)
	_, err = io.ReadFull(b.Conn, got)
	require.NoError(t, err)
	require.Equal(t, "first bytes", string(got), "the application's bytes begin right after the select")
}

func TestRaceBothFire(t *testing.T) {
	a, b, sa, sb := pair(t)
	b.race.Keys(sb)
	b.race.Fire([]Attempt{{To: a.addr(), Method: SimOpen}})
	a.race.Fire([]Attempt{{To: b.addr(), Method: SimOpen}})
	a.race.Keys(sa)
	requireSame(t, a.wait(t), b.wait(t))
}

func TestRaceKeysComeLate(t *testing.T) {
	a, b, sa, sb := pair(t)
	b.race.Keys(sb)
	b.race.Fire([]Attempt{{To: a.addr(), Method: Reversed}})
	// The listener's connection arrives and names the dial before the dialer
	// has the keys to judge it: it must be held, not dropped.
	require.Eventually(t, func() bool {
		a.race.mu.Lock()
		defer a.race.mu.Unlock()
		return a.race.arrive == 1
	}, 10*time.Second, time.Millisecond)
	a.race.Keys(sa)
	pa := a.wait(t)
	require.True(t, pa.Accepted)
	requireSame(t, pa, b.wait(t))
}

func TestRaceRetriesFromTheSamePort(t *testing.T) {
	a, b, sa, sb := pair(t)
	b.race.Keys(sb)
	a.race.Keys(sa)
	// Nobody listens there yet: every SYN is answered with RST.
	late, err := (*sock.Net)(nil).Listen(t.Context(), sock.Loopback(0))
	require.NoError(t, err)
	addr := sock.AddrPort(late.Addr())
	late.Close()
	a.race.Fire([]Attempt{{To: addr, Method: SimOpen}})
	require.Eventually(t, func() bool { return a.race.Tries()[0].SYNs >= 2 }, 10*time.Second, time.Millisecond)
	late, err = (*sock.Net)(nil).Listen(t.Context(), addr)
	require.NoError(t, err)
	defer late.Close()
	c, err := late.AcceptTCP()
	require.NoError(t, err)
	require.Equal(t, a.port.Number(), sock.AddrPort(c.RemoteAddr()).Port(), "a retry from another port would miss the hole")
	b.door.Knock(c)
	requireSame(t, a.wait(t), b.wait(t))
}

func TestRaceOneOfSeveral(t *testing.T) {
	a, b, sa, sb := pair(t)
	b.race.Keys(sb)
	a.race.Keys(sa)
	// Three addresses of one listener: three connections, one chosen.
	var plan []Attempt
	for _, ip := range []string{"127.0.0.1", "127.0.0.2", "127.0.0.3"} {
		plan = append(plan, Attempt{To: netip.AddrPortFrom(netip.MustParseAddr(ip), b.port.Number()), Method: LAN})
	}
	a.race.Fire(plan)
	b.race.Fire(nil)
	requireSame(t, a.wait(t), b.wait(t))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := b.race.Wait(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded, "the listener never gets a connection that was not chosen")
}

func TestRaceNoPath(t *testing.T) {
	a, _, sa, _ := pair(t)
	a.race.Stop()
	<-a.race.Done()
	var err error
	a.race, err = NewRace(Config{Door: &a.door, Port: a.port, ID: [16]byte{1}, Dialer: true, Window: 50 * time.Millisecond})
	require.NoError(t, err)
	a.race.Keys(sa)
	a.race.Fire(nil)
	_, err = a.race.Wait(t.Context())
	require.ErrorIs(t, err, ErrNoPath)
	a.race.Stop()
	<-a.race.Done()
}

// TestRaceSpoiled: the tuple of the only attempt is taken, as by a connection in
// TIME_WAIT, or one that our listener has begun and no SYN-ACK comes through.
func TestRaceSpoiled(t *testing.T) {
	a, b, sa, _ := pair(t)
	a.race.Stop()
	<-a.race.Done()
	taken, err := a.port.Dial(t.Context(), b.addr())
	require.NoError(t, err)
	defer taken.Close()
	a.race, err = NewRace(Config{Door: &a.door, Port: a.port, ID: sa.Params().DialID, Dialer: true, Again: true, Window: time.Minute})
	require.NoError(t, err)
	a.race.Fire([]Attempt{{To: b.addr(), Method: SimOpen}})
	a.race.Keys(sa)
	_, err = a.race.Wait(t.Context())
	require.ErrorIs(t, err, ErrSpoiled)
}

// TestRaceBarren: what keeps a race from being taken for spoiled.
func TestRaceBarren(t *testing.T) {
	a, _, _, _ := pair(t)
	for name, x := range map[string]struct {
		change func(r *Race)
		is     bool
	}{
		"nothing":          {func(*Race) {}, true},
		"a mapped one":     {func(r *Race) { r.tries[0].Fresh = 1 }, true},
		"a relay":          {func(r *Race) { r.tries[0].Method, r.tries[0].Connected = Relay, time.Now() }, true},
		"it connected":     {func(r *Race) { r.tries[0].Connected = time.Now() }, false},
		"something came":   {func(r *Race) { r.arrive = 1 }, false},
		"ports to foresee": {func(r *Race) { r.tries[0].Ports = []uint16{1} }, false},
		"ports to guess":   {func(r *Race) { r.tries[0].Fresh = 100 }, false},
		"no hope":          {func(r *Race) { r.final = true }, false},
	} {
		r := &Race{cfg: a.race.cfg, tries: []*Try{{Attempt: Attempt{Method: SimOpen}}}}
		x.change(r)
		require.Equal(t, x.is, r.barren(), name)
	}
}

func TestRaceDoesNotMeetItself(t *testing.T) {
	a, _, sa, _ := pair(t)
	a.race.Keys(sa)
	a.race.Fire([]Attempt{{To: a.addr(), Method: Hairpin}})
	require.Eventually(t, func() bool {
		tries := a.race.Tries()
		return len(tries) == 1 && tries[0].Err != nil
	}, 10*time.Second, time.Millisecond)
	require.Equal(t, sock.SelfConnection, sock.Classify(a.race.Tries()[0].Err))
}

func TestStrangersAreDroppedUnheard(t *testing.T) {
	a, b, sa, sb := pair(t)
	b.race.Keys(sb)
	for name, greeting := range map[string][]byte{
		"speaks HTTP":      []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
		"unknown dial":     append([]byte("stnt\x01\x02"), make([]byte, 64)...),
		"our own preface":  sb.Preface(secure.Nonce{1}),
		"a flipped proof":  flip(sa.Preface(secure.Nonce{2}), 45),
		"a flipped nonce":  flip(sa.Preface(secure.Nonce{3}), 25),
		"message 3 forged": flip(sa.Preface(secure.Nonce{4}), 150),
	} {
		c, err := net.Dial("tcp", b.addr().String())
		require.NoError(t, err)
		_, err = c.Write(greeting)
		require.NoError(t, err)
		c.SetReadDeadline(time.Now().Add(10 * time.Second))
		heard, err := io.ReadAll(c)
		require.Error(t, err, "%s: the connection is reset", name)
		require.NotErrorIs(t, err, os.ErrDeadlineExceeded, name)
		require.Empty(t, heard, "%s: a stranger hears nothing", name)
		c.Close()
	}
	b.race.Fire([]Attempt{{To: a.addr(), Method: SimOpen}})
	a.race.Fire([]Attempt{{To: b.addr(), Method: SimOpen}})
	a.race.Keys(sa)
	requireSame(t, a.wait(t), b.wait(t))
}

func flip(b []byte, i int) []byte { b[i] ^= 1; return b }

// TestDoorSaw: whoever asked to be tried learns whether it was, and nobody else.
func TestDoorSaw(t *testing.T) {
	e := newEnd(t)
	knock := func(b string) {
		c, err := net.Dial("tcp", sock.Loopback(e.port.Number()).String())
		require.NoError(t, err)
		defer c.Close()
		_, err = c.Write([]byte(b))
		require.NoError(t, err)
		c.(*net.TCPConn).CloseWrite()
		c.Read(make([]byte, 1)) // until it is hung up on
	}
	knock("\x01\x02\x03\x04\x05\x06\x07\x08")
	knock("short")
	require.True(t, e.door.Saw(Token{1, 2, 3, 4, 5, 6, 7, 8}))
	require.False(t, e.door.Saw(Token{1, 2, 3, 4, 5, 6, 7, 9}))
	require.False(t, e.door.Saw(Token{}), "one that has said nothing has not said this")
	for range maxVisits {
		knock("strangers")
	}
	require.False(t, e.door.Saw(Token{1, 2, 3, 4, 5, 6, 7, 8}), "what is remembered has an end")
}

func TestSilentStrangersAreBounded(t *testing.T) {
	e := newEnd(t)
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	for range maxUnheardPerSource {
		c, err := net.Dial("tcp", e.addr().String())
		require.NoError(t, err)
		conns = append(conns, c)
	}
	require.Eventually(t, func() bool {
		e.door.mu.Lock()
		defer e.door.mu.Unlock()
		return len(e.door.unheard) == maxUnheardPerSource
	}, 10*time.Second, time.Millisecond)
	over, err := net.Dial("tcp", e.addr().String())
	if err == nil { // else the reset was faster than the dial
		defer over.Close()
		over.SetReadDeadline(time.Now().Add(hearTimeout / 2))
		_, err = over.Read(make([]byte, 1))
	}
	require.Equal(t, sock.Reset, sock.Classify(err), "over the limit means dropped at once, not after the hearing's timeout")
	e.door.mu.Lock()
	defer e.door.mu.Unlock()
	require.Len(t, e.door.unheard, maxUnheardPerSource)
}
