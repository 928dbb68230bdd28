package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/gostunt/stunt/natlab"
	"github.com/gostunt/stunt/natlab/nat"
)

// demoFlags choose the demo's world.
type demoFlags struct {
	natA, natB  string
	rtt         time.Duration
	seed        uint64
	mib         int
	raw, ipv6   bool
	trace, pcap string
}

// runDemo builds a world, runs the server and two programs in it, and tells
// what they do. The programs are this binary again; they use only the public
// API, as a user's would.
func runDemo(ctx context.Context, e *env, args []string) error {
	var d demoFlags
	f := newFlags(e, "demo")
	f.StringVar(&d.natA, "nat-a", "eim-apdf", "`behaviour` of the NAT in front of alice, who listens")
	f.StringVar(&d.natB, "nat-b", "linux", "`behaviour` of the NAT in front of bob, who dials")
	f.DurationVar(&d.rtt, "rtt", 40*time.Millisecond, "round trip `time` between any two of the three")
	f.Uint64Var(&d.seed, "seed", 1, "`number` that decides every random choice of the NATs")
	f.IntVar(&d.mib, "mib", 64, "`MiB` to move over the link")
	f.BoolVar(&d.ipv6, "ipv6", false, "give everybody IPv6 as well, behind firewalls")
	f.BoolVar(&d.raw, "raw", false, "leave the bytes to plain TCP after the handshake")
	f.StringVar(&d.trace, "trace", "", "write what happens to every packet to this `file`")
	f.StringVar(&d.pcap, "pcap", "", "write every packet to this `file`")
	list := f.Bool("list", false, "list the behaviours of NATs")
	if _, err := f.parse(args, 0, 0); err != nil {
		return err
	}
	if *list {
		listNATs(e.out)
		return nil
	}
	for _, name := range []string{d.natA, d.natB} {
		if _, ok := nat.Profile(name); !ok {
			return f.wrong("there is no NAT %q; --list shows them", name)
		}
	}
	var w world
	var err error
	if refused := natlab.Enter(); refused != nil {
		fmt.Fprintf(e.out, "NOT IN THE LAB: this machine gives no network namespaces to build NATs in:\n  %v\n", refused)
		fmt.Fprint(e.out, "The same programs now run over loopback: no NAT is crossed, everything else is real.\n\n")
		w = loopback{}
	} else if w, err = newLabWorld(&d, e.out); err != nil {
		return err
	}
	defer w.close()
	return playDemo(ctx, e, &d, w)
}

func listNATs(w io.Writer) {
	for _, p := range nat.Profiles() {
		fmt.Fprintf(w, "%-20s %s\n", p.Name, p.About)
	}
}

// playDemo runs the three programs and waits for bob, who does the work.
func playDemo(ctx context.Context, e *env, d *demoFlags, w world) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	state, err := os.MkdirTemp("", "stunt-demo-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(state)
	t := &teller{out: e.out, began: time.Now()}
	defer t.stop()

	args := []string{"serve", "-state", state, "-log-level", "error"}
	for _, l := range w.listen() {
		args = append(args, "-listen", l)
	}
	server, err := t.start(ctx, "server", w, args)
	if err != nil {
		return err
	}
	ready, err := server.line(ctx)
	if err != nil {
		return fmt.Errorf("the server did not start: %w", err)
	}
	address := serverAddress(ready)
	t.say("server", "up at "+address)
	common := []string{"-server", address, fmt.Sprintf("-raw=%v", d.raw), "-rtt", d.rtt.String(), "-mib", fmt.Sprint(d.mib)}
	alice, err := t.start(ctx, "alice", w, append([]string{"demo-alice"}, common...))
	if err != nil {
		return err
	}
	if err := alice.until(ctx, t, "ready"); err != nil {
		return err
	}
	t.say("", "")
	bob, err := t.start(ctx, "bob", w, append([]string{"demo-bob"}, common...))
	if err != nil {
		return err
	}
	go alice.until(ctx, t, "") // ends with alice, whom stop ends
	if err := bob.until(ctx, t, ""); err != nil {
		return err
	}
	if err := bob.cmd.Wait(); err != nil {
		return errors.New("bob did not get what he wanted; see above")
	}
	t.say("", "")
	t.say("demo", w.verdict())
	return nil
}

// serverAddress finds the address to paste in the server's ready line.
func serverAddress(ready string) string {
	fields := strings.Fields(ready)
	if len(fields) == 0 {
		return ""
	}
	return fields[len(fields)-1]
}

// teller runs the programs and prints their lines as they come, each with the
// time since the beginning.
type teller struct {
	out   io.Writer
	began time.Time

	mu       sync.Mutex // guards following, and writes to out
	programs []*program
}

// program is one of the demo's processes.
type program struct {
	name  string
	cmd   process
	lines chan string // closed at the end of its output
}

// process is an *exec.Cmd, or one that runs on a host of the lab.
type process interface {
	Start() error
	Wait() error
}

func (t *teller) start(ctx context.Context, name string, w world, args []string) (*program, error) {
	cmd, std := w.command(name, args)
	out, err := std.StdoutPipe()
	if err != nil {
		return nil, err
	}
	std.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	p := &program{name: name, cmd: cmd, lines: make(chan string, 256)}
	go p.read(out)
	t.mu.Lock()
	t.programs = append(t.programs, p)
	t.mu.Unlock()
	// The demo's end is theirs too.
	context.AfterFunc(ctx, func() { std.Process.Signal(syscall.SIGTERM) })
	return p, nil
}

// read ends with the program's output.
func (p *program) read(out io.Reader) {
	defer close(p.lines)
	sc := bufio.NewScanner(out)
	for sc.Scan() {
		p.lines <- sc.Text()
	}
}

func (p *program) line(ctx context.Context) (string, error) {
	select {
	case l, ok := <-p.lines:
		if !ok {
			return "", io.ErrUnexpectedEOF
		}
		return l, nil
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// until tells a program's lines up to the given one, or all of them.
func (p *program) until(ctx context.Context, t *teller, last string) error {
	for {
		l, err := p.line(ctx)
		switch {
		case errors.Is(err, io.ErrUnexpectedEOF) && last == "":
			return nil
		case err != nil:
			return fmt.Errorf("%s: %w", p.name, err)
		case l == last && last != "":
			return nil
		}
		t.say(p.name, l)
	}
}

func (t *teller) say(who, what string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if what == "" {
		fmt.Fprintln(t.out)
		return
	}
	fmt.Fprintf(t.out, "%7.3f s  %-7s %s\n", time.Since(t.began).Seconds(), who, what)
}

// stop ends what still runs, and waits for it.
func (t *teller) stop() {
	t.mu.Lock()
	programs := t.programs
	t.mu.Unlock()
	for i := len(programs) - 1; i >= 0; i-- {
		p := programs[i]
		if std := standard(p.cmd); std.ProcessState == nil {
			std.Process.Signal(syscall.SIGTERM)
			timer := time.AfterFunc(5*time.Second, func() { std.Process.Kill() })
			for range p.lines { // its last words, unsaid
			}
			p.cmd.Wait()
			timer.Stop()
		}
	}
}

// standard returns the exec.Cmd in a process.
func standard(p process) *exec.Cmd {
	if c, ok := p.(*natlab.Cmd); ok {
		return c.Cmd
	}
	return p.(*exec.Cmd)
}
