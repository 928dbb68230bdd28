package crowd

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"time"
)

// A SiegeConfig says what a server is to stand.
type SiegeConfig struct {
	Nodes     int           // honest ones, which dial all the time; 0: 1,000
	Rate      int           // their dials per second; 0: 400
	For       time.Duration // of each attack in all; 0: 10 s
	Attacks   []string      // of Raids; nil: all
	PerSecond int           // blows of an attack; 0: 1,000
	Progress  io.Writer     // a line now and then; nil: none
}

// A Siege is what one attack has cost the honest. As attackers, server and nodes
// share a machine, it is held against the same attack on a neighbour: another
// server, with as many nodes, on the same machine.
type Siege struct {
	Attack, About string
	Score         Score
	Lasted        time.Duration
	Quiet         []Spell // without an attack, in each round
	Beside        []Spell // while it was on the neighbour
	Under         []Spell // while it was on the server of those who dial
}

// A Spell is a time in which honest nodes have dialled.
type Spell struct {
	Dialled
	Parts  []time.Duration // the server's, of each dial of anybody: from the Dial, read, to both messages, queued
	Used   time.Duration   // processor time of the server
	Lasted time.Duration
}

// Ratio is how much longer the slowest of a hundred dials took than without the
// attack.
func (s Siege) Ratio() float64 { return ratio(s.Under, s.Quiet) }

// Beyond is how much longer it took than while the neighbour had the attack.
func (s Siege) Beyond() float64 { return ratio(s.Under, s.Beside) }

func ratio(a, b []Spell) float64 {
	return float64(typical(a, answers).P99) / float64(max(typical(b, answers).P99, 1))
}

// Failed returns how many dials failed during the attack, of how many.
func (s Siege) Failed() (failed, of int) {
	for _, d := range s.Under {
		failed, of = failed+d.Failed, of+d.Failed+len(d.Answer)
	}
	return failed, of
}

func answers(s Spell) []time.Duration { return s.Answer }
func parts(s Spell) []time.Duration   { return s.Parts }

// typical is the median of the rounds' quantiles: one in which the machine did
// something else is no news.
func typical(rounds []Spell, of func(Spell) []time.Duration) Quantile {
	var p50, p99 []time.Duration
	for _, s := range rounds {
		q := quantile(of(s))
		p50, p99 = append(p50, q.P50), append(p99, q.P99)
	}
	slices.Sort(p50)
	slices.Sort(p99)
	return Quantile{p50[len(p50)/2], p99[len(p99)/2]}
}

// busy is how much of a core the server has used, in all rounds.
func busy(rounds []Spell) float64 {
	var used, lasted time.Duration
	for _, s := range rounds {
		used, lasted = used+s.Used, lasted+s.Lasted
	}
	return float64(used) / float64(max(lasted, 1))
}

// Besiege has a server attacked in each way, while nodes dial each other through
// it. What it has got when ctx ends or something fails it returns too.
func Besiege(ctx context.Context, c SiegeConfig) (res []Siege, err error) {
	c.Nodes, c.Rate, c.For, c.PerSecond = cmp.Or(c.Nodes, 1000), cmp.Or(c.Rate, 400), cmp.Or(c.For, 10*time.Second), cmp.Or(c.PerSecond, 1000)
	if c.Attacks == nil {
		c.Attacks = Raids()
	}
	g, err := openGround(ctx, c.Nodes, c.Progress)
	if err != nil {
		return nil, err
	}
	defer g.close()
	neighbour, err := openGround(ctx, c.Nodes, c.Progress)
	if err != nil {
		return nil, err
	}
	defer neighbour.close()
	for _, name := range c.Attacks {
		s, err := g.besiege(ctx, neighbour, c, name)
		if err != nil {
			return res, fmt.Errorf("%s: %w", name, err)
		}
		failed, _ := s.Failed()
		g.say("%-14s %6d blows, %6d as asked, %5d held at once; dials %v quiet, %v beside it, %v under it: %.1f times, %.1f beyond its neighbour; %d failed",
			name, s.Score.Tried, s.Score.In, s.Score.Most, typical(s.Quiet, answers).P99, typical(s.Beside, answers).P99, typical(s.Under, answers).P99, s.Ratio(), s.Beyond(), failed)
		res = append(res, s)
	}
	return res, nil
}

