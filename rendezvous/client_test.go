package rendezvous

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/libp2p/go-reuseport"
	"github.com/stretchr/testify/require"
)

// newSilentServer returns a running client with something to say and the first
// connection it makes, to a server that answers nothing.
func newSilentServer(t *testing.T) (*Client, func() net.Conn) {
	cert, _ := serverCert(t)
	ln, err := tls.Listen("tcp", "127.0.0.1:0", ServerTLS(cert))
	require.NoError(t, err)
	c := NewClient(ClientConfig{Key: newKey(t), Servers: []ServerAddr{
		{Host: "127.0.0.1", Port: uint16(ln.Addr().(*net.TCPAddr).Port), Pin: PinOf(cert.Leaf)}}})
	require.NoError(t, c.Update(Info{Candidates: []byte("c")}))
	gate := make(chan struct{}) // closed by the returned func: Run starts when the caller reads
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { <-gate; ran <- c.Run(ctx) }()
	var conn net.Conn
	t.Cleanup(func() {
		cancel()
		ln.Close()
		<-ran
		if conn != nil {
			conn.Close()
		}
	})
	return c, func() net.Conn {
		if conn == nil {
			// Until the caller's Register is on the books.
			require.Eventually(t, func() bool {
				c.mu.Lock()
				defer c.mu.Unlock()
				return len(c.ids) > 0
			}, patience, time.Millisecond)
			close(gate)
			conn, err = ln.Accept()
			require.NoError(t, err)
			require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
		}
		return conn
	}
}

func TestServerWithCertificateAuthority(t *testing.T) {
	h := serve(t, &Server{Agent: "test server"})
	bare := h.addr
	bare.Pin = Pin{}
	n := h.client(t, ClientConfig{Servers: []ServerAddr{bare}, RootCAs: h.pool})
	w, err := n.Ready(within(t))
	require.NoError(t, err)
	require.Equal(t, "test server", w.Agent)
}

// A server that was killed comes back with nothing; its clients bring it all.
func TestServerKilledAndBack(t *testing.T) {
	h, a, b := pair(t, &Server{})
	call, err := a.Dial(within(t), DialRequest{Peer: "bob"})
	require.NoError(t, err)
	unanswered := receive(t, b.offers, "an Offer")
	talking, err := a.Dial(within(t), DialRequest{Peer: "bob"})
	require.NoError(t, err)
	answered := receive(t, b.offers, "an Offer")
	require.NoError(t, answered.Answer(Answer{}))
	receive(t, talking.Answer, "an Answer")

	h.stop()
	receive(t, call.Done, "a call without an answer ends with the session")
	cut := func(err error) bool { return errors.Is(err, ErrDisconnected) || errors.Is(err, CodePeerGone) }
	require.True(t, cut(call.Err()), "%v, by whichever session the server lost first", call.Err())
	receive(t, unanswered.Done, "and so does its offer")
	require.True(t, cut(unanswered.Err()), "%v", unanswered.Err())
	receive(t, a.down, "OnDown")
	receive(t, b.down, "OnDown")
	require.NoError(t, talking.Err(), "one with an answer goes on")
	require.NoError(t, answered.Err())
	talking.Conclude(Outcome{OK: true}) // nobody hears it, and nothing breaks

	receive(t, b.up, "the first session")
	h.start(t, &Server{}, h.addr.HostPort())
	receive(t, b.up, "the second session")
	require.NoError(t, b.Register(within(t), "bob"), "it stands or will")
	require.Eventually(t, func() bool {
		p, err := a.Lookup(within(t), "bob")
		return err == nil && string(p.Report) == "report b"
	}, patience, 10*time.Millisecond, "registered again, with its report")
	require.Empty(t, b.lost)
}

// A name that another key took while we were away is lost, and said to be.
func TestNameLostWhileAway(t *testing.T) {
	h := serve(t, &Server{})
	away := make(chan struct{}, 1) // one value lets one connection through
	away <- struct{}{}
	n := h.client(t, ClientConfig{Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
		select {
		case <-away:
			return (&net.Dialer{}).DialContext(ctx, network, addr)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}})
	require.NoError(t, n.Register(within(t), "bob"))
	h.stop()
	h.start(t, &Server{}, h.addr.HostPort())
	h.peer(t, newKey(t)).register("bob")
	away <- struct{}{}
	require.Equal(t, "bob", receive(t, n.lost, "OnLost"))
	require.ErrorIs(t, n.Register(within(t), "bob"), CodeIDTaken, "the session itself stands")
}

func TestSeveralServers(t *testing.T) {
	first, second := serve(t, &Server{}), serve(t, &Server{})
	untrusted := second.addr
	untrusted.Pin[5]++
	n := first.client(t, ClientConfig{Servers: []ServerAddr{untrusted, first.addr, second.addr}})
	require.NoError(t, n.Register(within(t), "alice"), "one that is refused for good leaves the others")
	require.ErrorIs(t, receive(t, n.down, "OnDown"), ErrPin)
	asker := second.join(t, newKey(t))
	_, err := asker.Lookup(within(t), "alice")
	require.ErrorIs(t, err, CodeUnknownPeer)
	first.stop()
	require.Eventually(t, func() bool {
		_, err := asker.Lookup(within(t), "alice")
		return err == nil
	}, patience, 10*time.Millisecond, "it goes on at the next")
}

