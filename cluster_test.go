//go:build unix

package stunt_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt"
	"github.com/gostunt/stunt/natlab"
	"github.com/gostunt/stunt/rendezvous"
)

// servers are three stuntd processes that are one cluster, on hosts of a lab.
type servers struct {
	*world
	path, secret string
	more         []string // arguments of all
	hosts        []*natlab.Host
	states       []string
	all          []*daemon
}

// newServers starts none: a packet takes 4 ms there and back between any two.
func newServers(t testing.TB, path, secret string) *servers {
	return &servers{world: &world{t: t, lab: natlab.Start(t, natlab.Config{Seed: 1}), rtt: 4 * time.Millisecond}, path: path, secret: secret}
}

// startAt starts one at each place.
func (s *servers) startAt(places ...natlab.Place) {
	for i, at := range places {
		s.hosts = append(s.hosts, s.lab.Host(fmt.Sprint("server", i), at, s.link()))
		s.states = append(s.states, s.t.TempDir())
	}
	for i := range places {
		s.all = append(s.all, s.start(i))
	}
}

func (s *servers) start(i int) *daemon {
	routes := make([]string, len(s.hosts))
	for i, h := range s.hosts {
		routes[i] = h.AddrPort(6222).String()
	}
	return startStuntd(s.t, s.hosts[i], s.path, s.states[i], append(s.more, "-keepalive", "2s", "-drain", "500ms",
		"-cluster", "lab", "-cluster-secret", s.secret, "-cluster-listen", s.hosts[i].AddrPort(6222).String(), "-routes", strings.Join(routes, ","))...)
}

// TestCluster has three servers in processes of their own lose and find each
// other, while peers at them dial.
func TestCluster(t *testing.T) {
	t.Parallel()
	natlab.Need(t)
	path, secret := buildStuntd(t), clusterSecret(t)
	for _, tt := range []struct {
		name string
		run  func(*testing.T, *servers)
	}{
		{"killed", killed}, {"frozen", frozen}, {"split", splitInTwo}, {"restarted one by one", restarted},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel() // most of it is waiting
			s := newServers(t, path, secret)
			s.startAt(nil, nil, nil)
			tt.run(t, s)
		})
	}
}

// clusterSecret writes one, and returns where.
func clusterSecret(t testing.TB) string {
	path := t.TempDir() + "/secret"
	require.NoError(t, os.WriteFile(path, []byte(strings.Repeat("s", 32)), 0o600))
	return path
}

// at returns the address of some of the servers, in this order.
func (s *servers) at(order ...int) string {
	var list []string
	for _, i := range order {
		list = append(list, s.all[i].address)
	}
	return strings.Join(list, ",")
}

// node returns a node behind a NAT that knows some of the servers.
func (s *servers) node(name string, order ...int) *stunt.Node {
	n := &stunt.Node{Config: stunt.Config{Server: s.at(order...), ID: name, OpenSocket: s.behind(name, "eim-apdf").Do, Relay: stunt.RelayNever}}
	s.t.Cleanup(func() { n.Close() })
	return n
}

// echoing returns such a node that listens, and answers who dials.
func (s *servers) echoing(name string, order ...int) *stunt.Node {
	n := s.node(name, order...)
	ln := listen(s.t, n, 0)
	done := make(chan struct{})
	go func() { // until ln is closed
		defer close(done)
		echoAll(ln)
	}()
	s.t.Cleanup(func() {
		ln.Close()
		<-done
	})
	return n
}

// dials is one node that dials another, again and again.
type dials struct {
	t    *testing.T
	stop func()

	mu     sync.Mutex // guards following
	worked int
	failed []error
	since  time.Time     // when the last one worked
	gap    time.Duration // the longest time between two that did
}

// dial begins. It ends with the test, or stop.
func dial(t *testing.T, from *stunt.Node, to string) *dials {
	d := &dials{t: t}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		// Each leaves its sockets behind for seconds, and of one source a server takes 256 connections.
		pace := time.NewTicker(25 * time.Millisecond)
		defer pace.Stop()
		for ctx.Err() == nil {
			d.once(ctx, from, to)
			select {
			case <-pace.C:
			case <-ctx.Done():
			}
		}
	})
	d.stop = func() { cancel(); wg.Wait() }
	t.Cleanup(d.stop)
	d.more(5)
	return d
}

func (d *dials) once(ctx context.Context, from *stunt.Node, to string) {
	try, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	c, err := from.Dial(try, "tcp", to)
	if err == nil {
		c.Close()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case err == nil:
		if !d.since.IsZero() {
			d.gap = max(d.gap, time.Since(d.since))
		}
		d.worked++
		d.since = time.Now()
	case ctx.Err() == nil && d.worked > 0: // or the servers have not met yet
		d.failed = append(d.failed, err)
	}
}

// more waits until so many more have worked.
func (d *dials) more(n int) {
	d.t.Helper()
	count := func() int {
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.worked
	}
	enough := count() + n
	require.Eventually(d.t, func() bool { return count() >= enough }, 60*time.Second, 5*time.Millisecond, "dials must work")
}

// perfect ends, and no dial may have failed.
func (d *dials) perfect(why string) {
	d.t.Helper()
	d.stop()
	assert.Empty(d.t, d.failed, why)
	d.t.Logf("%s: %d dials, none for %v at the longest", why, d.worked, d.gap.Round(time.Millisecond))
}

