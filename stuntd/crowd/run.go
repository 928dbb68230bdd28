package crowd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/gostunt/stunt/stuntd"
)

// spareFiles are what a process needs beside its connections, with room.
const spareFiles = 600

// A Config says what is measured.
type Config struct {
	Sizes     []int         // numbers of nodes, rising
	Servers   int           // that share them; 0: one
	Apart     bool          // these know nothing of each other; else they are a cluster
	Idle      time.Duration // at each size nothing happens for so long; 0: less
	Rate      int           // dials per second at each size; 0: none
	For       time.Duration // for so long
	Abreast   int           // connections that come at once, of all; 0: 256
	Keepalive time.Duration // of the server; 0: 25 s
	Kill      bool          // at the end kill the server, and measure the return
	Drain     time.Duration // then stop it so, and measure that return; 0: don't
	Patience  time.Duration // for all to come, each time; 0: 5 min
	Progress  io.Writer     // a line now and then; nil: none
}

// A Row is what one size cost.
type Row struct {
	Nodes      int
	Arrival    time.Duration // of those that were not there at the size before
	Arrived    int
	Handshake  time.Duration // the server's processor time for one of them
	Ping       time.Duration // and for one ping, while nothing else happens; 0: not measured
	Server     HostStats     // its Dials are those of this size
	Kernel     int64         // bytes for both ends of all sessions
	Part       Quantile      // the server's part of a dial: from the Dial, read, to both messages, queued
	Ringing    Quantile      // a round trip to the server, as nodes see it
	Answer     Quantile      // over the server to the peer and back
	Dials      int
	DialFailed int
}

// A Return is that of all nodes to a server that was away.
type Return struct {
	How    string
	Nodes  int
	Away   time.Duration // from its end to the next one's "ready"
	Back   time.Duration // from its end to all nodes being registered
	Half   time.Duration // to half of them
	Failed int64         // attempts
	// Spread is the largest part of all that left within a tenth of a second.
	Spread float64
}

// A Result is what Run has measured.
type Result struct {
	Conditions string    // under which the rows were measured, in words
	Mark       string    // of its place in docs/scale.md
	Empty      HostStats // a server without nodes
	Rows       []Row
	Returns    []Return
}

// A run is one measurement under way.
type run struct {
	Config
	hosts  *hosts
	guests []*process
	share  int   // nodes of one process, and of one server
	kernel int64 // bytes of it before the first node
}

// Run measures. What it has got when ctx ends or something fails it returns too.
func Run(ctx context.Context, c Config) (_ *Result, err error) {
	r := &run{Config: c}
	if err := r.prepare(); err != nil {
		return nil, err
	}
	defer r.end()
	res := &Result{Conditions: r.conditions(runtime.NumCPU()), Mark: r.mark()}
	if err := r.open(ctx, &res.Empty); err != nil {
		return res, err
	}
	have := 0
	for _, n := range c.Sizes {
		row, err := r.size(ctx, have, n)
		if err != nil {
			return res, err
		}
		res.Rows = append(res.Rows, row)
		have = n
	}
	if c.Kill {
		back, err := r.away(ctx, "SIGKILL", have, func() (time.Time, error) { return r.hosts.kill(), nil })
		if err != nil {
			return res, err
		}
		res.Returns = append(res.Returns, back)
	}
	if c.Drain > 0 {
		back, err := r.away(ctx, fmt.Sprintf("drain over %v", c.Drain), have, func() (time.Time, error) {
			err := r.hosts.shutdown(ctx)
			return time.Now(), err
		})
		if err != nil {
			return res, err
		}
		res.Returns = append(res.Returns, back)
	}
	return res, nil
}

// prepare fills in what is zero, and sees whether there are files enough.
func (r *run) prepare() error {
	if len(r.Sizes) == 0 || !slices.IsSorted(r.Sizes) || r.Sizes[0] < 2*max(r.Servers, 1) {
		return errors.New("crowd: sizes have to rise, from two for each server on")
	}
	r.Abreast, r.Keepalive, r.Patience = cmp.Or(r.Abreast, 256), cmp.Or(r.Keepalive, 25*time.Second), cmp.Or(r.Patience, 5*time.Minute)
	files, err := openFiles()
	if err != nil {
		return err
	}
	most := r.Sizes[len(r.Sizes)-1]
	r.Servers = max(r.Servers, 1)
	// Each server has the nodes of one process, so that no process has more than that.
	r.share = (most + r.Servers - 1) / r.Servers
	if need := r.share + spareFiles; need > files {
		return fmt.Errorf("crowd: a server needs %d open files for %d nodes, and a process may have %d here: see ulimit -Hn and /proc/sys/fs/nr_open, or have more servers",
			need, r.share, files)
	}
	each := HostConfig{Conns: r.share + spareFiles/2, Keepalive: r.Keepalive, Drain: r.Drain}
	if r.Apart { // what one server would have alone, they share
		each.Return = max(1, stuntd.DefaultReturnRate*max(1, runtime.NumCPU()-1)/r.Servers)
	}
	r.hosts, err = newHosts(r.Servers, r.Apart, each)
	return err
}

