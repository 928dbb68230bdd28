package stunt_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/gostunt/stunt"
	"github.com/gostunt/stunt/natlab"
	"github.com/gostunt/stunt/rendezvous"
)

// sockets returns how many TCP sockets over IPv4 there are on a host, without
// those that are only the kernel's (TIME_WAIT, and SYNs not yet accepted).
func sockets(t testing.TB, h *natlab.Host) int {
	var table []byte
	err := h.Do(func() (err error) {
		table, err = os.ReadFile("/proc/thread-self/net/tcp")
		return err
	})
	if err != nil {
		t.Error(err)
		return 0
	}
	n := 0
	for i, line := range bytes.Split(table, []byte("\n")) {
		if f := bytes.Fields(line); i > 0 && len(f) > 9 && string(f[9]) != "0" { // no inode: no file descriptor has it
			n++
		}
	}
	return n
}

// mostSockets watches a host until the returned function is called, which
// tells the highest number of sockets that there were.
func mostSockets(t testing.TB, h *natlab.Host) func() int {
	most, done := 0, make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				most = max(most, sockets(t, h))
			case <-done:
				return
			}
		}
	})
	stop := sync.OnceValue(func() int {
		close(done)
		wg.Wait()
		return most
	})
	t.Cleanup(func() { stop() })
	return stop
}

// TestGuessingManyPeers dials a hundred peers behind random NATs at once, of
// whose guesses the budget has room for two: the dials take turns, the sockets
// stay within the budget, and each dial ends in a path or a reason.
func TestGuessingManyPeers(t *testing.T) {
	w := newWorld(t, 20*time.Millisecond)
	w.noIPv6 = true
	const peers, budget = 100, 2048
	var nodes []*stunt.Node
	theirs := stunt.NewBudget(8192, 20000) // they all live in this process, too
	var ready errgroup.Group
	for i := range peers {
		id := fmt.Sprint("p", i)
		n := w.node(w.behind(id, "apdm-random"), stunt.Config{ID: id, Budget: theirs})
		nodes = append(nodes, n)
		ready.Go(func() error {
			_, err := n.Listen(t.Context(), 0)
			return err
		})
	}
	host := w.behind("d", "eim-apdf")
	dialer := w.node(host, stunt.Config{Budget: stunt.NewBudget(budget, 20000), Relay: stunt.RelayNever})
	require.NoError(t, ready.Wait())
	w.ready(append(nodes, dialer)...)
	most := mostSockets(t, host)
	var paths, reasons int
	results := make(chan error, peers)
	for i := range peers {
		go func() {
			c, err := dialer.Dial(t.Context(), "tcp", fmt.Sprint("p", i))
			if err == nil {
				c.Close()
			}
			results <- err
		}()
	}
	for range peers {
		err := <-results
		var de *stunt.DialError
		switch {
		case err == nil:
			paths++
		case errors.As(err, &de) && (de.Help != "" || errors.Is(err, stunt.ErrNoServer) || errors.Is(err, rendezvous.CodeTimeout)):
			reasons++ // of the latter two kinds where a hundred guesses keep the machine from everything else for 5 s, or 10
		default:
			require.NoError(t, err, "an end without a reason")
		}
	}
	require.Greater(t, paths, peers/2, "a guess is sized to succeed")
	// Beside the guesses each dial has a listener, the connection that shows its
	// port, and the attempt at the port that the server saw, again for each turn
	// that it has to wait for: these linger.
	got := most()
	require.Less(t, got, budget+peers*10, "sockets at once")
	require.Greater(t, got, budget/4, "a guess was seen at all")
	t.Logf("%d paths, %d reasons, at most %d sockets", paths, reasons, got)
}

// TestGuessLeavesNothing shows that a guess that has found its port gives up
// the others, and after the time that losers linger nothing is left of it.
func TestGuessLeavesNothing(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ dialer, listener string }{{"eim-apdf", "apdm-random"}, {"apdm-random", "eim-apdf"}} {
		t.Run(c.dialer, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 20*time.Millisecond)
			w.noIPv6 = true
			hosts := []*natlab.Host{w.behind("d", c.dialer), w.behind("l", c.listener)}
			dialer := w.node(hosts[0], stunt.Config{Warm: -1, Relay: stunt.RelayNever})
			node := w.node(hosts[1], stunt.Config{ID: "peer", Warm: -1})
			ln := listen(t, node, 0)
			w.ready(dialer, node)
			before := []int{sockets(t, hosts[0]), sockets(t, hosts[1])}
			for range 3 { // one of 70 guesses misses
				conn, err := dialer.Dial(t.Context(), "tcp", "peer")
				if errors.Is(err, stunt.ErrNoPath) {
					continue
				}
				require.NoError(t, err)
				link{conn, accept(t, ln)}.close()
				break
			}
			for i, h := range hosts {
				require.Eventually(t, func() bool { return sockets(t, h) <= before[i] }, 10*time.Second, 50*time.Millisecond,
					"%s had %d sockets and keeps more", h.Name(), before[i])
			}
		})
	}
}
