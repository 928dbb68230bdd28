package probe

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt/internal/sock"
	"github.com/gostunt/stunt/natlab"
	"github.com/gostunt/stunt/natlab/nat"
)

// What dialling needs is known in as few round trips as can be, whatever the
// time they take: the server here keeps its answers back until all that is
// needed has been asked and it has begun to dial back. So there is one round
// trip of TCP's and one of ours, and of the dial back only its own comes after.
// Who does not know the server's other endpoints needs the two once more for
// these; but what a SYN gets is asked in the first, and told before the second is
// answered.
func TestRounds(t *testing.T) {
	t.Parallel()
	for name, rounds := range map[string][]flight{
		"known":   {{asked: 7, dialled: 3}},
		"unknown": {{asked: 5, dialled: 3}, {asked: 2, told: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lab := natlab.Start(t, natlab.Config{Seed: 11})
			g := &gate{rounds: rounds}
			server, _ := startTapped(t, lab, tap{g.hold, g.dials})
			h := lab.Host("home", lab.NAT("nat", nil, nat.Config{Mapping: nat.APDM, Unsolicited: nat.RST}, home), natlab.Link{})
			cfg := Config{Net: &sock.Net{Open: h.Do}, Server: server}
			if name == "known" {
				cfg.Other = otherOf(server)
			}
			var told []*Report
			cfg.OnMapping = func(r *Report) {
				told = append(told, r)
				g.tells(r)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			r, err := Run(ctx, cfg)
			require.NoError(t, err, "the server waits for more in round %d than was asked", g.round())
			require.Equal(t, len(rounds), g.round())
			last := told[len(told)-1]
			require.Equal(t, []any{r.Mapping, RST}, []any{last.Mapping, last.Unsolicited})
		})
	}
}

// flight is what must have happened before the server answers anything.
type flight struct {
	asked   int // connections that have asked
	dialled int // dial backs under way
	told    int // what an unsolicited SYN gets
}

// gate holds answers back until a round is complete. After the last it is open.
type gate struct {
	mu     sync.Mutex // guards following
	rounds []flight
	at     int
	have   flight
	held   []*held // of this round
}

func (g *gate) round() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.at
}

func (g *gate) hold(c net.Conn) net.Conn { return &held{Conn: c, g: g} }

func (g *gate) dials() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.have.asked > 0 { // else it is a listener's socket
		g.have.dialled++
		g.look()
	}
}

func (g *gate) tells(r *Report) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if r.Unsolicited != ReplyUnknown {
		g.have.told++
		g.look()
	}
}

// look begins the next round if this one is complete. Its caller holds mu.
func (g *gate) look() {
	if g.at == len(g.rounds) {
		return
	}
	if want := g.rounds[g.at]; g.have.asked < want.asked || g.have.dialled < want.dialled || g.have.told < want.told {
		return
	}
	g.at++
	for _, h := range g.held {
		h.Conn.Write(h.answer) // into an empty socket buffer
		h.free = true
	}
	g.have, g.held = flight{}, nil
}

// held is a connection whose answers wait for the round in which it asked.
type held struct {
	net.Conn
	g *gate

	// Guarded by g.mu:
	asked, free bool
	answer      []byte
}

func (h *held) NetConn() net.Conn { return h.Conn }

func (h *held) Read(b []byte) (int, error) {
	n, err := h.Conn.Read(b)
	h.g.mu.Lock()
	defer h.g.mu.Unlock()
	if n > 0 && !h.asked {
		h.asked = true
		h.free = h.g.at == len(h.g.rounds)
		if !h.free {
			h.g.held = append(h.g.held, h)
			h.g.have.asked++
			h.g.look()
		}
	}
	return n, err
}

func (h *held) Write(b []byte) (int, error) {
	h.g.mu.Lock()
	defer h.g.mu.Unlock()
	if h.free {
		return h.Conn.Write(b)
	}
	h.answer = append(h.answer, b...)
	return len(b), nil
}

// BenchmarkRun prints how many round trips it takes until the mapping and then
// the answer to an unsolicited SYN are known, and how many seconds until all is.
func BenchmarkRun(b *testing.B) {
	for _, rtt := range []time.Duration{10, 100, 300} {
		for _, name := range []string{"eim-apdf", "eim-rst", "no-syn-in", "apdm-delta1", "apdm-random"} {
			b.Run(name+"/rtt="+(rtt*time.Millisecond).String(), func(b *testing.B) { benchmarkRun(b, name, rtt*time.Millisecond) })
		}
	}
}

func benchmarkRun(b *testing.B, name string, rtt time.Duration) {
	lab := natlab.Start(b, natlab.Config{Seed: 12})
	server, _ := startIn(b, lab)
	c, _ := nat.Profile(name)
	far := natlab.Link{Delay: rtt/2 - 5*time.Millisecond, Hops: 6}
	h := lab.Host("home", lab.NAT("nat", nil, c, far), natlab.Link{})
	for known, other := range map[string]netip.AddrPort{"": {}, "-other-known": otherOf(server)} {
		var mapping, policy, whole time.Duration
		for range b.N {
			start := time.Now()
			var mapped, replied time.Duration
			_, err := Run(b.Context(), Config{Net: &sock.Net{Open: h.Do}, Server: server, Other: other, OnMapping: func(r *Report) {
				if mapped == 0 && r.Mapping != MappingUnknown {
					mapped = time.Since(start)
				}
				if replied == 0 && r.Unsolicited != ReplyUnknown {
					replied = time.Since(start)
				}
			}})
			require.NoError(b, err)
			require.NotZero(b, mapped)
			require.NotZero(b, replied)
			mapping, policy, whole = mapping+mapped, policy+replied, whole+time.Since(start)
		}
		in := func(d time.Duration, unit time.Duration) float64 { return float64(d) / float64(unit) / float64(b.N) }
		b.ReportMetric(in(mapping, rtt), "rtt-mapping"+known)
		b.ReportMetric(in(policy, rtt), "rtt-policy"+known)
		b.ReportMetric(in(whole, time.Second), "s-all"+known)
	}
	b.ReportMetric(0, "ns/op")
}
