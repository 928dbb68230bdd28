package stunt_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/gostunt/stunt"
)

// TestGuessingManyPeers dials many peers behind random NATs at once, of whose
// guesses the budget has room for two: the dials take turns, and each ends in a
// path or a reason.
func TestGuessingManyPeers(t *testing.T) {
	w := newWorld(t, 20*time.Millisecond)
	w.noIPv6 = true
	const peers, sockets = 30, 2048
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
	dialer := w.node(w.behind("d", "eim-apdf"), stunt.Config{Budget: stunt.NewBudget(sockets, 1500)})
	require.NoError(t, ready.Wait())
	w.ready(append(nodes, dialer)...)
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
		case errors.As(err, &de) && de.Help != "":
			reasons++
		default:
			require.NoError(t, err, "an end without a reason")
		}
	}
	require.Greater(t, paths, peers/2, "a guess is sized to succeed")
	t.Logf("%d paths, %d reasons", paths, reasons)
}
