package probe

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt/internal/sock"
	"github.com/gostunt/stunt/natlab"
	"github.com/gostunt/stunt/natlab/nat"
)

// What the tests of half-open mappings rest on: a SYN whose TTL does not last
// is explained, and one that endures that is still there for the other end's.
func TestKernelAndTTL(t *testing.T) {
	lab := natlab.Start(t, natlab.Config{Seed: 9})
	router := lab.NAT("router", nil, nat.Config{}, home)
	alice, bob := lab.Host("alice", router, natlab.Link{}), lab.Host("bob", nil, natlab.Link{})
	a, b := &sock.Net{Open: alice.Do}, &sock.Net{Open: bob.Do}

	p, err := a.Begin(alice.AddrPort(40001), bob.AddrPort(3478), sock.Opening{TTL: 1, Explains: true})
	require.NoError(t, err)
	_, err = p.Wait(t.Context())
	require.Equal(t, sock.Unreachable, sock.Classify(err))
	var e *sock.ICMPError
	require.ErrorAs(t, err, &e)
	require.True(t, e.TimeExceeded())
	require.Equal(t, router.Private().Addr().Next(), e.From)
	require.NotZero(t, e.Seq)

	p, err = a.Begin(alice.AddrPort(40000), bob.AddrPort(3478), sock.Opening{TTL: 4, Endures: true})
	require.NoError(t, err)
	dead, err := a.Begin(alice.AddrPort(40002), bob.AddrPort(3478), sock.Opening{TTL: 4})
	require.NoError(t, err)
	_, err = dead.Wait(t.Context())
	require.Equal(t, sock.Unreachable, sock.Classify(err), "the error for the first one has come, too")
	require.NoError(t, p.SetTTL(64))
	ctx, cancel := context.WithTimeout(t.Context(), 900*time.Millisecond) // before the SYN is repeated
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		c, err := p.Wait(ctx)
		if err == nil {
			_, err = c.Write([]byte("!"))
			c.Close()
		}
		ended <- err
	}()
	far, err := b.Dial(ctx, bob.AddrPort(3478), netip.AddrPortFrom(router.Public()[0], 40000), 0)
	require.NoError(t, err)
	defer sock.Abort(far)
	_, err = far.Read(make([]byte, 1))
	require.NoError(t, err)
	require.NoError(t, <-ended)
}
