package relay

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	testSecret = Secret{1, 2, 3}
	alice, bob = testKey(1), testKey(2)
)

func testKey(n byte) ed25519.PublicKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize)).Public().(ed25519.PublicKey)
}

// serve runs a relay on loopback until the test ends, and returns its address.
func serve(t testing.TB, s *Server) string {
	t.Helper()
	if s.Secret == (Secret{}) {
		s.Secret = testSecret
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var wg sync.WaitGroup
	wg.Go(func() { // until ln is closed
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				c.SetDeadline(time.Now().Add(5 * time.Second))
				if st, err := s.Greet(c); err == nil {
					c.SetDeadline(time.Time{})
					s.Serve(st)
				}
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		now, cancel := context.WithCancel(context.Background())
		cancel()
		s.Shutdown(now)
		wg.Wait()
		st := s.Stats()
		require.Zero(t, st.Waiting+st.Pairs, "nothing is left")
		require.Empty(t, s.table.keys, "keys without streams are forgotten")
		require.Empty(t, s.table.sources)
	})
	return ln.Addr().String()
}

// tickets are a dial's, of its own.
func tickets() (dialer, listener []byte) {
	var dial [16]byte
	rand.Read(dial[:])
	return testSecret.Tickets(dial, bob, alice, time.Now())
}

// open opens a stream and sends data behind its ticket.
func open(t testing.TB, addr string, ticket []byte, data string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(30 * time.Second))
	pre, err := Preamble(ticket)
	require.NoError(t, err)
	_, err = c.Write(append(pre, data...))
	require.NoError(t, err)
	return c.(*net.TCPConn)
}

// join opens both ends of a pair.
func join(t testing.TB, addr string) (dialer, listener *net.TCPConn) {
	t.Helper()
	td, tl := tickets()
	dialer, listener = open(t, addr, td, ""), open(t, addr, tl, "")
	require.NoError(t, ReadStatus(dialer))
	require.NoError(t, ReadStatus(listener))
	return dialer, listener
}

// status returns how the relay ended a stream that it did not pair.
func status(t testing.TB, c net.Conn) error {
	t.Helper()
	err := ReadStatus(c)
	require.Error(t, err)
	if _, ok := errors.AsType[Status](err); ok {
		_, end := c.Read(make([]byte, 1))
		require.ErrorIs(t, end, io.EOF, "after its word the relay closes")
	}
	return err
}