func (r *run) say(format string, args ...any) {
	if r.Progress != nil {
		fmt.Fprintf(r.Progress, format+"\n", args...)
	}
}

// open starts the servers and the processes of the nodes.
func (r *run) open(ctx context.Context, empty *HostStats) error {
	if err := r.hosts.start(ctx); err != nil {
		return err
	}
	for _, address := range r.hosts.address {
		p, err := start(roleNodes)
		if err != nil {
			return err
		}
		r.guests = append(r.guests, p)
		if err := p.call(ctx, "Start", NodesConfig{address, r.Keepalive}, new(Nothing)); err != nil {
			return err
		}
	}
	r.say("%d servers, each with a process of %d nodes", len(r.hosts.address), r.share)
	r.kernel = kernelMemory()
	var err error
	*empty, err = r.hosts.stats(ctx)
	return err
}

// end ends all processes.
func (r *run) end() {
	var g errgroup.Group
	for _, p := range r.guests {
		g.Go(func() error {
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			defer cancel()
			defer p.end()
			return p.call(ctx, "GoHome", Nothing(0), new(Nothing))
		})
	}
	g.Wait() // one that does not go is killed
	r.hosts.end()
	r.hosts.remove() // what is left is in the system's folder for that
}

// size brings the number of nodes from one to another and measures there.
func (r *run) size(ctx context.Context, from, to int) (row Row, err error) {
	row = Row{Nodes: to, Arrived: to - from}
	began := time.Now()
	used, err := r.hosts.cpu(ctx, func() error {
		g, ctx := errgroup.WithContext(ctx)
		g.Go(func() error { return r.grow(ctx, from, to) })
		g.Go(func() error {
			_, err := r.wait(ctx, to, func(c Count) bool { return c.Standing == int64(to) })
			return err
		})
		return g.Wait()
	})
	if err != nil {
		return row, err
	}
	row.Arrival, row.Handshake = time.Since(began), used/time.Duration(row.Arrived)
	r.say("%d nodes after %v: %.0f/s", to, row.Arrival.Round(time.Millisecond), float64(row.Arrived)/row.Arrival.Seconds())
	if row.Server, err = r.hosts.stats(ctx); err != nil {
		return row, err
	}
	row.Kernel = kernelMemory() - r.kernel
	if r.Idle > 0 {
		if used, err = r.hosts.cpu(ctx, func() error { return sleep(ctx, r.Idle) }); err != nil {
			return row, err
		}
		row.Ping = time.Duration(float64(used) / (float64(to) * r.Idle.Seconds() / r.Keepalive.Seconds()))
	}
	if r.Rate == 0 {
		return row, nil
	}
	return row, r.dials(ctx, &row)
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// dials measures them.
func (r *run) dials(ctx context.Context, row *Row) error {
	done, err := r.dial(ctx, row.Nodes)
	if err != nil {
		return err
	}
	after, err := r.hosts.stats(ctx)
	if err != nil {
		return err
	}
	row.Part, row.Ringing, row.Answer = quantile(after.Dials), quantile(done.Ringing), quantile(done.Answer)
	row.Dials, row.DialFailed = len(done.Answer), done.Failed
	r.say("%d dials: the server's part %v, %v in the worst of a hundred; Ringing %v, %v; %d failed", row.Dials,
		row.Part.P50, row.Part.P99, row.Ringing.P50, row.Ringing.P99, row.DialFailed)
	return nil
}

// grow has the nodes from one index to another come, to one server after the
// other in turn.
func (r *run) grow(ctx context.Context, from, to int) error {
	g, ctx := errgroup.WithContext(ctx)
	n := len(r.guests)
	for i, p := range r.guests {
		first := from + ((i-from)%n+n)%n
		g.Go(func() error {
			return p.call(ctx, "Grow", Growth{first, to, n, max(1, r.Abreast/n)}, new(Nothing))
		})
	}
	return g.Wait()
}

// dial has all processes dial: nodes of any server, or of their own, where these
// are apart.
func (r *run) dial(ctx context.Context, total int) (all Dialled, err error) {
	each := max(1, r.Rate/len(r.guests))
	done := make([]Dialled, len(r.guests))
	g, ctx := errgroup.WithContext(ctx)
	for i, p := range r.guests {
		d := Dialling{Rate: each, Last: total, Step: 1, For: r.For}
		if r.Apart {
			d.First, d.Step = i, len(r.guests)
		}
		g.Go(func() error { return p.call(ctx, "Dial", d, &done[i]) })
	}
	err = g.Wait()
	for _, d := range done {
		all.add(d)
	}
	return all, err
}
