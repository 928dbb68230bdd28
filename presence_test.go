package stunt_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt"
	"github.com/gostunt/stunt/probe"
)

// TestLookupTellsHowItWas dials a peer from behind a NAT that is crossed and
// from behind one that is not. Then each of the dialers is told so, and the
// peer about each.
func TestLookupTellsHowItWas(t *testing.T) {
	w := newWorld(t, 4*time.Millisecond)
	w.noIPv6 = true
	a := w.node(w.behind("a", "apdm-random"), stunt.Config{ID: "a"})
	near := w.node(w.behind("near", "eim-eif"), stunt.Config{ID: "near"})
	far := w.node(w.behind("far", "apdm-random"), stunt.Config{ID: "far", Window: time.Second})
	ln := listen(t, a, 0)
	listen(t, near, 0)
	listen(t, far, 0)
	w.ready(a, near, far)

	p, err := near.Lookup(t.Context(), "a")
	require.NoError(t, err)
	require.Equal(t, stunt.ReachUnknown, p.Reach)
	require.True(t, p.Met.IsZero())
	require.NotNil(t, p.Report)
	require.Equal(t, probe.APDM, p.Report.Mapping)

	connect(t, near, ln).close()
	if c, err := far.Dial(t.Context(), "tcp", "a"); err == nil {
		c.Close()
	}
	// A peer's word on a dial comes some time after the dialer's.
	told := func(by *stunt.Node, id string, want stunt.Reach) (p stunt.Presence) {
		require.Eventually(t, func() bool {
			p, err = by.Lookup(t.Context(), id)
			return err == nil && p.Reach != stunt.ReachUnknown
		}, 40*time.Second, 10*time.Millisecond, "the server must learn of the dial")
		require.Equal(t, want, p.Reach)
		require.WithinDuration(t, time.Now(), p.Met, time.Minute)
		return p
	}
	require.NotEmpty(t, told(near, "a", stunt.ReachDirect).Method)
	require.NotEmpty(t, told(a, "near", stunt.ReachDirect).Method)
	require.Empty(t, told(far, "a", stunt.ReachRelay).Method)
	require.Empty(t, told(a, "far", stunt.ReachRelay).Method)
	p, err = far.Lookup(t.Context(), "near")
	require.NoError(t, err)
	require.Equal(t, stunt.ReachUnknown, p.Reach, "these two have not met")
}
