package stunt_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/gostunt/stunt"
)

// TestStrangersKeepNobodyOut: through a NAT that lets everybody in, a stranger
// takes as many connections to the punched port as it gets, and says nothing or
// the wrong thing. Peers come in all the same, before and after it is dropped,
// and it has not heard a byte.
func TestStrangersKeepNobodyOut(t *testing.T) {
	t.Parallel() // most of it is waiting
	w := newWorld(t, 4*time.Millisecond)
	w.noIPv6 = true
	sessions := make(chan netip.AddrPort, 4)
	a := w.node(w.behind("a", "eim-eif"), stunt.Config{ID: "a", Relay: stunt.RelayNever, Trace: &stunt.Trace{
		Session: func(_, public netip.AddrPort) { sessions <- public },
	}})
	b := w.node(w.behind("b", "eim-apdf"), stunt.Config{})
	ln := listen(t, a, 0)
	w.ready(a, b)
	port := nextSession(t, sessions)
	stranger := w.at("stranger", "")

	var all errgroup.Group
	in := make(chan struct{}, 40)
	for i := range cap(in) {
		all.Go(func() error {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			c, err := stranger.Dial(ctx, "tcp4", port.String())
			in <- struct{}{}
			if errors.Is(err, syscall.ECONNRESET) {
				return nil // dropped before we knew that it stood
			}
			if err != nil {
				return err
			}
			defer c.Close()
			if i%4 == 0 {
				c.Write([]byte("GET / HTTP/1.1\r\n\r\n")) // an error: it has been dropped already
			}
			c.SetReadDeadline(time.Now().Add(20 * time.Second))
			heard, err := io.ReadAll(c)
			if len(heard) > 0 || !errors.Is(err, syscall.ECONNRESET) {
				return fmt.Errorf("a stranger heard %q, and was not dropped: %w", heard, err)
			}
			return nil
		})
	}
	for range cap(in) {
		<-in
	}
	for range 3 {
		l := connect(t, b, ln)
		require.Equal(t, port, l.dialer.Path().Remote, "it is the same port")
		requirePingPong(t, l)
		l.close()
	}
	require.NoError(t, all.Wait())
	l := connect(t, b, ln)
	requirePingPong(t, l)
	l.close()
}

// requirePingPong shows that a connection works both ways.
func requirePingPong(t *testing.T, l link) {
	t.Helper()
	for _, d := range [][2]*stunt.Conn{{l.dialer, l.listener}, {l.listener, l.dialer}} {
		_, err := d[0].Write([]byte("ping"))
		require.NoError(t, err)
		d[1].SetReadDeadline(time.Now().Add(20 * time.Second))
		_, err = io.ReadFull(d[1], make([]byte, 4))
		require.NoError(t, err)
	}
}