// A ground is a server with nodes and raiders, in a process each.
type ground struct {
	run
	raiders *process
}

// openGround starts all, and returns when the nodes are there.
func openGround(ctx context.Context, nodes int, progress io.Writer) (_ *ground, err error) {
	g := &ground{run: run{Config: Config{Sizes: []int{nodes}, Progress: progress}}}
	if err := g.prepare(); err != nil {
		return nil, err
	}
	g.hosts.configs[0].Conns = 0 // as it is for everybody
	defer func() {
		if err != nil {
			g.close()
		}
	}()
	if err := g.open(ctx, new(HostStats)); err != nil {
		return nil, err
	}
	if err := g.grow(ctx, 0, nodes); err != nil {
		return nil, err
	}
	if _, err := g.wait(ctx, nodes, func(c Count) bool { return c.Standing == int64(nodes) }); err != nil {
		return nil, err
	}
	return g, g.startRaiders(ctx, nodes)
}

func (g *ground) startRaiders(ctx context.Context, peers int) (err error) {
	if g.raiders, err = start(roleRaiders); err != nil {
		return err
	}
	return g.raiders.call(ctx, "Start", RaidConfig{g.hosts.address[0], peers}, new(Nothing))
}

// close ends all processes.
func (g *ground) close() {
	if g.raiders != nil {
		g.raiders.end()
	}
	g.end()
}

// rounds is in how many parts an attack comes, with quiet between them: whatever
// else the machine does then befalls all alike.
const rounds = 6

// onset is how long an attack is under way before a spell begins. It begins with as
// many handshakes as raiders have sessions, in the time of a few dozen dials: what
// these cost is what the attack of handshakes is about.
const onset = 300 * time.Millisecond

// besiege is one attack.
func (g *ground) besiege(ctx context.Context, neighbour *ground, c SiegeConfig, name string) (s Siege, err error) {
	x, err := findRaid(name)
	if err != nil {
		return s, err
	}
	s = Siege{Attack: x.name, About: x.about}
	g.Rate, g.For = c.Rate, c.For/rounds
	raid := Raid{name, c.PerSecond}
	for range rounds {
		quiet, err := g.spell(ctx, c.Nodes)
		if err != nil {
			return s, err
		}
		beside, _, err := g.spellUnder(ctx, neighbour.raiders, raid, c.Nodes)
		if err != nil {
			return s, err
		}
		under, score, err := g.spellUnder(ctx, g.raiders, raid, c.Nodes)
		if err != nil {
			return s, err
		}
		s.Lasted += onset + under.Lasted
		s.Quiet, s.Beside, s.Under = append(s.Quiet, quiet), append(s.Beside, beside), append(s.Under, under)
		s.Score.add(score)
	}
	return s, nil
}

// spellUnder is one while raiders attack.
func (g *ground) spellUnder(ctx context.Context, raiders *process, raid Raid, total int) (s Spell, score Score, err error) {
	if err := raiders.call(ctx, "Begin", raid, new(Nothing)); err != nil {
		return s, score, err
	}
	if err = sleep(ctx, onset); err == nil {
		s, err = g.spell(ctx, total)
	}
	if err != nil {
		return s, score, err
	}
	return s, score, raiders.call(ctx, "End", Nothing(0), &score)
}

// spell has the nodes dial, and measures.
func (g *ground) spell(ctx context.Context, total int) (s Spell, err error) {
	if _, err := g.hosts.parts(ctx); err != nil { // of what was dialled since the last
		return s, err
	}
	began := time.Now()
	s.Used, err = g.hosts.cpu(ctx, func() (err error) {
		s.Dialled, err = g.dial(ctx, total)
		return err
	})
	if err != nil {
		return s, err
	}
	s.Lasted = time.Since(began)
	s.Parts, err = g.hosts.parts(ctx)
	return s, err
}
