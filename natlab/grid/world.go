package grid

import (
	"bytes"
	"context"
	"errors"
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
	// buildTimeout bounds all that comes before the first dial. A probe takes
	// 3 s where silence is the answer, longer on a busy machine.
	buildTimeout = time.Minute
	// talkTimeout bounds the exchange over a connection that stands.
	talkTimeout = 10 * time.Second

	// The budget of a process with one node, as [stunt.Config] has it.
	guessSockets, guessSYNs = 2048, 1500

	peerID = "peer"

	listenerHost, dialerHost = "listener", "dialer"
)

// world is a lab with a server and two nodes.
type world struct {
	config Config
	seed   uint64
	trace  trace

	lab              *natlab.Lab
	server           *stuntd.Server
	listener, dialer *stunt.Node
	echoes           sync.WaitGroup
}

// build makes the world of a case and waits until both nodes know their NAT.
// close ends it, also after an error.
func (w *world) build(ctx context.Context, c Case, state string) error {
	ctx, cancel := context.WithTimeout(ctx, buildTimeout)
	defer cancel()
	w.trace.began = time.Now()
	var err error
	if w.lab, err = natlab.New(natlab.Config{Seed: w.seed, Trace: &w.trace}); err != nil {
		return err
	}
	// A quarter of a round trip from each to the core. Only the pairs that are
	// about IPv6 have it: it would cross what the others are about.
	link := natlab.Link{
		Delay: w.config.RTT / 4, Jitter: w.config.Jitter, Loss: w.config.Loss,
		Hops: 2, NoIPv6: !c.ipv6,
	}
	address, err := w.serve(link, state)
	if err != nil {
		return err
	}
	listener, dialer := c.place(w.lab, link)
	w.listener = w.node(listener, stunt.Config{Server: address, ID: peerID})
	w.dialer = w.node(dialer, stunt.Config{Server: address})
	ln, err := w.listener.Listen(ctx, 0)
	if err != nil {
		return err
	}
	w.echoes.Go(func() { w.echo(ln) })
	for _, n := range []*stunt.Node{w.listener, w.dialer} {
		if _, err := n.Report(ctx); err != nil {
			return fmt.Errorf("the probe of a NAT: %w", err)
		}
	}
	return nil
}

// serve starts the server, with two addresses and two ports, and returns its
// address for nodes: that of the only family that the link carries well.
func (w *world) serve(link natlab.Link, state string) (string, error) {
	h := w.lab.Host("server", nil, link)
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
	if w.server, err = stuntd.Start(c); err != nil {
		return "", err
	}
	return w.server.Address(), nil
}

func (w *world) node(h *natlab.Host, c stunt.Config) *stunt.Node {
	c.OpenSocket, c.Window = h.Do, w.config.Window
	c.Relay = stunt.RelayNever // measured are direct paths
	// Every node is a machine of its own, so it does not share the budget of
	// this process.
	c.Budget = stunt.NewBudget(guessSockets, guessSYNs)
	c.Trace = &stunt.Trace{Step: func(s stunt.Step) {
		w.trace.note(h.Name(), "%-9s %v %s %v", s.Phase, s.Remote, s.Method, s.Err)
	}}
	return &stunt.Node{Config: c}
}

// echo sends back what comes, until its listener is closed.
func (w *world) echo(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		w.echoes.Go(func() { // ends with the dialer's end of c, or at its deadline
			defer c.Close()
			c.SetDeadline(time.Now().Add(talkTimeout))
			io.Copy(c, c)
		})
	}
}

// dial makes connection i and checks that bytes pass both ways. Its error is
// that of ctx: a dial that fails is a result.
func (w *world) dial(ctx context.Context, i int) (Dial, error) {
	before := w.trace.count()
	w.trace.note(dialerHost, "dial %d", i)
	began := time.Now()
	c, err := w.dialer.Dial(ctx, "tcp", peerID)
	d := Dial{Took: time.Since(began), Err: err}
	if err == nil {
		d.Method = c.Path().Method
		d.Err = talk(c, i)
	}
	// Those of earlier dials that are still open count here: none gets lost.
	d.SYNs = w.trace.count() - before
	w.trace.note(dialerHost, "dial %d ended after %v: %s %v", i, d.Took, d.Method, d.Err)
	return d, ctx.Err()
}

// talk sends something, hears the same, and closes c.
func talk(c *stunt.Conn, i int) error {
	defer c.Close()
	c.SetDeadline(time.Now().Add(talkTimeout))
	want := fmt.Appendf(nil, "bytes of connection %d", i)
	_, err := c.Write(want)
	if err == nil {
		err = c.CloseWrite()
	}
	got, readErr := io.ReadAll(c)
	if err = errors.Join(err, readErr); err != nil {
		return fmt.Errorf("connected, but: %w", err)
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("connected, but %q came back for %q", got, want)
	}
	return nil
}

// close ends whatever build made.
func (w *world) close() error {
	for _, n := range []*stunt.Node{w.dialer, w.listener} {
		if n != nil {
			n.Close()
		}
	}
	w.echoes.Wait()
	if w.server != nil {
		w.server.Close()
	}
	if w.lab == nil {
		return nil
	}
	return w.lab.Close()
}
