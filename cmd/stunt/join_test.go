package main

import (
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// tcpPair returns the two ends of a connection over loopback.
func tcpPair(t *testing.T) (a, b *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	d, err := ln.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { d.Close() })
	return c.(*net.TCPConn), d.(*net.TCPConn)
}

// TestFlowPassesNoFalseEnd: a service dies in mid-sentence while it is written
// to. Whichever direction is told of the RST, its client must not take what has
// come for all.
func TestFlowPassesNoFalseEnd(t *testing.T) {
	for range 100 {
		client, in := tcpPair(t)
		out, service := tcpPair(t)
		var wg sync.WaitGroup
		wg.Go(func() { flow(&end{halfCloser: in}, &end{halfCloser: out}) })
		wg.Go(func() { // the other direction; ends with the connection
			for err := error(nil); err == nil; {
				_, err = out.Write([]byte("x"))
			}
		})
		_, err := io.ReadFull(service, make([]byte, 10))
		require.NoError(t, err)
		_, err = io.WriteString(service, "part")
		require.NoError(t, err)
		cut(service)
		_, err = io.ReadAll(client)
		require.ErrorIs(t, err, syscall.ECONNRESET, "a part is not the whole")
		wg.Wait()
	}
}

// TestSignalIsNoEnd: whichever command a signal ends, what it was passing on is
// cut off, and neither the service nor its client takes it for all.
func TestSignalIsNoEnd(t *testing.T) {
	address := server(t)
	key, _ := newKey(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	for i, mode := range []string{"", "--raw"} {
		id := []string{"alice", "bob"}[i]
		args := strings.Fields("--server " + address + " " + mode)
		_, stopListen := listening(t, id, address, append(args, "--to", ln.Addr().String())...)

		// dial, with stdin and stdout
		in, stdin := io.Pipe()
		defer stdin.Close()
		ctx, signal := context.WithCancel(t.Context())
		code := make(chan int, 1)
		go func() { // ends with ctx
			code <- run(ctx, env{in: in, out: io.Discard, err: io.Discard}, append([]string{"dial", id, "--key", key}, args...))
		}()
		service := met(t, stdin, ln)
		signal()
		require.Zero(t, <-code)
		requireCut(t, service)

		// dial --local, and after it listen
		for _, end := range []string{"dial", "listen"} {
			stderr, stopDial := background(t, append([]string{"dial", id, "--local", "127.0.0.1:0", "--key", key}, args...)...)
			local, _, _ := strings.Cut(stderr.await(t, "listening on "), ",")
			client, err := net.Dial("tcp", local)
			require.NoError(t, err)
			defer client.Close()
			service := met(t, client, ln)
			if end == "dial" {
				require.Zero(t, stopDial())
			} else {
				require.Zero(t, stopListen())
			}
			requireCut(t, service)
			requireCut(t, client)
		}
	}
}

// met sends a part of something, and returns the connection of the service that
// got it.
func met(t *testing.T, w io.Writer, ln net.Listener) net.Conn {
	t.Helper()
	sent := make(chan error, 1)
	go func() {
		_, err := io.WriteString(w, "part")
		sent <- err
	}()
	service, err := ln.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { service.Close() })
	_, err = io.ReadFull(service, make([]byte, 4))
	require.NoError(t, err)
	require.NoError(t, <-sent)
	return service
}

// requireCut waits for the end of a connection, which must not be a proper one.
func requireCut(t *testing.T, c net.Conn) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(20 * time.Second))
	_, err := io.ReadAll(c)
	require.ErrorIs(t, err, syscall.ECONNRESET, "a part is not the whole")
}
