package stunt_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt"
	"github.com/gostunt/stunt/natlab"
	"github.com/gostunt/stunt/natlab/nat"
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
	for r.Mapping == probe.MappingUnknown { // what a SYN gets may be known before
		r = <-probed
	}
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

// A node whose sessions come from another address has its NAT probed again.
func TestProbedAgainElsewhere(t *testing.T) {
	t.Parallel() // most of it is waiting
	natlab.Need(t)
	w := newWorld(t, 4*time.Millisecond)
	reports := make(chan *probe.Report, 16)
	h := w.behind("laptop", "eim-apdf")
	n := w.node(h, stunt.Config{CacheDir: t.TempDir(), Trace: &stunt.Trace{Probed: func(r *probe.Report) { reports <- r }}})
	require.NoError(t, n.Up(t.Context()))
	at := func(m probe.Mapping) netip.Addr {
		for r := range reports {
			if r.Mapping == m {
				return r.Public[0]
			}
		}
		return netip.Addr{}
	}
	home := at(probe.EIM)

	away, _ := nat.Profile("apdm-random")
	require.NoError(t, w.server.Close())
	_, err := h.Dial(t.Context(), "tcp4", w.host.AddrPort(9).String())
	require.ErrorIs(t, err, syscall.ECONNREFUSED, "what the server sent before has come, too: the session has ended")
	h.Move(w.lab.NAT("cafe", nil, away, w.link()), natlab.Link{})
	w.serve()
	require.NotEqual(t, home, at(probe.APDM))
}
