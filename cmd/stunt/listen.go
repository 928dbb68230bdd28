package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/gostunt/stunt"
)

// runListen makes a TCP service that this machine can reach, reachable for
// peers under an ID.
func runListen(ctx context.Context, e *env, args []string) error {
	f := newFlags(e, "listen")
	nf := f.node()
	nf.listens = true
	nf.portmap(f)
	f.BoolVar(&nf.raw, "raw", false, "also accept connections that are authenticated, but not encrypted")
	f.BoolVar(&nf.resume, "resume", false, "let connections outlive their path, if the dialer wants that, too")
	f.Var(&nf.relay, "relay", "`policy`, auto, never or only: whether a server may carry the bytes where no direct path is found; auto by default")
	to := f.String("to", "", "`host:port` of the service that connections are passed to")
	var allow list
	f.Var(&allow, "allow", "`fingerprint` or name of a peer that may connect, repeated; default: everybody who knows the ID")
	rest, err := f.parse(args, 1, 1)
	if err != nil {
		return err
	}
	if *to == "" {
		return f.wrong("where to? set --to host:port")
	}
	if err := checkHostPort(*to); err != nil {
		return f.wrong("--to: %v", err)
	}
	for i, who := range allow {
		a, err := stunt.ParseAddr(who)
		if err != nil || a.Port != 0 {
			return f.wrong("--allow: %q is neither a name nor a fingerprint", who)
		}
		allow[i] = a.ID // in lower case
	}
	addr, err := stunt.ParseAddr(rest[0])
	if err != nil {
		return f.wrong("%v", err)
	}
	c, err := nf.config(f)
	if err != nil {
		return err
	}
	c.ID, c.Trace = addr.ID, tellMoves(e)
	if len(allow) > 0 {
		c.Allow = allowOnly(allow)
	}
	n := &stunt.Node{Config: c}
	defer n.Close()
	if err := up(ctx, e, n); err != nil {
		return err
	}
	ln, err := n.Listen(ctx, addr.Port)
	if err != nil {
		return err
	}
	fmt.Fprintf(e.err, "listening as %v, passing to %s\n", ln.Addr(), *to)
	fmt.Fprintf(e.err, "connect with:  stunt dial %v --server '%s'\n", ln.Addr(), c.Server)
	fmt.Fprintf(e.err, "or, trusting no server, with the ID:  %s\n", stunt.Fingerprint(n.Key()))
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	var all sync.WaitGroup
	defer all.Wait()
	for {
		conn, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) { // by a signal
			return nil
		}
		if err != nil { // what is connected goes on
			fmt.Fprintf(e.err, "no more connections: %v\n", err)
			return err
		}
		all.Go(func() { pass(ctx, e, conn.(*stunt.Conn), *to) }) // ends with its connection, or ctx
	}
}

// tellMoves says when a connection that began over a relay has become direct,
// and when one that can be resumed loses its path and has another.
func tellMoves(e *env) *stunt.Trace {
	return &stunt.Trace{Step: func(s stunt.Step) {
		switch s.Phase {
		case stunt.PhaseMoved:
			fmt.Fprintf(e.err, "%s: goes on directly, %s to %v\n", s.Peer, s.Method, s.Remote)
		case stunt.PhaseLost:
			fmt.Fprintf(e.err, "%s: path lost: %v\n", s.Peer, s.Err)
		case stunt.PhaseResumed:
			fmt.Fprintf(e.err, "%s: goes on, %s to %v\n", s.Peer, s.Method, s.Remote)
		}
	}}
}

// allowOnly admits peers by fingerprint, or by the name that the server
// vouches for.
func allowOnly(who []string) func(context.Context, stunt.Peer) error {
	return func(_ context.Context, p stunt.Peer) error {
		if slices.Contains(who, p.Fingerprint()) || p.ID != "" && slices.Contains(who, p.ID) {
			return nil
		}
		return errors.New("not on the list")
	}
}

// pass connects a peer with the local service.
func pass(ctx context.Context, e *env, peer *stunt.Conn, to string) {
	defer peer.Close()
	d := net.Dialer{Timeout: 10 * time.Second}
	service, err := d.DialContext(ctx, "tcp", to)
	if err != nil {
		fmt.Fprintf(e.err, "%v: %v\n", peer.Peer(), err)
		cut(peer)
		return
	}
	defer service.Close()
	fmt.Fprintf(e.err, "%v: connected, %v\n", peer.Peer(), peer.Path())
	began := time.Now()
	in, out := join(ctx, peer, service.(*net.TCPConn))
	fmt.Fprintf(e.err, "%v: closed after %v, %d bytes in, %d out\n", peer.Peer(), time.Since(began).Round(time.Millisecond), in, out)
}
