package stunt_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt"
)

// hinted keeps the hint of a node's newest dial, from either end.
type hinted struct {
	mu   sync.Mutex // guards following
	hint stunt.Method
}

// trace watches for the hint in the phase in which an end is told.
func (h *hinted) trace(told stunt.Phase) *stunt.Trace {
	return &stunt.Trace{Step: func(s stunt.Step) {
		if s.Phase == told {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.hint = s.Method
		}
	}}
}

func (h *hinted) newest() stunt.Method {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.hint
}

// TestHint dials between the same two kinds of NAT until the server has learnt
// what works there from both ends' outcomes. Then both ends are told of it: the
// dialer at once, or with the answer of a listener that asks first.
func TestHint(t *testing.T) {
	for _, tt := range []struct {
		name             string
		listener, dialer string
		allow            func(context.Context, stunt.Peer) error
		told             stunt.Phase // when the dialer is
		want             stunt.Method
	}{
		{"told at once", "eim-apdf", "eim-rst", nil, stunt.PhaseRinging, stunt.SimultaneousOpen},
		{"told with the answer", "eim-apdf", "eim-apdf", func(context.Context, stunt.Peer) error { return nil }, stunt.PhaseAnswered, stunt.SimultaneousOpen},
		{"a name of each end", "", "eim-apdf", nil, stunt.PhaseRinging, stunt.Direct},
		{"instead of a guess", "eim-adf", "apdm-random", nil, stunt.PhaseRinging, stunt.SimultaneousOpen},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 4*time.Millisecond)
			w.noIPv6 = true
			var atListener, atDialer hinted
			a := w.node(w.at("a", tt.listener), stunt.Config{ID: "a", Allow: tt.allow, Trace: atListener.trace(stunt.PhaseRinging)})
			b := w.node(w.at("b", tt.dialer), stunt.Config{Trace: atDialer.trace(tt.told)})
			ln := listen(t, a, 0)
			w.ready(a, b)
			for dials := 0; atDialer.newest() != tt.want; dials++ {
				require.Less(t, dials, 50, "the server must learn, soon after the outcomes come")
				connect(t, b, ln).close()
			}
			require.Equal(t, tt.want, atListener.newest(), "both ends are told the same")
		})
	}
}
