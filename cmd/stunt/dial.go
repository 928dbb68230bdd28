package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"sync"
	"time"

	"github.com/gostunt/stunt"
)

// runDial connects stdin and stdout to a peer, or every connection to a local
// port to one of its own.
func runDial(ctx context.Context, e *env, args []string) error {
	f := newFlags(e, "dial")
	nf := f.node()
	nf.portmap(f)
	f.BoolVar(&nf.raw, "raw", false, "authenticate, but leave the bytes to plain TCP; the listener must allow it")
	f.BoolVar(&nf.resume, "resume", false, "let connections outlive their path, if the listener wants that, too")
	f.Var(&nf.relay, "relay", "`policy`, auto, never or only: whether a server may carry the bytes where no direct path is found; auto by default")
	local := f.String("local", "", "`host:port` to listen on; each connection there is passed to the peer")
	timeout := f.Duration("timeout", 30*time.Second, "give up a dial after this `time`")
	rest, err := f.parse(args, 1, 1)
	if err != nil {
		return err
	}
	if *local != "" {
		if err := checkHostPort(*local); err != nil {
			return f.wrong("--local: %v", err)
		}
	}
	addr, err := stunt.ParseAddr(rest[0])
	if err != nil {
		return f.wrong("%v", err)
	}
	c, err := nf.config(f)
	if err != nil {
		return err
	}
	tell := nf.verbose || *local != ""
	if tell {
		c.Trace = tellMoves(e)
	}
	n := &stunt.Node{Config: c}
	defer n.Close()
	dial := func() (*stunt.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, *timeout)
		defer cancel()
		conn, err := n.Dial(ctx, "tcp", addr.String())
		if err == nil && tell {
			fmt.Fprintf(e.err, "%v: connected, %v\n", conn.Peer(), conn.Path())
		}
		return conn, err
	}
	if *local == "" {
		return dialStdio(ctx, e, dial)
	}
	ln, err := net.Listen("tcp", *local)
	if err != nil {
		return err
	}
	if err := up(ctx, e, n); err != nil {
		ln.Close()
		return err
	}
	fmt.Fprintf(e.err, "listening on %v, passing to %v\n", ln.Addr(), addr)
	return forward(ctx, e, ln, dial)
}

// forward passes every connection that ln accepts to a dial of its own.
func forward(ctx context.Context, e *env, ln net.Listener, dial func() (*stunt.Conn, error)) error {
	var all sync.WaitGroup
	defer all.Wait()
	defer ln.Close()
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	for {
		c, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil { // no file for it: one comes free when a connection ends
			fmt.Fprintln(e.err, err)
			time.Sleep(100 * time.Millisecond)
			continue
		}
		all.Go(func() { // ends with its connection, or ctx
			defer c.Close()
			peer, err := dial()
			if err != nil {
				fmt.Fprintln(e.err, err)
				cut(c) // refused, and not empty
				return
			}
			defer peer.Close()
			join(ctx, peer, c.(*net.TCPConn))
		})
	}
}

// dialStdio is what ssh's ProxyCommand wants: it ends when the peer has closed,
// and tells the peer when stdin is at its end. If it ends before that, by a
// signal or because the peer has, the peer is not told that it was.
func dialStdio(ctx context.Context, e *env, dial func() (*stunt.Conn, error)) error {
	conn, err := dial()
	if err != nil {
		return err
	}
	peer := &end{halfCloser: conn}
	defer peer.leave()
	defer context.AfterFunc(ctx, func() { cut(conn) })()
	go func() { // a read of stdin can't be cut short: this one ends with the process
		if _, err := io.Copy(conn, e.in); err == nil {
			peer.finish()
		}
	}()
	_, err = io.Copy(e.out, conn)
	if err == nil {
		err = peer.ended()
	}
	var own *fs.PathError
	switch {
	case err == nil, ctx.Err() != nil:
		return nil
	case errors.As(err, &own): // stdout is gone
		return own
	}
	// A RST, or a FIN that the peer has not announced; whoever asks the kernel
	// first is told which. To our user they are one thing.
	return fmt.Errorf("the connection broke off: %w", err)
}
