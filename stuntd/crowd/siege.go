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
	For       time.Duration // of each attack in all, and of the quiet between; 0: 6 s
	Attacks   []string      // of Raids; nil: all
	PerSecond int           // blows of an attack; 0: 1,000
	Progress  io.Writer     // a line now and then; nil: none
}

// A Siege is what one attack has cost the honest.
type Siege struct {
	Attack, About string
	Score         Score
	Lasted        time.Duration
	Quiet, Under  []Dialled // what honest nodes dialled without it, and meanwhile, in each round
	Before, After HostStats
}

// Ratio is how much longer the slowest of a hundred dials took.
func (s Siege) Ratio() float64 {
	return float64(typical(s.Under).P99) / float64(max(typical(s.Quiet).P99, 1))
}

// Failed returns how many dials failed during the attack, of how many.
func (s Siege) Failed() (failed, of int) {
	for _, d := range s.Under {
		failed, of = failed+d.Failed, of+d.Failed+len(d.Answer)
	}
	return failed, of
}

// typical is the median of the rounds' quantiles: one in which the machine did
// something else is no news.
func typical(rounds []Dialled) Quantile {
	var p50, p99 []time.Duration
	for _, d := range rounds {
		q := quantile(d.Answer)
		p50, p99 = append(p50, q.P50), append(p99, q.P99)
	}
	slices.Sort(p50)
	slices.Sort(p99)
	return Quantile{p50[len(p50)/2], p99[len(p99)/2]}
}

// Besiege has a server attacked in each way, while nodes dial each other through
// it. What it has got when ctx ends or something fails it returns too.
func Besiege(ctx context.Context, c SiegeConfig) (res []Siege, err error) {
	c.Nodes, c.Rate, c.For, c.PerSecond = cmp.Or(c.Nodes, 1000), cmp.Or(c.Rate, 400), cmp.Or(c.For, 6*time.Second), cmp.Or(c.PerSecond, 1000)
	if c.Attacks == nil {
		c.Attacks = Raids()
	}
	g, err := openGround(ctx, c.Nodes, c.Progress)
	if err != nil {
		return nil, err
	}
	defer g.close()
	for _, name := range c.Attacks {
		s, err := g.besiege(ctx, c, name)
		if err != nil {
			return res, fmt.Errorf("%s: %w", name, err)
		}
		failed, _ := s.Failed()
		g.say("%-14s %6d blows, %6d as asked, %5d held at once; dials %v quiet, %v under attack: %.1f times; %d failed",
			name, s.Score.Tried, s.Score.In, s.Score.Most, typical(s.Quiet).P99, typical(s.Under).P99, s.Ratio(), failed)
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
// else the machine does then befalls both alike.
const rounds = 6

// besiege is one attack.
func (g *ground) besiege(ctx context.Context, c SiegeConfig, name string) (s Siege, err error) {
	x, err := findRaid(name)
	if err != nil {
		return s, err
	}
	s = Siege{Attack: x.name, About: x.about}
	g.Rate, g.For = c.Rate, c.For/rounds
	for range rounds {
		quiet, err := g.dial(ctx, c.Nodes)
		if err != nil {
			return s, err
		}
		if err := g.raiders.call(ctx, "Begin", Raid{name, c.PerSecond}, new(Nothing)); err != nil {
			return s, err
		}
		began := time.Now()
		under, err := g.dial(ctx, c.Nodes)
		if err != nil {
			return s, err
		}
		s.Lasted += time.Since(began)
		var score Score
		if err := g.raiders.call(ctx, "End", Nothing(0), &score); err != nil {
			return s, err
		}
		s.Quiet, s.Under = append(s.Quiet, quiet), append(s.Under, under)
		s.Score.add(score)
	}
	return s, nil
}
