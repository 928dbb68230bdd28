package natlab

import (
	"bytes"
	"errors"
	"os/exec"
	"sync"
	"time"
)

// Cmd is an [exec.Cmd] whose process runs on a host or a router. Set its fields and call
// its methods as one does there; only those declared here differ. [Lab.Close]
// kills the process if it still runs; Wait is the caller's, as usual.
type Cmd struct {
	*exec.Cmd
	lab *Lab
	ns  *namespace

	wait  sync.Once
	ended error         // guarded by wait
	done  chan struct{} // closed when the process has ended
}

// Command returns a command that is not yet started. The process sees the
// host's network and otherwise what this process sees.
func (h *Host) Command(path string, args ...string) *Cmd { return h.lab.command(h.ns, path, args) }

func (l *Lab) command(ns *namespace, path string, args []string) *Cmd {
	return &Cmd{Cmd: exec.Command(path, args...), lab: l, ns: ns, done: make(chan struct{})}
}

// Start starts the process on its host.
func (c *Cmd) Start() error {
	l := c.lab
	dieWithThread(c.Cmd)
	if c.WaitDelay == 0 {
		c.WaitDelay = time.Second // for output that a grandchild holds open
	}
	l.mu.Lock()
	defer l.mu.Unlock() // so that Close sees either no process or this one
	if l.closed {
		return errors.New("natlab: the lab is closed")
	}
	started := make(chan error) // one value
	go c.keep(started)          // until Wait has returned, in the caller or in Close
	if err := <-started; err != nil {
		return err
	}
	l.running[c] = struct{}{}
	return nil
}

// keep starts the process and stays: the kernel kills it when the thread that
// started it goes, and so it never outlives this program.
func (c *Cmd) keep(started chan<- error) {
	c.ns.do(func() error {
		err := c.Cmd.Start()
		started <- err
		if err == nil {
			<-c.done
		}
		return nil
	})
}

// Wait waits for the end of the process, as often as it is called.
func (c *Cmd) Wait() error {
	if c.Process == nil {
		return errors.New("natlab: the process was not started")
	}
	c.wait.Do(func() {
		c.ended = c.Cmd.Wait()
		close(c.done)
		l := c.lab
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.running, c)
	})
	return c.ended
}

// stop kills a process that runs on when its lab is closed, and waits.
func (c *Cmd) stop() {
	c.Process.Kill()
	c.Wait()
}

// Run starts the process and waits for its end.
func (c *Cmd) Run() error {
	if err := c.Start(); err != nil {
		return err
	}
	return c.Wait()
}

// Output runs the process and returns what it wrote to its standard output.
func (c *Cmd) Output() ([]byte, error) {
	var b bytes.Buffer
	c.Stdout = &b
	err := c.Run()
	return b.Bytes(), err
}

// CombinedOutput runs the process and returns what it wrote to its standard
// output and standard error.
func (c *Cmd) CombinedOutput() ([]byte, error) {
	var b bytes.Buffer
	c.Stdout, c.Stderr = &b, &b
	err := c.Run()
	return b.Bytes(), err
}
