package stunt_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/nettest"

	"github.com/gostunt/stunt"
	"github.com/gostunt/stunt/natlab"
	"github.com/gostunt/stunt/natlab/nat"
	"github.com/gostunt/stunt/probe"
	"github.com/gostunt/stunt/stuntd"
)

// TestRelay: where nothing crosses, the server carries the bytes: at once, in
// either mode, encrypted, each direction with an end of its own. Path says why.
func TestRelay(t *testing.T) {
	for _, tt := range []struct{ nat, why string }{
		{"apdm-random", "both NATs map per destination"},
		{"no-syn-in", "both NATs refuse SYNs"},
	} {
		for _, security := range []stunt.Security{stunt.Encrypted, stunt.Raw} {
			t.Run(tt.nat+"/"+security.String(), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, 4*time.Millisecond)
				w.noIPv6 = true
				a := w.node(w.behind("a", tt.nat), stunt.Config{ID: "a", Security: security})
				b := w.node(w.behind("b", tt.nat), stunt.Config{Security: security, Window: time.Minute})
				ln := listen(t, a, 0)
				w.ready(a, b)
				l := connect(t, b, ln)
				defer l.close()
				relay, _, _ := strings.Cut(w.server.Address(), "#")
				for _, c := range []*stunt.Conn{l.dialer, l.listener} {
					p := c.Path()
					require.Equal(t, stunt.Relayed, p.Method)
					require.Equal(t, stunt.Encrypted, p.Security, "a relay could read Raw")
					require.Equal(t, relay, p.Relay)
					require.Equal(t, relay, c.RemoteAddr().String())
					require.Contains(t, p.NoDirect, tt.why)
				}
				require.Less(t, l.dialer.Path().Timing.Chosen, 30*time.Second, "a window of a minute was not waited for")
				requireHalfClose(t, l)
			})
		}
	}
}

// TestConnOverRelay runs the definition of a net.Conn over the relay.
func TestConnOverRelay(t *testing.T) {
	for _, security := range []stunt.Security{stunt.Encrypted, stunt.Raw} {
		t.Run(security.String(), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 4*time.Millisecond)
			a := w.node(w.behind("a", "eim-apdf"), stunt.Config{ID: "a", Security: security, Relay: stunt.RelayOnly})
			b := w.node(w.behind("b", "eim-apdf"), stunt.Config{Security: security})
			ln := listen(t, a, 0)
			nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
				l := connect(t, b, ln)
				require.Equal(t, stunt.Relayed, l.dialer.Path().Method, "%+v", l.dialer.Path())
				return l.dialer, l.listener, l.close, nil
			})
		})
	}
}

// relayOnly starts a stuntd that only relays, so far from everybody, and makes
// the world's server announce it beside itself: that one is started anew.
func (w *world) relayOnly(name string, rtt time.Duration) *stuntd.Server {
	if w.config.Relay.SecretFile == "" {
		w.config.Relay.SecretFile = filepath.Join(w.t.TempDir(), "secret")
		require.NoError(w.t, os.WriteFile(w.config.Relay.SecretFile, []byte(strings.Repeat("0123456789abcdef", 4)), 0o600))
	}
	host := w.lab.Host(name, nil, natlab.Link{Delay: rtt / 4, Hops: 1, NoIPv6: true})
	at := host.AddrPort(3478).String()
	s, err := stuntd.Start(stuntd.Config{Open: host.Do, StateDir: w.t.TempDir(), Listen: []string{at},
		Relay: stuntd.Relay{Only: true, SecretFile: w.config.Relay.SecretFile}})
	require.NoError(w.t, err)
	w.t.Cleanup(func() { s.Close() })
	w.config.Relay.At = append(w.config.Relay.At, at)
	w.config.Relay.Off = true
	require.NoError(w.t, w.server.Close())
	w.serve()
	return s
}

