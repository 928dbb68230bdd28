package grid

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/gostunt/stunt"
	"github.com/gostunt/stunt/natlab"
	"github.com/gostunt/stunt/stuntd"
)

const (
	// The budget of a process with one node, as [stunt.Config] has it.
	guessSockets, guessSYNs = 2048, 1500

	peerID = "peer"
)

// nodes are the product: a stuntd, and a node at each end.
type nodes struct {
	world            *world
	server           *stuntd.Server
	address          string
	hosts            hosts
	listener, dialer *stunt.Node
	echoes           sync.WaitGroup
}

// serve starts the server, with two addresses and two ports, and returns its
// address for nodes: that of the only family that the link carries well.
func (n *nodes) serve(h *natlab.Host, state string) (string, error) {
	c := stuntd.Config{Open: h.Do, StateDir: state}
	addrs := []netip.Addr{h.Addr(), h.AddAddr()}
	if h.Addr6().IsValid() {
		addrs = []netip.Addr{h.Addr6()}
	}
	for _, port := range []uint16{port1, port2} {
		for _, a := range addrs {
			c.Listen = append(c.Listen, netip.AddrPortFrom(a, port).String())
		}
	}
	var err error
	if n.server, err = stuntd.Start(c); err != nil {
		return "", err
	}
	return n.server.Address(), nil
}

// start makes both nodes and waits until they know their NAT.
func (n *nodes) start(ctx context.Context, h hosts, address string) error {
	n.address, n.hosts = address, h
	n.listener = n.node(h.listener, stunt.Config{Server: address, ID: peerID})
	n.dialer = n.node(h.dialer, stunt.Config{Server: address, Relay: stunt.RelayNever}) // measured are direct paths
	ln, err := n.listener.Listen(ctx, 0)
	if err != nil {
		return err
	}
	n.echoes.Go(func() { n.echo(ln) })
	for _, x := range []*stunt.Node{n.listener, n.dialer} {
		if _, err := x.Report(ctx); err != nil {
			return fmt.Errorf("the probe of a NAT: %w", err)
		}
	}
	return nil
}

// takeRelay has another node dial from here on, which may take the relay.
func (n *nodes) takeRelay(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, buildTimeout)
	defer cancel()
	n.dialer.Close()
	n.dialer = n.node(n.hosts.dialer, stunt.Config{Server: n.address})
	_, err := n.dialer.Report(ctx)
	return err
}

func (n *nodes) node(h *natlab.Host, c stunt.Config) *stunt.Node {
	c.OpenSocket, c.Window = h.Do, n.world.config.Window
	// Every node is a machine of its own, so it does not share the budget of
	// this process.
	c.Budget = stunt.NewBudget(guessSockets, guessSYNs)
	c.Trace = &stunt.Trace{Step: func(s stunt.Step) {
		n.world.trace.note(h.Name(), "%-9s %v %s %v", s.Phase, s.Remote, s.Method, s.Err)
	}}
	return &stunt.Node{Config: c}
}

// echo sends back what comes, until its listener is closed.
func (n *nodes) echo(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		n.echoes.Go(func() { // ends with the dialer's end of c, or at its deadline
			defer c.Close()
			c.SetDeadline(time.Now().Add(talkTimeout))
			io.Copy(c, c)
		})
	}
}

// prepare does nothing: all that a node does for a dial is part of it.
func (n *nodes) prepare(context.Context) error { return nil }

func (n *nodes) dial(ctx context.Context, _ int) (net.Conn, stunt.Method, error) {
	c, err := n.dialer.Dial(ctx, "tcp", peerID)
	if err != nil {
		return nil, "", err
	}
	return c, c.Path().Method, nil
}

func (n *nodes) close() {
	for _, x := range []*stunt.Node{n.dialer, n.listener} {
		if x != nil {
			x.Close()
		}
	}
	n.echoes.Wait()
	if n.server != nil {
		n.server.Close()
	}
}
