package crowd

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"time"
)

// A SoakConfig is a load of everything at once, for long.
type SoakConfig struct {
	For       time.Duration // in all; 0: 20 s
	Nodes     int           // that stay all the time, and dial; 0: 500
	Mortals   int           // nodes that come, and are killed with their process; 0: 100
	Rate      int           // dials per second; 0: 100
	PerSecond int           // blows of the attack of the moment; 0: 50
	Progress  io.Writer     // a line now and then; nil: none
}

// A Mark is how a server was at one moment, when all of the load had been taken
// off but for the nodes that stay.
type Mark struct {
	After time.Duration
	HostStats
}

// A Soaking is what became of a server.
type Soaking struct {
	Empty         Mark    // before the load, with the nodes
	Marks         [4]Mark // at each quarter of the time
	Done          int     // of them
	Dials, Failed int
	Raids         Score
	Killed        int // nodes
}

// What may be more at the end than at half of the time: caches that are bounded,
// and the collector's moods.
const (
	soakGrowth   = 1.10
	soakHeap     = 4 << 20
	soakResident = 16 << 20
	soakOther    = 32 // goroutines, files
)

// Grown returns what is more at the end than it was in the first half, in words;
// nothing if the server is flat.
func (s *Soaking) Grown() (grown []string) {
	judge := func(what string, slack int64, of func(HostStats) int64) {
		before, after := max(of(s.Marks[0].HostStats), of(s.Marks[1].HostStats)), of(s.Marks[3].HostStats)
		if float64(after) > soakGrowth*float64(before)+float64(slack) {
			grown = append(grown, fmt.Sprintf("%s: %d, and %d in the first half", what, after, before))
		}
	}
	judge("bytes of heap", soakHeap, func(h HostStats) int64 { return h.Heap })
	judge("bytes of memory", soakResident, func(h HostStats) int64 { return h.Resident })
	judge("goroutines", soakOther, func(h HostStats) int64 { return int64(h.Goroutines) })
	judge("open files", soakOther, func(h HostStats) int64 { return int64(h.Files) })
	return grown
}

// A soak is one under way.
type soak struct {
	*ground
	config  SoakConfig
	res     *Soaking
	mortals int // how many have been so far
}

// Soak keeps a server under the load of everything at once: dials, attacks one
// after the other, relayed connections, and nodes that are killed. What it has got
// when ctx ends or something fails it returns too.
func Soak(ctx context.Context, c SoakConfig) (*Soaking, error) {
	c.For, c.Nodes, c.Mortals = cmp.Or(c.For, 20*time.Second), cmp.Or(c.Nodes, 500), cmp.Or(c.Mortals, 100)
	c.Rate, c.PerSecond = cmp.Or(c.Rate, 100), cmp.Or(c.PerSecond, 50)
	g, err := openGround(ctx, c.Nodes, c.Progress)
	if err != nil {
		return nil, err
	}
	defer g.close()
	s := &soak{ground: g, config: c, res: &Soaking{}}
	if err := s.mark(ctx, 0, &s.res.Empty); err != nil {
		return s.res, err
	}
	began, turn := time.Now(), 0
	for i := range s.res.Marks {
		end := began.Add(c.For * time.Duration(i+1) / time.Duration(len(s.res.Marks)))
		for time.Now().Before(end) {
			if err := s.mix(ctx, raids[turn%len(raids)].name, time.Until(end)); err != nil {
				return s.res, err
			}
			turn++
		}
		if err := s.mark(ctx, time.Since(began), &s.res.Marks[i]); err != nil {
			return s.res, err
		}
		s.res.Done++
		m := s.res.Marks[i]
		s.say("%3d %%, %v: heap %.1f MiB, memory %.1f MiB, %d goroutines, %d files; %d dials, %d failed; %d blows, %d nodes killed",
			25*(i+1), m.After.Round(time.Second), mib(m.Heap), mib(m.Resident), m.Goroutines, m.Files, s.res.Dials, s.res.Failed, s.res.Raids.Tried, s.res.Killed)
	}
	return s.res, nil
}

func mib(bytes int64) float64 { return float64(bytes) / (1 << 20) }

// turn is how long one attack lasts: each has its turn at least once.
func (c SoakConfig) turn() time.Duration {
	return min(max(c.For/time.Duration(len(raids)+2), 200*time.Millisecond), 5*time.Second)
}

// mix is one turn: an attack, dials, and mortals who come and are killed.
func (s *soak) mix(ctx context.Context, attack string, most time.Duration) (err error) {
	if err := s.raiders.call(ctx, "Begin", Raid{attack, s.config.PerSecond}, new(Nothing)); err != nil {
		return err
	}
	mortals, err := start(roleNodes)
	if err != nil {
		return err
	}
	defer mortals.kill()
	if err := mortals.call(ctx, "Start", NodesConfig{s.hosts.address[0], s.Keepalive}, new(Nothing)); err != nil {
		return err
	}
	first := s.config.Nodes + s.mortals
	s.mortals += s.config.Mortals // those of each turn have names and addresses of their own
	come := make(chan error, 1)   // capacity for the one result
	go func() {                   // ends with the call
		come <- mortals.call(ctx, "Grow", Growth{first, first + s.config.Mortals, 1, 8}, new(Nothing))
	}()
	s.Rate, s.For = s.config.Rate, max(min(s.config.turn(), most), 100*time.Millisecond)
	done, err := s.dial(ctx, s.config.Nodes)
	if err != nil {
		return err
	}
	s.res.Dials, s.res.Failed = s.res.Dials+len(done.Answer)+done.Failed, s.res.Failed+done.Failed
	var score Score
	if err := s.raiders.call(ctx, "End", Nothing(0), &score); err != nil {
		return err
	}
	s.res.Raids.add(score)
	s.res.Killed += s.config.Mortals
	select {
	case err = <-come:
	case <-ctx.Done():
		err = ctx.Err()
	}
	return err
}

// mark waits until nothing but the nodes that stay is there, and measures.
func (s *soak) mark(ctx context.Context, after time.Duration, m *Mark) error {
	// What is kept of those who have gone is kept for a minute (names), or half of
	// one (dials that nobody has reported); a short soaking has it in it.
	rest := min(max(s.config.For/60, time.Second/2), 65*time.Second)
	select {
	case <-time.After(rest):
	case <-ctx.Done():
		return ctx.Err()
	}
	n := s.config.Nodes
	if _, err := s.wait(ctx, n, func(c Count) bool { return c.Standing == int64(n) }); err != nil {
		return err
	}
	m.After = after
	var err error
	m.HostStats, err = s.hosts.stats(ctx)
	return err
}

// WriteMarkdown writes a table of the marks.
func (s *Soaking) WriteMarkdown(w io.Writer) error {
	p := &printer{w: w}
	p.line("| time | heap, MiB | memory, MiB | goroutines | open files |")
	p.line("| --- | --- | --- | --- | --- |")
	row := func(when string, m Mark) {
		p.line("| %s | %.1f | %.1f | %d | %d |", when, mib(m.Heap), mib(m.Resident), m.Goroutines, m.Files)
	}
	row("before", s.Empty)
	for i, m := range s.Marks[:s.Done] {
		row(fmt.Sprintf("%d %%: %v", 25*(i+1), m.After.Round(time.Second)), m)
	}
	p.line("")
	p.line("%d dials, of which %d failed; %d blows of %d kinds; %d nodes killed.", s.Dials, s.Failed, s.Raids.Tried, len(raids), s.Killed)
	return p.err
}