// TestNearestRelay: of several relays both ends take the one with the shortest
// way over both legs; when it dies, what it carries ends with an error at once,
// and direct connections notice nothing.
func TestNearestRelay(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 4*time.Millisecond)
	w.noIPv6 = true
	far := w.relayOnly("far", 200*time.Millisecond)
	near := w.relayOnly("near", 4*time.Millisecond)
	a := w.node(w.behind("a", "apdm-random"), stunt.Config{ID: "a"})
	b := w.node(w.behind("b", "apdm-random"), stunt.Config{})
	c := w.node(w.at("c", ""), stunt.Config{})
	ln := listen(t, a, 0)
	w.ready(a, b, c)
	direct := connect(t, c, ln)
	defer direct.close()
	require.NotEqual(t, stunt.Relayed, direct.dialer.Path().Method)

	// That both have measured the relays is not to be seen but here.
	var relayed link
	require.Eventually(t, func() bool {
		relayed = connect(t, b, ln)
		if relayed.dialer.Path().Relay == w.config.Relay.At[1] {
			return true
		}
		relayed.close()
		return false
	}, 30*time.Second, time.Millisecond)
	require.Equal(t, relayed.dialer.Path().Relay, relayed.listener.Path().Relay)

	require.NoError(t, near.Close())
	for _, end := range []*stunt.Conn{relayed.dialer, relayed.listener} {
		_, err := end.Read(make([]byte, 1))
		require.Error(t, err)
		require.NotErrorIs(t, err, io.EOF, "a relay that dies is no end of the stream")
		end.Close()
	}
	_, err := direct.dialer.Write([]byte("x"))
	require.NoError(t, err)
	_, err = io.ReadFull(direct.listener, make([]byte, 1))
	require.NoError(t, err)
	require.Eventually(t, func() bool { return far.RelayStats().Pairs == 0 }, 30*time.Second, time.Millisecond, "nor do pairs of others")
}

// TestRelayPolicies: both ends have a say in it.
func TestRelayPolicies(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 4*time.Millisecond)
	w.noIPv6 = true
	policies := []stunt.RelayPolicy{stunt.RelayAuto, stunt.RelayNever, stunt.RelayOnly}
	var listeners []*stunt.Listener
	var nodes []*stunt.Node
	for _, p := range policies {
		a := w.node(w.behind("a-"+p.String(), "eim-apdf"), stunt.Config{ID: p.String(), Relay: p})
		listeners, nodes = append(listeners, listen(t, a, 0)), append(nodes, a)
	}
	var mu sync.Mutex
	var fired map[stunt.Method]bool
	trace := &stunt.Trace{Step: func(s stunt.Step) {
		mu.Lock()
		defer mu.Unlock()
		if s.Phase == stunt.PhaseFired {
			fired[s.Method] = true
		}
	}}
	var dialers []*stunt.Node
	for _, p := range policies {
		dialers = append(dialers, w.node(w.behind("d-"+p.String(), "eim-apdf"), stunt.Config{Relay: p, Trace: trace}))
	}
	w.ready(append(nodes, dialers...)...)
	want := map[string]stunt.Method{
		"auto auto": stunt.SimultaneousOpen, "auto never": stunt.SimultaneousOpen, "never auto": stunt.SimultaneousOpen,
		"never never": stunt.SimultaneousOpen,
		"auto only":   stunt.Relayed, "only auto": stunt.Relayed, "only only": stunt.Relayed,
		"never only": "", "only never": "",
	}
	for i, d := range dialers {
		for j, ln := range listeners {
			name := policies[i].String() + " " + policies[j].String()
			mu.Lock()
			fired = make(map[stunt.Method]bool)
			mu.Unlock()
			if want[name] == "" {
				_, err := d.Dial(t.Context(), "tcp", ln.Addr().String())
				require.ErrorIs(t, err, stunt.ErrNoPath, name)
			} else {
				l := connect(t, d, ln)
				p := l.dialer.Path()
				require.Equal(t, want[name], p.Method, name)
				if p.Method != stunt.Relayed && p.Timing.Chosen < 500*time.Millisecond { // or a busy machine was late
					require.Zero(t, slices.IndexFunc(p.Attempts, func(a stunt.Attempt) bool { return a.Method == stunt.Relayed && a.SYNs > 0 })+1,
						"%s: a path that stands in time leaves the relay alone", name)
				}
				l.close()
			}
			mu.Lock()
			if strings.Contains(name, "only") {
				require.LessOrEqual(t, len(fired), 1, name)
				require.Equal(t, want[name] == stunt.Relayed, fired[stunt.Relayed], name)
			}
			mu.Unlock()
		}
	}
}