// Shutdown sends everybody away, to where there is another server.
func TestDrain(t *testing.T) {
	first, second := serve(t, &Server{Drain: 50 * time.Millisecond}), serve(t, &Server{})
	n := first.client(t, ClientConfig{Servers: []ServerAddr{first.addr, second.addr}})
	require.NoError(t, n.Register(within(t), "alice"))
	require.NoError(t, first.server.Shutdown(within(t)))
	require.ErrorIs(t, receive(t, n.down, "OnDown"), errDrained)
	asker := second.join(t, newKey(t))
	require.Eventually(t, func() bool {
		_, err := asker.Lookup(within(t), "alice")
		return err == nil
	}, patience, 10*time.Millisecond)
	require.Zero(t, first.server.Sessions())
}

func TestDrainingServerTakesNobody(t *testing.T) {
	h := serve(t, &Server{Drain: time.Hour})
	stays := h.peer(t, newKey(t)) // does not leave when asked
	ctx, cancel := context.WithCancel(t.Context())
	down := make(chan error, 1)
	go func() { down <- h.server.Shutdown(ctx) }()
	read[*bye](stays)
	late := h.raw(t, newKey(t))
	late.send(&hello{Min: 1, Max: 1})
	late.refusal(CodeShuttingDown)
	late.gone()
	stays.send(&ping{}) // what stands goes on
	read[*pong](stays)
	cancel()
	require.ErrorIs(t, receive(t, down, "the end of Shutdown"), context.Canceled)
	stays.gone()
}

// Pings keep a session that has nothing to say.
func TestKeepalive(t *testing.T) {
	pings := make(chan struct{}, 3)
	addr := foreign(t, []string{ALPN}, func(c net.Conn) {
		write(c, &Welcome{Version: 1, Observed: netip.MustParseAddrPort("192.0.2.1:1"), Keepalive: minKeepalive})
		for {
			m, err := readMessage(c, func() {})
			if err != nil {
				return
			}
			if _, ok := m.(*ping); ok {
				write(c, &pong{})
				select {
				case pings <- struct{}{}:
				default:
				}
			}
		}
	})
	n := (&host{}).client(t, ClientConfig{Servers: []ServerAddr{addr}})
	for range 3 {
		receive(t, pings, "a ping")
	}
	require.Empty(t, n.down)
}

func TestSilentClientIsDropped(t *testing.T) {
	h := serve(t, &Server{Keepalive: 20 * time.Millisecond})
	h.peer(t, newKey(t)).gone()
	require.ErrorIs(t, receive(t, h.ended, "the end"), os.ErrDeadlineExceeded)
}

// A server that stops answering is left, however alive its TCP looks.
func TestServerFallsSilent(t *testing.T) {
	mute := foreign(t, []string{ALPN}, func(c net.Conn) {
		write(c, &Welcome{Version: 1, Observed: netip.MustParseAddrPort("192.0.2.1:1"), Keepalive: minKeepalive})
		io.Copy(io.Discard, c)
	})
	n := (&host{}).client(t, ClientConfig{Servers: []ServerAddr{mute}, Timeout: 200 * time.Millisecond})
	receive(t, n.up, "a session")
	err := receive(t, n.down, "its end")
	var timeout net.Error
	require.ErrorAs(t, err, &timeout)
	require.True(t, timeout.Timeout())
}

// The port that a session used can connect to the same server again at once,
// with a listener beside it, as holes are punched.
func TestSamePortAgain(t *testing.T) {
	h := serve(t, &Server{})
	lc := net.ListenConfig{Control: reuseport.Control}
	ln, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	d := net.Dialer{Control: reuseport.Control, LocalAddr: ln.Addr()}
	key := newKey(t)
	for range 5 {
		n := h.client(t, ClientConfig{Key: key, Dial: d.DialContext})
		w, err := n.Ready(within(t))
		require.NoError(t, err)
		require.Equal(t, ln.Addr().(*net.TCPAddr).AddrPort(), w.Observed)
		n.stop()
		require.Empty(t, n.down, "the port was free")
	}
}

// What is queued when a client is stopped still goes out.
func TestStopFlushes(t *testing.T) {
	verdicts := make(chan Verdict, 1)
	_, a, b := pair(t, &Server{Trace: &Trace{Outcome: func(v Verdict) { verdicts <- v }}})
	call, err := a.Dial(within(t), DialRequest{Peer: "bob"})
	require.NoError(t, err)
	require.NoError(t, receive(t, b.offers, "an Offer").Answer(Answer{}))
	receive(t, call.Answer, "an Answer")
	call.Conclude(Outcome{OK: true, Method: "direct"})
	a.stop()
	require.Equal(t, "direct", receive(t, verdicts, "the outcome").Outcome.Method)
}

// A caller that waits in vain learns both that its time is over and why.
func TestNoServerThere(t *testing.T) {
	h := serve(t, &Server{})
	h.stop()
	n := h.client(t, ClientConfig{})
	receive(t, n.down, "the first attempt")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := n.Ready(ctx)
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, err, ErrDisconnected)
	require.ErrorContains(t, err, "refused")
	_, err = n.Lookup(ctx, "bob")
	require.ErrorIs(t, err, ErrDisconnected)
	require.ErrorIs(t, n.Register(ctx, "bob"), ErrDisconnected)
	require.NoError(t, n.Deregister(ctx, "bob"), "there is nothing to give up")
}
