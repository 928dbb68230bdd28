package crowd

import (
	"context"
	"sync"
)

// Raiders are those of one process, for net/rpc: one attack at a time.
type Raiders struct {
	config RaidConfig

	mu   sync.Mutex // guards following
	now  *raiders   // nil: nobody attacks
	end  context.CancelFunc
	over chan struct{} // closed when the attack that was ended has left nothing
}

// RaidConfig says whom they attack.
type RaidConfig struct {
	Server string
	Peers  int // honest nodes that are there
}

// Raid is one attack of so many blows a second.
type Raid struct {
	Name      string
	PerSecond int
}

// Score is what came of an attack.
type Score struct {
	Tried, In, Refused int64 // blows; those that the server did as it was asked, and the others
	Most               int64 // that the raiders held of it at once
}

func (s *Score) add(more Score) {
	s.Tried, s.In, s.Refused, s.Most = s.Tried+more.Tried, s.In+more.In, s.Refused+more.Refused, max(s.Most, more.Most)
}

// Start prepares them.
func (r *Raiders) Start(c RaidConfig, _ *Nothing) error {
	r.config = c
	return nil
}

// Begin begins an attack and returns at once.
func (r *Raiders) Begin(a Raid, _ *Nothing) error {
	x, err := findRaid(a.Name)
	if err != nil {
		return err
	}
	now, err := newRaiders(r.config.Server, a.PerSecond, r.config.Peers)
	if err != nil {
		return err
	}
	ctx, end := context.WithCancel(context.Background())
	over := make(chan struct{})
	r.mu.Lock()
	r.now, r.end, r.over = now, end, over
	r.mu.Unlock()
	go func() { // ends with ctx, by End
		defer close(over)
		x.run(ctx, now)
	}()
	return nil
}

// End ends the attack and returns what came of it.
func (r *Raiders) End(_ Nothing, s *Score) error {
	r.mu.Lock()
	now, end, over := r.now, r.end, r.over
	r.now = nil
	r.mu.Unlock()
	if now == nil {
		return nil
	}
	end()
	<-over
	*s = now.told()
	return nil
}

// told is how it stands.
func (r *raiders) told() Score {
	return Score{Tried: r.tried.Load(), In: r.in.Load(), Refused: r.refused.Load(), Most: r.most.Load()}
}
