package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/gostunt/stunt"
	"github.com/gostunt/stunt/probe"
)

func init() {
	commands = append(commands,
		command{name: "demo-alice", run: runAlice, hidden: true},
		command{name: "demo-bob", run: runBob, hidden: true})
}

// peer is what the demo's two programs share.
type peer struct {
	out    io.Writer
	node   *stunt.Node
	rtt    time.Duration
	mib    int
	config stunt.Config

	relayed atomic.Bool // a connection began over the relay
}

func newPeer(e *env, name string, args []string) (*peer, error) {
	p := &peer{out: e.out}
	f := flag.NewFlagSet(name, flag.ContinueOnError)
	f.StringVar(&p.config.Server, "server", "", "")
	f.DurationVar(&p.rtt, "rtt", 0, "")
	f.IntVar(&p.mib, "mib", 64, "")
	raw := f.Bool("raw", false, "")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if *raw {
		p.config.Security = stunt.Raw
	}
	p.config.ID = name
	p.config.Trace = &stunt.Trace{Step: p.step}
	p.node = &stunt.Node{Config: p.config}
	return p, nil
}

// tell prints one line of the story.
func (p *peer) tell(format string, args ...any) {
	fmt.Fprintf(p.out, format+"\n", args...)
}

// introduce waits for the session and for the NAT to be probed.
func (p *peer) introduce(ctx context.Context) error {
	began := time.Now()
	if err := p.node.Up(ctx); err != nil {
		return err
	}
	p.tell("has a session with the server after %s; it stays open on the port to punch from", p.trips(time.Since(began)))
	r, err := p.node.Report(ctx)
	if err != nil {
		return err
	}
	p.tell("probed its NAT in %s: %s", p.trips(time.Since(began)), describe(r))
	return nil
}

func describe(r *probe.Report) string {
	s := fmt.Sprintf("mapping %v, filtering %v", r.Mapping, r.Filtering)
	if r.PortPreserving == probe.Yes {
		s += ", ports preserved"
	}
	if r.Delta != 0 {
		s += fmt.Sprintf(", next port %+d", r.Delta)
	}
	return s + fmt.Sprintf(", an unsolicited SYN gets %v", r.Unsolicited)
}

// step tells who does what when in a dial.
func (p *peer) step(s stunt.Step) {
	at := fmt.Sprintf("  %6.1f ms ", float64(s.At)/1e6)
	if p.rtt > 0 {
		at = fmt.Sprintf("  %6.1f ms, %3.1f round trips: ", float64(s.At)/1e6, float64(s.At)/float64(p.rtt))
	}
	if len(s.Peer) > 20 {
		s.Peer = s.Peer[:8] + "…" // a fingerprint: bob has no name, and needs none
	}
	switch s.Phase {
	case stunt.PhaseDialing:
		if s.Dialer {
			p.tell("%sasks the server for %s", at, s.Peer)
		} else {
			p.tell("%shears from the server that %s wants to connect", at, s.Peer)
		}
	case stunt.PhaseRinging:
		p.tell("%sknows where %s is: the server has told both at the same moment", at, s.Peer)
	case stunt.PhaseFired:
		p.tell("%sfires: SYN to %v (%s)", at, s.Remote, s.Method)
	case stunt.PhaseAnswered:
		p.tell("%shas the keys of this connection", at)
	case stunt.PhaseArrived:
		p.tell("%saccepts a connection from %v that names this dial", at, s.Remote)
	case stunt.PhaseConnected:
		p.tell("%sTCP stands with %v", at, s.Remote)
	case stunt.PhaseVerified:
		p.tell("%s%s has proved who it is at %v", at, s.Peer, s.Remote)
	case stunt.PhaseSelected:
		p.tell("%sthe path is chosen", at)
		if s.Method == stunt.Relayed {
			p.relayed.Store(true)
		}
	case stunt.PhaseMoved:
		p.tell("%sthe connection goes on directly: %s to %v", at, s.Method, s.Remote)
	case stunt.PhaseFailed:
		if s.Remote.IsValid() {
			p.tell("%s%v: %v", at, s.Remote, s.Err)
		} else {
			p.tell("%sgives up: %v", at, s.Err)
		}
	}
}

// trips prints a time in milliseconds and, in the lab, in round trips.
func (p *peer) trips(d time.Duration) string {
	ms := float64(d) / 1e6
	if p.rtt <= 0 {
		return fmt.Sprintf("%.1f ms", ms)
	}
	return fmt.Sprintf("%.1f ms (%.1f round trips)", ms, float64(d)/float64(p.rtt))
}

// blob is the same stream of bytes for everybody, so that both ends know its hash.
func blob(mib int) io.Reader {
	return io.LimitReader(rand.NewChaCha8([32]byte{'d', 'e', 'm', 'o'}), int64(mib)<<20)
}