// TestRelayAfterTheWindow: where a direct path may come, and the connection can't
// move to it later, it has its time; a dial whose own time is shorter takes the
// relay before that ends.
func TestRelayAfterTheWindow(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 4*time.Millisecond)
	w.noIPv6 = true
	none := stunt.NewBudget(1, 1) // the guess that is planned cannot be made
	a := w.node(w.behind("a", "apdm-random"), stunt.Config{ID: "a", Budget: none, Security: stunt.Raw})
	ln := listen(t, a, 0)
	patient := w.node(w.behind("b", "eim-apdf"), stunt.Config{Budget: none, Window: 1500 * time.Millisecond, Security: stunt.Raw})
	hasty := w.node(w.behind("c", "eim-apdf"), stunt.Config{Budget: none, Window: time.Minute, Security: stunt.Raw})
	w.ready(a, patient, hasty)

	l := connect(t, patient, ln)
	defer l.close()
	require.Equal(t, stunt.Relayed, l.dialer.Path().Method)
	require.Greater(t, l.dialer.Path().Timing.Chosen, 1500*time.Millisecond)

	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	c, err := hasty.Dial(ctx, "tcp", "a")
	require.NoError(t, err)
	defer c.Close()
	defer accept(t, ln).Close()
	require.Equal(t, stunt.Relayed, c.Path().Method)
}

// TestRelayBehindOneNAT: two networks behind one NAT that does not loop packets
// back have nothing to wait for, once it shows that they are not one.
func TestRelayBehindOneNAT(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 4*time.Millisecond)
	w.noIPv6 = true
	outer, _ := nat.Profile("eim-apdf")
	outer.Hairpin = nat.NoHairpin
	inner, _ := nat.Profile("eim-apdf")
	one := w.lab.NAT("carrier", nil, outer, w.link())
	at := func(name string) *natlab.Host {
		return w.lab.Host(name, w.lab.NAT("nat-"+name, one, inner, natlab.Link{NoIPv6: true}), natlab.Link{NoIPv6: true})
	}
	a, b := w.node(at("a"), stunt.Config{ID: "a"}), w.node(at("b"), stunt.Config{Window: time.Minute})
	ln := listen(t, a, 0)
	w.ready(a, b)
	l := connect(t, b, ln)
	defer l.close()
	p := l.dialer.Path()
	require.Equal(t, stunt.Relayed, p.Method)
	require.Contains(t, p.NoDirect, "both ends are behind one NAT")
	require.Less(t, p.Timing.Chosen, 30*time.Second, "a window of a minute was not waited for")
}

// TestNoRelay: without one, a dial that nothing crosses says that as well.
func TestNoRelay(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 4*time.Millisecond)
	w.noIPv6 = true
	w.config.Relay.Off = true
	require.NoError(t, w.server.Close())
	w.serve()
	a := w.node(w.behind("a", "no-syn-in"), stunt.Config{ID: "a"})
	b := w.node(w.behind("b", "no-syn-in"), stunt.Config{})
	listen(t, a, 0)
	w.ready(a, b)
	_, err := b.Dial(t.Context(), "tcp", "a")
	require.ErrorIs(t, err, stunt.ErrNoPath)
	require.ErrorContains(t, err, "the server has no relay; ")
	for _, n := range []*stunt.Node{a, b} {
		if r, err := n.Report(t.Context()); err != nil || r.Filtering != probe.NoSYNIn {
			return // the machine was too busy to tell what these NATs do
		}
	}
	require.ErrorContains(t, err, "both NATs refuse SYNs")
}

// TestHTTPOverRelay: what is written against net works over a relay as it is,
// also for a listener that wants to be asked, which is told of no relay before.
func TestHTTPOverRelay(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 4*time.Millisecond)
	w.noIPv6 = true
	c, _ := nat.Profile("no-syn-in")
	one := w.lab.NAT("nat", nil, c, w.link()) // both behind it, and no way back in
	a := w.node(w.lab.Host("a", one, natlab.Link{}), stunt.Config{ID: "a", Relay: stunt.RelayOnly,
		Allow: func(_ context.Context, p stunt.Peer) error {
			if p.ID == "no" {
				return errors.New("no")
			}
			return nil
		}})
	b := w.node(w.behind("b", "apdm-random"), stunt.Config{})
	ln := listen(t, a, 0)
	server := http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { io.Copy(rw, r.Body) })}
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()
	transport := &http.Transport{DialContext: b.DialContext}
	client := http.Client{Transport: transport, Timeout: 30 * time.Second}
	for range 3 {
		resp, err := client.Post("http://a/", "text/plain", strings.NewReader("hello"))
		require.NoError(t, err)
		got, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, "hello", string(got))
	}
	transport.CloseIdleConnections()
	require.NoError(t, server.Close())
	require.ErrorIs(t, <-served, http.ErrServerClosed)
	require.EqualValues(t, 1, w.server.RelayStats().Paired, "one connection, kept alive")
}
