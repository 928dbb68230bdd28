package stunt_test

import (
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt"
)

// Whoever closes a node, and a listener that owns one, finds nothing of it running
// any more, also if others have begun to close it. Not parallel: it counts those
// who wait, of all nodes of the process.
func TestCloseWaits(t *testing.T) {
	w := newWorld(t, 4*time.Millisecond)
	entered, leave := make(chan struct{}), make(chan struct{})
	c := stunt.Config{
		Server:     w.server.Address(),
		OpenSocket: w.behind("home", "eim-apdf").Do,
		Trace: &stunt.Trace{Session: func(netip.AddrPort, netip.AddrPort) {
			close(entered)
			<-leave // is a goroutine of the node's that runs
		}},
	}
	listening := make(chan *stunt.Listener, 1)
	go func() {
		ln, err := stunt.Listen(t.Context(), c) // returns when the hook does
		if err != nil {
			ln = nil
		}
		listening <- ln
	}()
	<-entered
	close(leave)
	ln := <-listening
	require.NotNil(t, ln)
	require.NoError(t, ln.Close())
	require.NoError(t, ln.Node().Close(), "may be repeated")

	entered, leave = make(chan struct{}), make(chan struct{})
	n := &stunt.Node{Config: c}
	n.Key() // starts it
	<-entered
	const closers = 3
	closed := make(chan error, closers)
	for range closers {
		go func() { closed <- n.Close() }()
	}
	stacks := make([]byte, 1<<20)
	for strings.Count(string(stacks[:runtime.Stack(stacks, true)]), "stunt.(*Node).Close(") < closers {
		select {
		case <-closed:
			require.Fail(t, "a Close has returned while something of the node runs")
		default:
			runtime.Gosched()
		}
	}
	close(leave)
	for range closers {
		require.NoError(t, <-closed)
	}
}

// TestCloseEndsLingering: connections that linger for a peer who does not end
// linger no more when the node is closed. Not parallel: it counts those of all.
func TestCloseEndsLingering(t *testing.T) {
	w := newWorld(t, 4*time.Millisecond)
	a, b := w.node(w.at("a", ""), stunt.Config{ID: "a"}), w.node(w.at("b", ""), stunt.Config{})
	l := connect(t, b, listen(t, a, 0))
	defer l.close()
	lingering := func() int {
		stacks := make([]byte, 1<<20)
		return strings.Count(string(stacks[:runtime.Stack(stacks, true)]), "created by github.com/gostunt/stunt.(*lingering).take")
	}
	before := lingering()
	require.NoError(t, l.dialer.Close())
	require.Positive(t, lingering())
	require.NoError(t, b.Close())
	require.LessOrEqual(t, lingering(), before)
}
