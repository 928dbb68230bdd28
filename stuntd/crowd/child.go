package crowd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/rpc"
	"os"
	"os/exec"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/gostunt/stunt/stuntd"
)

// roleEnv tells a process that it is one of a measurement, and which.
const roleEnv = "STUNT_CROWD"

const (
	roleServer  = "server"
	roleNodes   = "nodes"
	roleRaiders = "raiders"
)

// Child runs this process as one of a measurement, if it was started as such,
// and reports whether it was.
func Child() bool {
	role := os.Getenv(roleEnv)
	var service any
	switch role {
	case "":
		return false
	case roleServer:
		stuntd.LeanHeap()
		service = &Host{}
	case roleNodes:
		// Less of the machine for the collector: it is the server's that is measured.
		debug.SetGCPercent(300)
		service = &Nodes{}
	case roleRaiders:
		stepBack()
		service = &Raiders{}
	}
	signal.Ignore(os.Interrupt) // which a terminal sends to all; the parent ends us
	s := rpc.NewServer()
	if err := s.RegisterName(role, service); err != nil {
		fmt.Fprintln(os.Stderr, "crowd:", err)
		os.Exit(2)
	}
	s.ServeConn(pipes{os.Stdin, os.Stdout}) // until the parent closes its end, or is gone
	return true
}

// pipes are the two ways to another process.
type pipes struct {
	io.ReadCloser
	io.WriteCloser
}

func (p pipes) Close() error { return errors.Join(p.WriteCloser.Close(), p.ReadCloser.Close()) }

// A process is a child of a measurement.
type process struct {
	cmd  *exec.Cmd
	role string
	rpc  *rpc.Client
}

// start starts one.
func start(role string) (*process, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &process{cmd: exec.Command(exe), role: role}
	p.cmd.Env = append(os.Environ(), roleEnv+"="+role)
	p.cmd.Stderr = os.Stderr
	in, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	p.rpc = rpc.NewClient(pipes{out, in})
	return p, nil
}

// call waits for what a child does, until ctx is done.
func (p *process) call(ctx context.Context, method string, args, reply any) error {
	c := p.rpc.Go(p.role+"."+method, args, reply, make(chan *rpc.Call, 1))
	select {
	case <-c.Done:
		return c.Error
	case <-ctx.Done():
		return ctx.Err()
	}
}

// kill ends a child as a crash would.
func (p *process) kill() {
	p.crash()
	p.end()
}

// crash kills a child, which is gone when end returns.
func (p *process) crash() { p.cmd.Process.Signal(syscall.SIGKILL) }

// end ends a child that has nothing more to do, and waits for it.
func (p *process) end() {
	p.rpc.Close()
	late := time.AfterFunc(10*time.Second, func() { p.cmd.Process.Kill() })
	defer late.Stop()
	p.cmd.Wait() // how it ended is no news
}

// Nothing is what a call has no use for; net/rpc wants something.
type Nothing int
