package stunt_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/gostunt/stunt"
	"github.com/gostunt/stunt/internal/punch"
	"github.com/gostunt/stunt/internal/secure"
	"github.com/gostunt/stunt/natlab"
	"github.com/gostunt/stunt/probe"
	"github.com/gostunt/stunt/rendezvous"
)

// synsAt is a lab's trace that counts the SYNs that arrive at a host.
type synsAt struct {
	host string

	mu sync.Mutex // guards following
	n  int
}

// Write takes one line: time, place, "receive", source, ">", destination, flags.
func (s *synsAt) Write(line []byte) (int, error) {
	f := bytes.Fields(line)
	if len(f) > 6 && string(f[1]) == s.host && string(f[2]) == "receive" && string(f[6]) == "S" {
		s.mu.Lock()
		s.n++
		s.mu.Unlock()
	}
	return len(line), nil
}

func (s *synsAt) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.n
}

// liar is a peer that says that it is at the victim, on as many ports as fit,
// behind a NAT whose ports have to be guessed.
type liar struct {
	*rendezvous.Client
	key                ed25519.PrivateKey
	candidates, report []byte
}

func newLiar(t *testing.T, w *world, at, victim *natlab.Host) *liar {
	l := &liar{key: stunt.NewKey()}
	kinds := []punch.Kind{punch.Public, punch.Mapped, punch.Sample, punch.Host}
	var side punch.Side
	for i := range punch.MaxCandidates {
		addr := victim.Addr()
		if i%3 == 2 {
			addr = victim.Addr6()
		}
		side.Candidates = append(side.Candidates, punch.Candidate{Kind: kinds[i%len(kinds)], Addr: netip.AddrPortFrom(addr, uint16(20000+i))})
	}
	l.candidates = punch.AppendCandidates(nil, side)
	l.report = (&probe.Report{Version: 1, Mapping: probe.APDM, Public: []netip.Addr{victim.Addr()},
		Ports: probe.Ports{Assignment: probe.Random, Lo: 1024, Hi: 65535, Pooling: probe.Arbitrary, Confidence: 1}}).Encode()
	servers, err := rendezvous.ParseServers(w.server.Address())
	require.NoError(t, err)
	l.Client = rendezvous.NewClient(rendezvous.ClientConfig{
		Servers: servers, Key: l.key,
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			return at.Dial(ctx, network, address)
		},
		OnOffer: func(*rendezvous.Offer) {}, // no answer: the dialer tries until it gives up
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { // ends with ctx
		defer close(done)
		l.Run(ctx)
	}()
	t.Cleanup(func() { cancel(); <-done })
	require.NoError(t, l.Update(rendezvous.Info{Candidates: l.candidates, Report: l.report, Kind: "apdm/random"}))
	return l
}

// dial has the server introduce the liar to a listener, with a handshake that is
// all right, and waits until the listener has answered.
func (l *liar) dial(ctx context.Context, peer string) error {
	p := secure.Params{DialID: rendezvous.NewDialID(), Peer: peer, Mode: secure.Encrypted}
	_, msg1, err := secure.Initiate(l.key, p)
	if err != nil {
		return err
	}
	call, err := l.Dial(ctx, rendezvous.DialRequest{DialID: p.DialID, Peer: peer,
		Noise: append([]byte{byte(secure.Encrypted)}, msg1...), Candidates: l.candidates, Report: l.report, Kind: "apdm/random"})
	if err != nil {
		return err
	}
	select {
	case a := <-call.Answer:
		return a.Err()
	case <-call.Done:
		return call.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// TestStrangersDialsLeaveRoom: somebody dials a node as fast as the server lets
// him, and none of it comes to anything, which takes a place of the node's for
// seconds each time. Others get in.
func TestStrangersDialsLeaveRoom(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 4*time.Millisecond)
	a := w.node(w.behind("a", "eim-apdf"), stunt.Config{ID: "a", Window: 20 * time.Second, Relay: stunt.RelayNever})
	b := w.node(w.behind("b", "eim-apdf"), stunt.Config{Relay: stunt.RelayNever})
	ln := listen(t, a, 0)
	w.ready(a, b)
	l := newLiar(t, w, w.behind("den", "eim-apdf"), w.at("victim", ""))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	busy := 0
	for range 300 {
		switch err := l.dial(ctx, "a"); {
		case errors.Is(err, rendezvous.CodeBusy):
			busy++
		default:
			require.NoError(t, err)
		}
	}
	require.Greater(t, busy, 100, "the stranger's dials are more than the node answers")
	connect(t, b, ln).close()
}

// mostAtStranger is how many SYNs a process sends to one stranger in a minute, as
// docs/traversal.md says: each of these connects is answered with RST at once, so
// none is repeated by the kernel.
const mostAtStranger = 24

// TestLiarsDoNotAim: peers name a third party's addresses as their own, in dials
// of many keys to one listener, and as listeners whom one node dials. From the NATs
// whose dials take most SYNs, some arrive, as the liars might have told the truth;
// but few, of all dials together, and none of them is a guess. Honest peers connect
// meanwhile.
func TestLiarsDoNotAim(t *testing.T) {
	for _, behind := range []string{"eim-apdf", "apdm-random"} {
		t.Run(behind, func(t *testing.T) {
			t.Parallel()
			syns := &synsAt{host: "victim"}
			w := newWorldIn(t, natlab.Config{Seed: 1, Trace: syns}, 4*time.Millisecond)
			victim, den := w.at("victim", ""), w.behind("den", "eim-eif") // in another network of the lab's than the victim
			config := func(id string) stunt.Config {
				return stunt.Config{ID: id, Window: time.Second, Budget: stunt.NewBudget(2048, 1500), Relay: stunt.RelayNever}
			}
			a := w.node(w.behind("a", behind), config("a"))
			b := w.node(w.behind("b", "eim-eif"), config("b"))
			c := w.node(w.behind("c", behind), config(""))
			ln := listen(t, a, 0)
			honest := listen(t, b, 0)
			w.ready(a, b, c)
			var liars []*liar
			for i := range 5 {
				l := newLiar(t, w, den, victim)
				require.NoError(t, l.Register(t.Context(), fmt.Sprint("liar", i)))
				liars = append(liars, l)
			}
			for _, tt := range []struct {
				name string
				dial func(ctx context.Context, l *liar, i int) error
			}{
				{"who dial", func(ctx context.Context, l *liar, _ int) error { return l.dial(ctx, "a") }},
				{"who are dialled", func(ctx context.Context, _ *liar, i int) error {
					_, err := c.Dial(ctx, "tcp", fmt.Sprint("liar", i))
					if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, stunt.ErrNoPath) {
						return nil
					}
					return fmt.Errorf("a path to a liar: %w", err)
				}},
			} {
				before := syns.count()
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				var dials errgroup.Group
				for range 4 {
					for i, l := range liars {
						dials.Go(func() error { return tt.dial(ctx, l, i) })
					}
				}
				require.NoError(t, dials.Wait(), tt.name)
				<-ctx.Done() // what the listener does of a dial goes on after its answer
				cancel()
				connect(t, a, honest).close()
				connect(t, b, ln).close()
				got := syns.count() - before
				t.Logf("%s: %d SYNs at the victim, of 20 dials", tt.name, got)
				require.Positive(t, got, "the attack has begun at all")
				require.LessOrEqual(t, got, 2*mostAtStranger, "at the victim's IPv4 address and at its IPv6 network")
			}
		})
	}
}
