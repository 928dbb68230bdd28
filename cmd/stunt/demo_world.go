package main

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"

	"github.com/gostunt/stunt/natlab"
	"github.com/gostunt/stunt/natlab/nat"
)

// world is where the demo's programs run.
type world interface {
	listen() []string // addresses for the server
	command(name string, args []string) (process, *exec.Cmd)
	verdict() string
	close()
}

// loopback is the world of machines that give no namespaces.
type loopback struct{}

func (loopback) listen() []string { return []string{"127.0.0.1:0"} }

func (loopback) command(_ string, args []string) (process, *exec.Cmd) {
	c := exec.Command(self(), args...)
	return c, c
}

func (loopback) verdict() string {
	return "done, over LOOPBACK: the programs work, but no NAT was crossed"
}

func (loopback) close() {}

// labWorld has a server and two hosts behind two NATs.
type labWorld struct {
	lab    *natlab.Lab
	second netip.Addr // of the server
	hosts  map[string]*natlab.Host
	files  []io.Closer
}

// newLabWorld builds the world:
//
//	alice ── nat-a ──┐
//	                 ├── Internet ── server, with two addresses
//	bob ──── nat-b ──┘
func newLabWorld(d *demoFlags, out io.Writer) (*labWorld, error) {
	w := &labWorld{hosts: make(map[string]*natlab.Host)}
	c := natlab.Config{Seed: d.seed}
	if err := errors.Join(w.open(d.trace, &c.Trace), w.open(d.pcap, &c.Pcap)); err != nil {
		return nil, err
	}
	lab, err := natlab.New(c)
	if err != nil {
		w.close()
		return nil, err
	}
	w.lab = lab
	// A quarter of a round trip from each to the core: server to peer and peer
	// to peer take the same time.
	link := natlab.Link{Delay: d.rtt / 4, Hops: 2, NoIPv6: !d.ipv6}
	w.hosts["server"] = lab.Host("server", nil, link)
	w.second = w.hosts["server"].AddAddr()
	a, _ := nat.Profile(d.natA)
	b, _ := nat.Profile(d.natB)
	natA, natB := lab.NAT("nat-a", nil, a, link), lab.NAT("nat-b", nil, b, link)
	w.hosts["alice"] = lab.Host("alice", natA, natlab.Link{})
	w.hosts["bob"] = lab.Host("bob", natB, natlab.Link{})
	fmt.Fprintf(out, `The world, in network namespaces of this machine; only packets cross it:

  alice %-15v ── nat-a %-15v ──┐
                                                  ├── Internet ── server %v, %v
  bob   %-15v ── nat-b %-15v ──┘

  nat-a, %s: %v
  nat-b, %s: %v
  %v round trip between any two of server, nat-a and nat-b

`, w.hosts["alice"].Addr(), natA.Public()[0], w.hosts["server"].Addr(), w.second,
		w.hosts["bob"].Addr(), natB.Public()[0], d.natA, a, d.natB, b, d.rtt)
	return w, nil
}

// open opens a file to write to, if it has a name.
func (w *labWorld) open(name string, to *io.Writer) error {
	if name == "" {
		return nil
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	w.files, *to = append(w.files, f), f
	return nil
}

// listen gives the server two addresses and two ports, which tell every kind
// of NAT from every other.
func (w *labWorld) listen() []string {
	s := w.hosts["server"]
	var all []string
	for _, port := range []string{":3478", ":3479"} {
		all = append(all, s.Addr().String()+port, w.second.String()+port)
	}
	return all
}

func (w *labWorld) command(name string, args []string) (process, *exec.Cmd) {
	c := w.hosts[name].Command(self(), args...)
	return c, c.Cmd
}

func (w *labWorld) verdict() string {
	return "done: every byte between alice and bob went through both NATs"
}

func (w *labWorld) close() {
	if w.lab != nil {
		w.lab.Close()
	}
	for _, f := range w.files {
		f.Close()
	}
}

// self is this program's file.
func self() string {
	exe, err := os.Executable()
	if err != nil {
		return os.Args[0]
	}
	return exe
}
