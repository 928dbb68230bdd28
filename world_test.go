package stunt_test

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt"
	"github.com/gostunt/stunt/natlab"
	"github.com/gostunt/stunt/natlab/nat"
	"github.com/gostunt/stunt/stuntd"
)

func TestMain(m *testing.M) { natlab.Main(m) }

// world is a lab with a server, for nodes that run in this process and whose
// sockets are in the lab's hosts.
type world struct {
	t      testing.TB
	lab    *natlab.Lab
	host   *natlab.Host // of the server
	config stuntd.Config
	server *stuntd.Server
	rtt    time.Duration
	noIPv6 bool // of hosts that are made from now on
}

// newWorld makes a lab in which a packet takes rtt there and back between any
// two of the server and the NATs.
func newWorld(t testing.TB, rtt time.Duration) *world {
	return newWorldIn(t, natlab.Config{Seed: 1}, rtt)
}

func newWorldIn(t testing.TB, c natlab.Config, rtt time.Duration) *world {
	w := &world{t: t, lab: natlab.Start(t, c), rtt: rtt}
	w.host = w.lab.Host("server", nil, w.link())
	second := w.host.AddAddr()
	w.config = stuntd.Config{Open: w.host.Do, StateDir: t.TempDir()}
	for _, port := range []string{":3478", ":3479"} {
		w.config.Listen = append(w.config.Listen, w.host.Addr().String()+port, second.String()+port)
	}
	w.serve()
	t.Cleanup(func() { w.server.Close() })
	return w
}

// serve starts the server, again if it was closed.
func (w *world) serve() {
	var err error
	w.server, err = stuntd.Start(w.config)
	require.NoError(w.t, err)
}

func (w *world) link() natlab.Link { return natlab.Link{Delay: w.rtt / 4, Hops: 1, NoIPv6: w.noIPv6} }

// behind returns a host behind a NAT of its own.
func (w *world) behind(name, profile string) *natlab.Host {
	c, ok := nat.Profile(profile)
	require.True(w.t, ok, "no NAT profile %q", profile)
	return w.lab.Host(name, w.lab.NAT("nat-"+name, nil, c, w.link()), natlab.Link{})
}

// at returns a host behind a NAT of its own, or a public one if profile is empty.
func (w *world) at(name, profile string) *natlab.Host {
	if profile == "" {
		return w.lab.Host(name, nil, w.link())
	}
	return w.behind(name, profile)
}

// node returns a node on a host. It ends with the test.
func (w *world) node(h *natlab.Host, c stunt.Config) *stunt.Node {
	c.Server = w.server.Address()
	c.OpenSocket = h.Do
	n := &stunt.Node{Config: c}
	w.t.Cleanup(func() { n.Close() })
	return n
}

// ready waits until a node has a session and knows its NAT.
func (w *world) ready(nodes ...*stunt.Node) {
	ctx, cancel := context.WithTimeout(w.t.Context(), 30*time.Second)
	defer cancel()
	for _, n := range nodes {
		n.Key() // a node starts at its first use: all at once
	}
	for _, n := range nodes {
		_, err := n.Report(ctx)
		require.NoError(w.t, err, "a node must get a session and a report")
	}
}

// link is a connection between two nodes, both ends.
type link struct{ dialer, listener *stunt.Conn }

// connect dials a listener and returns both ends.
func connect(t testing.TB, from *stunt.Node, to *stunt.Listener) link {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	c, err := from.Dial(ctx, "tcp", to.Addr().String())
	require.NoError(t, err)
	return link{c, accept(t, to)}
}

// accept accepts, in bounded time.
func accept(t testing.TB, ln *stunt.Listener) *stunt.Conn {
	t.Helper()
	type result struct {
		c   net.Conn
		err error
	}
	got := make(chan result, 1)
	go func() {
		c, err := ln.Accept()
		got <- result{c, err}
	}()
	select {
	case r := <-got:
		require.NoError(t, r.err)
		return r.c.(*stunt.Conn)
	case <-time.After(30 * time.Second):
		require.FailNow(t, "nothing to accept")
		return nil
	}
}

func (l link) close() {
	l.dialer.Close()
	l.listener.Close()
}

// listen listens on a node, for every port.
func listen(t testing.TB, n *stunt.Node, port uint16) *stunt.Listener {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	ln, err := n.Listen(ctx, port)
	require.NoError(t, err)
	t.Cleanup(func() { ln.Close() })
	return ln
}
