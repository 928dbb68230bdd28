package check

import (
	"context"
	"io"
	"net"
	"net/netip"

	"github.com/gostunt/stunt/internal/sock"
	"github.com/gostunt/stunt/probe"
)

// dialBack has the server connect to this host, as it does for the tests of
// NATs. A host behind a NAT can't tell whose fault a failure is, and does not
// ask; here is where the server sees it.
func (v *visit) dialBack(ctx context.Context, server, here netip.AddrPort) {
	ln, err := new(sock.Net).ListenExclusive(ctx, netip.AddrPortFrom(here.Addr(), 0).String())
	if err != nil {
		return // here is no address of this host
	}
	heard := make(chan string, 1)
	done := make(chan struct{})
	go answerOnce(ln, heard, done) // until the listener is closed
	defer func() { ln.Close(); <-done }()
	_, token, err := probe.Visit(ctx, probe.VisitConfig{Server: server, Local: here.Addr(), Port: sock.AddrPort(ln.Addr()).Port()})
	if err != nil {
		v.Doubt("dial-back", "let its firewall let connections out, and that of this host in", "%v did not connect to this host: %v", server, plain(err))
		return
	}
	if got := <-heard; got != string(token[:]) {
		v.Bad("dial-back", "", "something else connected to this host: %q", got)
		return
	}
	v.Good("dial-back", "%v can connect to nodes, to measure what their NAT lets in", server)
}

// answerOnce reads what a dial back begins with, and hangs up.
func answerOnce(ln net.Listener, heard chan<- string, done chan<- struct{}) {
	defer close(done)
	c, err := ln.Accept()
	if err != nil {
		return
	}
	defer c.Close()
	var token [8]byte
	io.ReadFull(c, token[:]) // what is missing is zero, and no token
	heard <- string(token[:])
}
