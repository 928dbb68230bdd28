// Package grid measures which NATs are crossed: for each pair of behaviours
// it builds a lab with a server and two hosts behind these NATs, lets one
// [stunt.Node] dial the other, and notes by which method they met, how often,
// in how many round trips and with how many SYNs.
//
// The programs under test are the real ones: stuntd, and nodes with nothing
// but their public configuration, over the kernel's TCP. "stunt lab grid"
// prints the table that the README shows; the test of this package compares
// a part of it with testdata/grid.golden.
package grid

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// Config says what is measured. The zero value is the table of the README.
type Config struct {
	// Sides are the rows (who listens) and the columns (who dials). Nil: Core.
	Sides []Side
	// Lists are the pairs that are measured beside the table. Nil: all of
	// [Lists]; empty but not nil: none.
	Lists []List
	// N is how many dials each pair makes. 0: 20, of which none failing is a
	// chance of 84 % at least.
	N int
	// PerWorld is how many of these one lab sees, one after the other; the
	// next ones begin in a fresh one with the next seed. 0: 10.
	PerWorld int
	// Seed decides every random choice of the first lab's NATs.
	Seed uint64
	// RTT is between any two of the server and the outermost NATs, and the
	// unit that times are given in. 0: 100 ms, next to which the noise of a
	// busy machine is small.
	RTT time.Duration
	// Jitter and Loss are those of every link, as in [natlab.Link].
	Jitter time.Duration
	Loss   float64
	// Window is how long a dial tries, as in [stunt.Config]. 0: 3 s, which
	// still covers two retransmissions of a lost SYN.
	Window time.Duration
	// Jobs is how many labs measure at once: most of their time is waiting, but
	// on two cores more than that get into each other's way. 0: 20.
	Jobs int
	// Progress, if not nil, is called after each lab, one call at a time.
	Progress func(done, total int)
	// TraceDir, if not empty, is an existing folder that gets a file per lab:
	// every packet at every point, and every step of the two nodes.
	TraceDir string
}

func (c Config) orDefault() Config {
	def := func(n *int, v int) {
		if *n <= 0 {
			*n = v
		}
	}
	def(&c.N, 20)
	def(&c.PerWorld, 10)
	def(&c.Jobs, 20)
	if c.RTT <= 0 {
		c.RTT = 100 * time.Millisecond
	}
	if c.Window <= 0 {
		c.Window = 3 * time.Second
	}
	if c.Sides == nil {
		c.Sides = Core()
	}
	if c.Lists == nil {
		c.Lists = Lists()
	}
	return c
}

// over returns the config for a case.
func (c Config) over(l Link) Config {
	if l != (Link{}) {
		c.RTT, c.Jitter, c.Loss = l.RTT, l.Jitter, l.Loss
	}
	return c
}

// Grid is what was measured.
type Grid struct {
	Config   Config     // as it was run, with its defaults
	Cells    [][]Result // [listener][dialer], in the order of Config.Sides
	Lists    []Results  // in the order of Config.Lists
	Repeated int        // labs that were run once more, see standstill
	Took     time.Duration
}

// job is one lab: some of the dials of a case.
type job struct {
	result *Result
	world  int // number of the lab within the case
	dials  int
}

