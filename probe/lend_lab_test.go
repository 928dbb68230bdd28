package probe

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/gostunt/stunt/internal/sock"
	"github.com/gostunt/stunt/natlab"
	"github.com/gostunt/stunt/natlab/nat"
)

// A lenders test has servers with one address each, of which every first borrows
// from a second, and hosts behind NATs that ask the first.
type lenders struct {
	*testing.T
	lab   *natlab.Lab
	asked map[string]*asked // by group and NAT
}

type asked struct {
	host *natlab.Host
	of   *Server
	v6   bool // as well
}

// server runs a server on a host of its own, at some ports.
func (l *lenders) server(name string, link natlab.Link, from []Lender, ports ...uint16) *Server {
	h := l.lab.Host(name, nil, link)
	s := &Server{Net: &sock.Net{Open: h.Do}, Lenders: func() []Lender { return from }}
	ctx, cancel := context.WithCancel(l.Context())
	var lns []*net.TCPListener
	for _, a := range []netip.Addr{h.Addr(), h.Addr6()} {
		if !a.IsValid() {
			continue
		}
		for _, port := range ports {
			ln, err := s.Net.ListenExclusive(ctx, netip.AddrPortFrom(a, port).String())
			require.NoError(l, err)
			lns = append(lns, ln)
			s.Alternates = append(s.Alternates, sock.AddrPort(ln.Addr()))
		}
	}
	run(l, ctx, cancel, s.ServeConn, lns)
	return s
}

// lender is a server that does what it is asked for with ask.
func lender(s *Server, ask func(context.Context, []byte) ([]byte, error)) []Lender {
	return []Lender{{Endpoints: s.Alternates, Ask: ask}}
}

// by has orders done by a server that is some way off.
func by(s *Server, away time.Duration) func(context.Context, []byte) ([]byte, error) {
	return func(ctx context.Context, order []byte) ([]byte, error) {
		time.Sleep(away) // the way there
		defer time.Sleep(away)
		return s.Lend(ctx, order), nil
	}
}

// behind puts a host behind each of some NATs, to ask a server of them.
func (l *lenders) behind(of *Server, group string, names ...string) {
	for _, name := range names {
		c, ok := nat.Profile(name)
		require.True(l, ok)
		l.put(of, group+" "+name, c)
	}
}

func (l *lenders) put(of *Server, id string, c nat.Config) *asked {
	a := &asked{l.lab.Host(id, l.lab.NAT("nat "+id, nil, c, home), natlab.Link{}), of, false}
	l.asked[id] = a
	return a
}

// ask runs all probes, by group and NAT.
func (l *lenders) ask() map[string]*Report {
	var mu sync.Mutex // guards following
	reports := map[string]*Report{}
	var g errgroup.Group
	for id, a := range l.asked {
		g.Go(func() error {
			cfg := Config{Net: &sock.Net{Open: a.host.Do}, Server: a.of.Alternates[0]}
			if a.v6 {
				cfg.Server6 = a.of.Alternates[len(a.of.Alternates)/2]
			}
			r, err := Run(l.Context(), cfg)
			mu.Lock()
			defer mu.Unlock()
			reports[id] = r
			return err
		})
	}
	require.NoError(l, g.Wait())
	return reports
}

const (
	oneAddress = "mapping EIM or ADM: the server has one address"
	noneCame   = "filtering EIF or ADF: nothing came from another address"
	onePort    = "mapping ADM or APDM: the server has one port"
	notTried   = "filtering APDF or no-syn-in: a SYN against a SYN was not tried"
)

