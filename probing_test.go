package stunt_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt"
	"github.com/gostunt/stunt/natlab"
	"github.com/gostunt/stunt/probe"
)

// The NAT is probed beside the handshakes of the session: a server that never
// answers these tells what the NAT does all the same.
func TestProbeNeedsNoSession(t *testing.T) {
	t.Parallel()
	natlab.Need(t)
	lab := natlab.Start(t, natlab.Config{Seed: 1})
	w := &world{t: t, lab: lab}
	w.host = lab.Host("server", nil, natlab.Link{})
	ln, err := w.host.Listen(t.Context(), "tcp4", w.host.AddrPort(3478).String())
	require.NoError(t, err)
	var serving sync.WaitGroup
	defer serving.Wait()
	defer ln.Close()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	serving.Go(func() { onlySTUN(ctx, ln, &serving) })

	probed := make(chan *probe.Report, 4)
	n := &stunt.Node{Config: stunt.Config{
		Server:     w.host.AddrPort(3478).String(),
		OpenSocket: w.behind("home", "eim-apdf").Do,
		Trace:      &stunt.Trace{Probed: func(r *probe.Report) { probed <- r }},
	}}
	defer n.Close()
	up := make(chan error, 1)
	go func() { up <- n.Up(ctx) }()
	r := <-probed
	require.Equal(t, probe.EIM, r.Mapping)
	stop()
	require.ErrorIs(t, <-up, context.Canceled, "there was no session")
}

// onlySTUN serves STUN, and says nothing to who begins with something else.
func onlySTUN(ctx context.Context, ln net.Listener, serving *sync.WaitGroup) {
	s := new(probe.Server)
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		serving.Go(func() {
			defer c.Close()
			defer context.AfterFunc(ctx, func() { c.Close() })()
			r := bufio.NewReader(c)
			first, err := r.Peek(1)
			switch {
			case err != nil:
			case first[0] <= 1:
				s.ServeConn(ctx, peeked{c, r})
			default:
				io.Copy(io.Discard, r)
			}
		})
	}
}

// peeked is a connection whose first bytes are in a reader.
type peeked struct {
	net.Conn
	r *bufio.Reader
}

func (c peeked) Read(b []byte) (int, error) { return c.r.Read(b) }