// Run measures. It fails if ctx ends, and where there can be no lab. An error
// of single labs, as on a machine without the memory for them, is returned
// with the grid, in which their cells have no dials.
func Run(ctx context.Context, c Config) (*Grid, error) {
	began := time.Now()
	c = c.orDefault()
	state, err := os.MkdirTemp("", "stunt-grid-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(state)
	r := runner{c, make(chan struct{}, c.Jobs), watch()}
	defer r.still.close()

	g := newGrid(c)
	jobs := g.jobs()
	var mu sync.Mutex // guards following, and the results
	var errs []error
	done := 0
	var workers errgroup.Group
	for i, j := range jobs {
		workers.Go(func() error {
			ds, repeated, err := r.steady(ctx, j, filepath.Join(state, fmt.Sprint(i)))
			mu.Lock()
			defer mu.Unlock()
			j.result.Dials = append(j.result.Dials, ds.direct...)
			j.result.Relayed = append(j.result.Relayed, ds.relayed...)
			g.Repeated += repeated
			if err != nil && ctx.Err() == nil {
				errs = append(errs, fmt.Errorf("%v: %w", j.result.Case, err))
			}
			if done++; c.Progress != nil {
				c.Progress(done, len(jobs))
			}
			return nil
		})
	}
	workers.Wait()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	g.Took = time.Since(began)
	return g, errors.Join(errs...)
}

func newGrid(c Config) *Grid {
	g := &Grid{Config: c}
	for _, l := range c.Sides {
		row := make([]Result, len(c.Sides))
		for i, d := range c.Sides {
			row[i] = Result{Case: pair(l, d), RTT: c.RTT}
		}
		g.Cells = append(g.Cells, row)
	}
	for _, l := range c.Lists {
		list := Results{List: l}
		for _, x := range l.Cases {
			list.Results = append(list.Results, Result{Case: x, RTT: c.over(x.Link).RTT})
		}
		g.Lists = append(g.Lists, list)
	}
	return g
}

// results returns every result, those of the table first.
func (g *Grid) results() []*Result {
	var all []*Result
	for _, row := range g.Cells {
		for i := range row {
			all = append(all, &row[i])
		}
	}
	for _, l := range g.Lists {
		for i := range l.Results {
			all = append(all, &l.Results[i])
		}
	}
	return all
}

// list returns the results of a list, or none if it was not measured.
func (g *Grid) list(name string) []Result {
	for _, l := range g.Lists {
		if l.List.Name == name {
			return l.Results
		}
	}
	return nil
}

// jobs returns the labs in a random order, the same one for a seed: those that
// guess send a thousand SYNs a dial, and are neighbours in the table.
func (g *Grid) jobs() []job {
	var jobs []job
	for _, r := range g.results() {
		for world, left := 0, g.Config.N; left > 0; world++ {
			n := min(left, g.Config.PerWorld)
			jobs = append(jobs, job{r, world, n})
			left -= n
		}
	}
	random := rand.New(rand.NewPCG(g.Config.Seed, 0))
	random.Shuffle(len(jobs), func(i, j int) { jobs[i], jobs[j] = jobs[j], jobs[i] })
	return jobs
}

// maxRepeats bounds how often a lab is run once more. On a machine that never
// gets to it the last one counts as it is.
const maxRepeats = 3

// runner runs jobs.
type runner struct {
	config Config
	slots  chan struct{} // capacity: the labs that measure at once
	still  *standstill
}

// steady is run, once more if the machine stood still meanwhile: whatever came
// of that, good or bad, is not about NATs.
func (r runner) steady(ctx context.Context, j job, state string) (dials dials, repeated int, err error) {
	for ; ; repeated++ {
		began := time.Now()
		dials, err = r.run(ctx, j, fmt.Sprintf("%s-%d", state, repeated))
		if repeated == maxRepeats || ctx.Err() != nil || !r.still.since(began) {
			return dials, repeated, err
		}
	}
}

// run makes the dials of a job in a lab of its own.
func (r runner) run(ctx context.Context, j job, state string) (dials dials, err error) {
	select {
	case r.slots <- struct{}{}:
	case <-ctx.Done():
		return dials, ctx.Err()
	}
	w := &world{config: r.config.over(j.result.Case.Link), seed: r.config.Seed + uint64(j.world)}
	if r.config.TraceDir != "" {
		f, err := os.Create(filepath.Join(r.config.TraceDir, fmt.Sprintf("%s-%d.txt", j.result.Case.file(), j.world)))
		if err != nil {
			<-r.slots
			return dials, err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		w.trace.file = f
	}
	dials, err = w.measure(ctx, j, state)
	<-r.slots // what follows is waiting for sockets that linger
	return dials, errors.Join(err, w.close())
}

// dials are those of one lab.
type dials struct {
	direct  []Dial
	relayed []Dial // where none of direct was answered
}

// measure builds the world and makes the dials of a job; and if no direct path
// was found, as many that may take the relay.
func (w *world) measure(ctx context.Context, j job, state string) (ds dials, err error) {
	if ctx.Err() != nil {
		return ds, ctx.Err()
	}
	if err := w.build(ctx, j.result.Case, state); err != nil {
		return ds, err
	}
	some := func(into *[]Dial) (answered bool, err error) {
		for i := range j.dials {
			d, err := w.dial(ctx, i)
			if err != nil {
				return answered, err
			}
			answered = answered || d.Err == nil
			*into = append(*into, d)
		}
		return answered, nil
	}
	n, product := w.ends.(*nodes)
	if answered, err := some(&ds.direct); answered || err != nil || !product {
		return ds, err
	}
	if err := n.takeRelay(ctx); err != nil {
		return ds, err
	}
	_, err = some(&ds.relayed)
	return ds, err
}
