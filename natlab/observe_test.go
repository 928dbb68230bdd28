package natlab

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt/internal/sock"
)

func TestMain(m *testing.M) {
	childMain() // returns unless TestEnter started this process
	Main(m)
}

// patience bounds every wait for something that must happen; it never decides
// what did.
const patience = 20 * time.Second

// watch is a trace that tests wait on: what the lab did to a packet is seen
// there, however long the kernel takes to say so.
type watch struct {
	mu      sync.Mutex // guards following
	lines   []string
	changed chan struct{} // closed with the next line
}

func newWatch() *watch { return &watch{changed: make(chan struct{})} }

func (w *watch) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for line := range bytes.Lines(b) {
		w.lines = append(w.lines, strings.Join(strings.Fields(string(line)), " "))
	}
	close(w.changed)
	w.changed = make(chan struct{})
	return len(b), nil
}

// find returns the first line that has all parts.
func (w *watch) find(parts ...string) (line string, changed <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
next:
	for _, line := range w.lines {
		for _, p := range parts {
			if !strings.Contains(line, p) {
				continue next
			}
		}
		return line, nil
	}
	return "", w.changed
}

// await waits for a line that has all parts.
func (w *watch) await(t testing.TB, parts ...string) string {
	t.Helper()
	timeout := time.After(patience)
	for {
		line, changed := w.find(parts...)
		if changed == nil {
			return line
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("the trace never said %q", parts)
		}
	}
}

func (w *watch) has(parts ...string) bool {
	_, changed := w.find(parts...)
	return changed == nil
}

// pair is how the trace shows where a packet goes, flow what it is too.
func pair(src, dst netip.AddrPort) string               { return fmt.Sprintf("%v > %v", src, dst) }
func flow(src, dst netip.AddrPort, flags string) string { return pair(src, dst) + " " + flags + " seq" }

// router is a NAT of either kind.
type router interface {
	Place
	Name() string
	Public() []netip.Addr
}

// tcp opens sockets on a host with shared ports, as hole punching does.
func (h *Host) tcp() *sock.Net { return &sock.Net{Open: h.Do} }

func listen(t testing.TB, h *Host, at netip.AddrPort) *net.TCPListener {
	t.Helper()
	ln, err := h.tcp().Listen(t.Context(), at)
	require.NoError(t, err, "listening on %v", at)
	t.Cleanup(func() { ln.Close() })
	return ln
}

// dial connects and fails the test if that fails.
func dial(t testing.TB, h *Host, local, remote netip.AddrPort) *net.TCPConn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := h.tcp().Dial(ctx, local, remote, 0)
	require.NoError(t, err, "%s: %v to %v", h.Name(), local, remote)
	t.Cleanup(func() { c.Close() })
	return c
}

func accept(t testing.TB, ln *net.TCPListener) *net.TCPConn {
	t.Helper()
	require.NoError(t, ln.SetDeadline(time.Now().Add(patience)))
	c, err := ln.AcceptTCP()
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

// connect is dial and accept: it returns both ends.
func connect(t testing.TB, h *Host, local netip.AddrPort, ln *net.TCPListener) (near, far *net.TCPConn) {
	t.Helper()
	near = dial(t, h, local, sock.AddrPort(ln.Addr()))
	return near, accept(t, ln)
}

// attempt is a dial under way that may never end.
type attempt struct {
	cancel context.CancelFunc
	err    chan error // one value
}

func start(t testing.TB, h *Host, local, remote netip.AddrPort, ttl int) *attempt {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	a := &attempt{cancel, make(chan error, 1)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := h.tcp().Dial(ctx, local, remote, ttl)
		if err == nil {
			sock.Abort(c)
		}
		a.err <- err
	}()
	t.Cleanup(func() { cancel(); <-done })
	return a
}

// pass sends bytes both ways, so that what was sent before them has arrived.
func pass(t testing.TB, a, b net.Conn) {
	t.Helper()
	buf := make([]byte, 4)
	for _, c := range [][2]net.Conn{{a, b}, {b, a}} {
		require.NoError(t, c[1].SetDeadline(time.Now().Add(patience)))
		_, err := c[0].Write([]byte("ping"))
		require.NoError(t, err)
		_, err = c[1].Read(buf)
		require.NoError(t, err)
	}
}

// world is a host behind a router and two servers outside.
type world struct {
	*Lab
	*watch
	router router
	alice  *Host
	s1, s2 *Host
	mapped netip.AddrPort // alice's public endpoint towards s1:p
	kept   [2]net.Conn    // the connection of alice to s1:p
	beside [2]net.Conn    // one between s2 and s1, past the router
	knocks uint16
}

// The ports in a world.
const (
	portAlice = 41000
	portP     = 80
	portQ     = 81
	portR     = 82
	portKnock = 500   // and the next ones: where servers dial from
	portFresh = 42000 // never mapped
)

// newWorld makes the world and alice's first connection, from portAlice, where
// she listens too.
func newWorld(t testing.TB, seed uint64, make func(*Lab) router) *world {
	w := &world{watch: newWatch()}
	w.Lab = Start(t, Config{Seed: seed, Trace: w.watch})
	w.router = make(w.Lab)
	w.alice = w.Host("alice", w.router, Link{})
	w.s1, w.s2 = w.Host("s1", nil, Link{}), w.Host("s2", nil, Link{})
	listen(t, w.alice, w.alice.AddrPort(portAlice))
	near, far := connect(t, w.alice, w.alice.AddrPort(portAlice), listen(t, w.s1, w.s1.AddrPort(portP)))
	w.kept, w.mapped = [2]net.Conn{near, far}, sock.AddrPort(far.RemoteAddr())
	near, far = connect(t, w.s2, netip.AddrPort{}, listen(t, w.s1, w.s1.AddrPort(portKnock)))
	w.beside = [2]net.Conn{near, far}
	return w
}

// seenFrom returns alice's public endpoint as another server port sees it.
func (w *world) seenFrom(t testing.TB, server *Host, port uint16) netip.AddrPort {
	t.Helper()
	_, far := connect(t, w.alice, w.alice.AddrPort(portAlice), listen(t, server, server.AddrPort(port)))
	return sock.AddrPort(far.RemoteAddr())
}

// knock sends a SYN to a public endpoint of the router, from a port that alice
// has never heard of, and says what became of it: "in", "refused",
// "unreachable" or "dropped". Nothing here waits for a timeout: the lab carries
// what a host sends in order, so when bytes that the host sent after the SYN
// have arrived, the SYN has reached the router; and when then bytes have gone
// through the router and back, so has what the router let through or answered.
func (w *world) knock(t testing.TB, from *Host, to netip.AddrPort) string {
	t.Helper()
	w.knocks++
	local := from.AddrPort(portKnock + w.knocks)
	a := start(t, from, local, to, 0)
	defer a.cancel()
	w.await(t, from.Name()+" send", flow(local, to, "S"))
	pass(t, w.beside[0], w.beside[1])
	pass(t, w.kept[1], w.kept[0])
	switch {
	case w.has(w.alice.Name()+" receive", local.String()+" > ", " S seq"):
		return "in"
	case w.has(from.Name()+" receive", flow(to, local, "RA")):
		return "refused"
	case w.has(from.Name()+" receive", "unreachable", pair(local, to)):
		return "unreachable"
	}
	return "dropped"
}
