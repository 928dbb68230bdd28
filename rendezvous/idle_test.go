package rendezvous

import (
	"bytes"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt/internal/park"
)

// lots are the ways in which sessions wait, of which other tests have the
// system's own.
var lots = map[string]func() park.Lot{"system's": park.New, "split": park.NewSplit}

// TestWaitingSessions: whichever way sessions wait, they hear what comes, also
// what came at once, and see the end that others make for them.
func TestWaitingSessions(t *testing.T) {
	for name, open := range lots {
		t.Run(name, func(t *testing.T) {
			h := serve(t, &Server{lot: open()})
			key := newKey(t)
			p := h.raw(t, key)
			// Two of three in one TLS record: crypto/tls has the others, and the kernel does not tell of them.
			p.send(&hello{Min: 1, Max: 1})
			read[*Welcome](p)
			two := append(frame(t, &ping{}), frame(t, &ping{})...)
			for range 3 {
				_, err := p.conn.Write(append(two, two...))
				require.NoError(t, err)
				for range 4 {
					read[*pong](p)
				}
			}
			head := frame(t, &register{Ref: 1, ID: "alice"})
			_, err := p.conn.Write(append(two, head[:3]...)) // a part of a frame behind
			require.NoError(t, err)
			read[*pong](p)
			read[*pong](p)
			_, err = p.conn.Write(head[3:])
			require.NoError(t, err)
			read[*registered](p)

			newer := h.peer(t, key)
			newer.register("alice")
			p.refusal(CodeReplaced)
			p.gone()
			p.conn.NetConn().Close()
			require.ErrorIs(t, receive(t, h.ended, "the end"), CodeReplaced)

			newer.conn.NetConn().Close()
			require.NotErrorIs(t, receive(t, h.ended, "the end"), CodeReplaced)

			h.peer(t, newKey(t))
			require.NoError(t, h.server.Close())
			require.ErrorIs(t, receive(t, h.ended, "the end"), CodeShuttingDown)
		})
	}
}

func frame(t *testing.T, m message) []byte {
	f, err := encode(m)
	require.NoError(t, err)
	return f
}

// Beats end the sessions of the silent, and of nobody else.
func TestSilence(t *testing.T) {
	for name, open := range lots {
		t.Run(name, func(t *testing.T) {
			h := serve(t, &Server{lot: open(), Keepalive: time.Hour})
			silent, lively := h.peer(t, newKey(t)), h.peer(t, newKey(t))
			for range silenceParts {
				h.server.door.tick()
			}
			lively.send(&ping{})
			read[*pong](lively)
			require.Empty(t, h.ended, "it may be silent for so long")
			h.server.door.tick()
			require.ErrorIs(t, receive(t, h.ended, "the end"), os.ErrDeadlineExceeded)
			silent.gone()
			lively.send(&ping{})
			read[*pong](lively)
			require.Empty(t, h.ended, "one was heard")
		})
	}
}

// idle waits until no goroutine is in a method of these types.
func idle(t *testing.T, types ...string) {
	t.Helper()
	require.Eventually(t, func() bool {
		stacks := make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		return !slices.ContainsFunc(types, func(name string) bool { return bytes.Contains(stacks, []byte("(*"+name+").")) })
	}, patience, 10*time.Millisecond, "%v", types)
}

// TestIdleSessionsHaveNoGoroutine: what a session costs while nothing happens.
func TestIdleSessionsHaveNoGoroutine(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("elsewhere it is one each")
	}
	h := serve(t, &Server{})
	var peers []*peer
	for range 20 {
		p := h.peer(t, newKey(t))
		p.register("")
		peers = append(peers, p)
	}
	idle(t, "session", "link", "splitSpot")
	for _, p := range peers {
		p.send(&ping{})
		read[*pong](p)
	}
}

// A flood is answered by not reading, and what waits then is a timer.
func TestFloodHoldsNoGoroutine(t *testing.T) {
	for name, open := range lots {
		t.Run(name, func(t *testing.T) {
			h := serve(t, &Server{lot: open(), Limits: Limits{MessageRate: 1}})
			p := h.peer(t, newKey(t))
			for range 20 { // the burst is 4
				p.send(&ping{})
			}
			for range 4 {
				read[*pong](p)
			}
			idle(t, "session", "splitSpot")
			require.NoError(t, h.server.Close(), "and it is ended all the same")
			require.ErrorIs(t, receive(t, h.ended, "the end"), CodeShuttingDown)
		})
	}
}