// Two servers with an address each say of every NAT what one says that has two,
// wherever the second is: next door, or further from the nodes than the first, by
// other routers. With a port each, one thing is missing; and a lender that is gone in
// the middle of a run takes away what it would have shown, and makes nothing
// look otherwise.
func TestLentAddress(t *testing.T) {
	t.Parallel()
	l := &lenders{t, natlab.Start(t, natlab.Config{Seed: 21}), map[string]*asked{}}
	here, far := natlab.Link{Delay: 5 * time.Millisecond, Hops: 1}, natlab.Link{Delay: 170 * time.Millisecond, Hops: 4}
	two := []uint16{3478, 3479}

	near2 := l.server("near 2", here, nil, two...)
	near1 := l.server("near 1", here, lender(near2, by(near2, 0)), two...)
	l.behind(near1, "near", "eim-eif", "adm-delta1", "eim-icmp", "apdm-random")

	firewall := l.put(near1, "IPv6", nat.Config{Filtering: nat.EIF})
	firewall.v6 = firewall.host.Addr6().IsValid()

	far2 := l.server("far 2", far, nil, two...)
	far1 := l.server("far 1", here, lender(far2, by(far2, 150*time.Millisecond)), two...)
	l.behind(far1, "far", "eim-adf", "linux", "eim-icmp", "eim-rst", "no-syn-in", "apdm-delta1")
	closing := nat.Reaction{Close: true}
	l.put(far1, "far-off", nat.Config{OnRST: closing, OnICMP: closing})

	port2 := l.server("port 2", here, nil, 3478)
	port1 := l.server("port 1", here, lender(port2, by(port2, 0)), 3478)
	l.behind(port1, "port", "eim-eif", "adm-delta1")

	// It stands still, is gone, or was never there.
	silent := func(ctx context.Context, _ []byte) ([]byte, error) { <-ctx.Done(); return nil, ctx.Err() }
	nobody := func(context.Context, []byte) ([]byte, error) { return nil, errors.New("nobody listens") }
	still2, gone2 := l.server("still 2", here, nil, two...), l.server("gone 2", here, nil, two...)
	l.behind(l.server("still 1", here, lender(still2, silent), two...), "still", "eim-eif", "no-syn-in")
	l.behind(l.server("gone 1", here, lender(gone2, nobody), two...), "gone", "no-syn-in", "eim-rst")
	nowhere := []netip.AddrPort{l.lab.Host("nowhere", nil, here).AddrPort(3478)}
	l.behind(l.server("dark", here, []Lender{{nowhere, nobody}}, two...), "dark", "eim-eif")

	reports := l.ask()
	l.tellAll(reports, "near", near1)
	l.tellAll(reports, "far", far1)
	if r := reports["IPv6"]; firewall.v6 { // of one address it would be ADF, with a note
		require.Equal(t, []any{EIF, EIF, []string(nil)}, []any{r.Filtering, r.IPv6.Filtering, r.Ambiguous})
	}
	for id, want := range lentVerdicts {
		r := reports[id]
		require.Equal(t, []any{want.mapping, want.filtering, want.ambiguous}, []any{r.Mapping, r.Filtering, r.Ambiguous}, id)
	}
}

// tellAll holds that the reports of a group say all that there is to be told.
func (l *lenders) tellAll(reports map[string]*Report, group string, of *Server) {
	for id, r := range reports {
		if name, ok := strings.CutPrefix(id, group+" "); ok {
			require.Equal(l, profiles[name], found(r), "%s: %s", id, r.Encode())
			require.Empty(l, r.Ambiguous, id)
			require.Equal(l, 6, r.Path.Hops, id)
		}
	}
	require.NotZero(l, of.Stats().Borrowed["timeout"])
}

// lentVerdicts are what is told of the others.
var lentVerdicts = map[string]struct {
	mapping   Mapping
	filtering Filtering
	ambiguous []string
}{
	"far-off":         {EIM, APDF, nil}, // every error closes the hole, and the lender's SYN comes before
	"port eim-eif":    {EIM, EIF, nil},
	"port adm-delta1": {APDM, APDF, []string{onePort}},
	"still eim-eif":   {EIM, ADF, []string{noneCame}},
	"still no-syn-in": {EIM, APDF, []string{notTried}},
	"gone no-syn-in":  {EIM, NoSYNIn, nil},
	"gone eim-rst":    {EIM, APDF, nil},
	"dark eim-eif":    {EIM, ADF, []string{oneAddress, noneCame}},
}