// claimant returns a client with a name at one server: what has it, and what it
// hears of losing it.
func (s *servers) claimant(host *natlab.Host, server int) (*rendezvous.Client, ed25519.PublicKey, <-chan error) {
	lost := make(chan error, 4)
	c, key := s.client(host, server, rendezvous.ClientConfig{OnLost: func(_ string, err error) { lost <- err }})
	return c, key, lost
}

// client returns a client on a host, at one server.
func (s *servers) client(host *natlab.Host, server int, cfg rendezvous.ClientConfig) (*rendezvous.Client, ed25519.PublicKey) {
	pub, key, err := ed25519.GenerateKey(nil)
	require.NoError(s.t, err)
	cfg.Key, cfg.Dial = key, host.Dial
	cfg.Servers, err = rendezvous.ParseServers(s.at(server))
	require.NoError(s.t, err)
	c := rendezvous.NewClient(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { c.Run(ctx) })
	s.t.Cleanup(func() { cancel(); wg.Wait() })
	return c, pub
}

// forgotten waits until the servers at which a node asks know that a peer, or its
// server, is gone.
func forgotten(t *testing.T, n *stunt.Node, id string) {
	t.Helper()
	require.Eventually(t, func() bool {
		_, err := n.Lookup(t.Context(), id)
		return errors.Is(err, stunt.ErrUnknownPeer)
	}, 60*time.Second, 10*time.Millisecond)
}

// killed: a server dies at once. Who was there is at another, and nobody else
// notices.
func killed(t *testing.T, s *servers) {
	s.echoing("a", 0, 1, 2)
	s.echoing("c", 2)
	b := s.node("b", 1)
	among, moved := dial(t, b, "c"), dial(t, b, "a")
	client, _, _ := s.claimant(s.lab.Host("thief", nil, s.link()), 1)
	require.NoError(t, s.all[0].cmd.Process.Signal(syscall.SIGKILL))
	s.all[0].cmd.Wait()
	require.ErrorIs(t, client.Register(t.Context(), "a"), rendezvous.CodeIDTaken, "a name is held for the node that comes back")
	moved.more(5)
	among.more(5)
	among.perfect("peers at other servers")
	moved.stop()
	t.Logf("to a peer of the killed server: none for %v", moved.gap.Round(time.Millisecond))
}

// frozen: a server stands still, and takes up where it stood.
func frozen(t *testing.T, s *servers) {
	s.echoing("a", 0)
	s.echoing("c", 2)
	b := s.node("b", 1)
	among := dial(t, b, "c")
	dial(t, b, "a").stop()
	client, _, _ := s.claimant(s.lab.Host("thief", nil, s.link()), 1)
	require.NoError(t, client.Register(t.Context(), "other"))
	require.NoError(t, s.all[0].cmd.Process.Signal(syscall.SIGSTOP))
	t.Cleanup(func() { s.all[0].cmd.Process.Signal(syscall.SIGCONT) })
	require.NoError(t, client.Register(t.Context(), "another"), "nobody waits for it for long")
	require.ErrorIs(t, client.Register(t.Context(), "a"), rendezvous.CodeIDTaken, "its names are held")
	among.more(5)
	require.NoError(t, s.all[0].cmd.Process.Signal(syscall.SIGCONT))
	again := dial(t, b, "a")
	again.stop()
	among.more(5)
	among.perfect("peers at other servers")
}

// splitInTwo: servers don't see each other, and go on with whom they have.
func splitInTwo(t *testing.T, s *servers) {
	s.echoing("a", 0)
	s.echoing("c", 2)
	here, there := s.node("e", 0), s.node("b", 1)
	left, right := dial(t, here, "a"), dial(t, there, "c")
	dial(t, there, "a").stop()
	one, first, lostFirst := s.claimant(s.lab.Host("one", nil, s.link()), 0)
	two, _, lostSecond := s.claimant(s.lab.Host("two", nil, s.link()), 1)

	heal := s.lab.Split(s.hosts[:1], s.hosts[1:])
	forgotten(t, there, "a")
	forgotten(t, here, "c")
	require.NoError(t, one.Register(t.Context(), "x"))
	require.NoError(t, two.Register(t.Context(), "x"), "each side goes on")
	left.more(5)
	right.more(5)

	heal()
	dial(t, there, "a").stop()
	dial(t, here, "c").stop()
	select {
	case err := <-lostSecond:
		require.ErrorIs(t, err, rendezvous.CodeIDTaken)
	case err := <-lostFirst:
		require.FailNow(t, "who had the name first has lost it", err)
	case <-time.After(30 * time.Second):
		require.FailNow(t, "a name with two keys")
	}
	for _, n := range []*stunt.Node{here, there} {
		p, err := n.Lookup(t.Context(), "x")
		require.NoError(t, err)
		require.Equal(t, first, p.Key)
	}
	require.ErrorIs(t, two.Register(t.Context(), "x"), rendezvous.CodeIDTaken)
	left.perfect("peers at one side")
	right.perfect("peers at the other")
}

// restarted: each server in turn is stopped and started while two peers, which
// prefer different ones, dial.
func restarted(t *testing.T, s *servers) {
	s.echoing("a", 0, 1, 2)
	d := dial(t, s.node("b", 1, 2, 0), "a")
	for i := range s.all {
		require.NoError(t, s.all[i].cmd.Process.Signal(syscall.SIGTERM))
		require.NoError(t, s.all[i].cmd.Wait())
		d.more(5)
		was := s.all[i].address
		s.all[i] = s.start(i)
		require.Equal(t, was, s.all[i].address)
		d.more(5)
	}
	d.stop()
	t.Logf("%d dials, %d failed, none for %v at the longest", d.worked, len(d.failed), d.gap.Round(time.Millisecond))
}
