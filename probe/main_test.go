package probe

import (
	"context"
	"io"
	"net"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt/internal/sock"
)

// start runs s on the endpoints at ("127.0.0.1:0 127.0.0.1:1" means two ports
// of one address: a port below 1024 stands for the one that the system picks for
// it) and returns them. Everything has ended when the test does.
func start(t *testing.T, s *Server, at ...string) []netip.AddrPort {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ports := map[uint16]uint16{}
	var lns []*net.TCPListener
	for _, a := range at {
		want := netip.MustParseAddrPort(a)
		port := ports[want.Port()]
		if want.Port() >= 1024 {
			port = want.Port()
		}
		ln, err := new(sock.Net).Listen(ctx, netip.AddrPortFrom(want.Addr(), port))
		require.NoError(t, err)
		require.NoError(t, sock.SaveSYN(ln))
		ep := sock.AddrPort(ln.Addr())
		ports[want.Port()] = ep.Port()
		lns = append(lns, ln)
		s.Alternates = append(s.Alternates, ep)
	}
	run(t, ctx, cancel, s.ServeConn, lns)
	return s.Alternates
}

// serveConn is Server.ServeConn, or a wrapper of it.
type serveConn func(context.Context, net.Conn)

// run serves on the listeners until the test ends, and waits for it.
func run(t testing.TB, ctx context.Context, cancel context.CancelFunc, s serveConn, lns []*net.TCPListener) {
	done := make(chan struct{}, len(lns)) // one from each listener
	for _, ln := range lns {
		go func() {
			serve(ctx, s, ln)
			done <- struct{}{}
		}()
	}
	t.Cleanup(func() {
		cancel()
		for _, ln := range lns {
			ln.Close()
		}
		for range lns {
			<-done
		}
	})
}

// serve accepts until ln is closed and waits for the connections.
func serve(ctx context.Context, s serveConn, ln *net.TCPListener) {
	ended := make(chan struct{})
	n := 0
	for {
		c, err := ln.AcceptTCP()
		if err != nil {
			break
		}
		n++
		go func() {
			s(ctx, c)
			ended <- struct{}{}
		}()
	}
	for range n {
		<-ended
	}
}

// dial connects to a server of the test.
func dial(t *testing.T, to netip.AddrPort) *net.TCPConn {
	t.Helper()
	c, err := new(sock.Net).Dial(t.Context(), netip.AddrPort{}, to, 0)
	require.NoError(t, err)
	t.Cleanup(func() { sock.Abort(c) })
	return c
}

// dialBackVisit is one dial back: where it came from, and what it brought.
type dialBackVisit struct {
	from netip.AddrPort
	t    token
}

// visitsTo takes the dial backs to ln, which ends it when it is closed.
func visitsTo(ln *net.TCPListener) <-chan dialBackVisit {
	visits := make(chan dialBackVisit, 8) // closed by the goroutine
	go func() {
		defer close(visits)
		for {
			v, err := ln.AcceptTCP()
			if err != nil {
				return
			}
			var got token
			io.ReadFull(v, got[:])
			visits <- dialBackVisit{sock.AddrPort(v.RemoteAddr()), got}
			sock.Abort(v)
		}
	}()
	return visits
}
