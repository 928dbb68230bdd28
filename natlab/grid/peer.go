package grid

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/gostunt/stunt/internal/sock"
	"github.com/gostunt/stunt/natlab"
)

// What the ends of an order tell each other over the broker.
const (
	wordConnect = "connect" // to this address
	wordPrime   = "prime"   // your NAT: a SYN to this address, given up; then listen, and let the other connect
)

type peerConfig struct {
	name     string
	net      *sock.Net
	server   *natlab.Host
	order    order
	patience time.Duration
}

// peer is one end of a dial in the order of others: a port, the connections to
// the broker that leave from it and keep its mapping, and what it is told to do.
type peer struct {
	peerConfig
	ctx    context.Context // ends with close
	cancel context.CancelFunc
	local  netip.AddrPort
	home   *net.TCPConn // to the broker
	second *net.TCPConn // to its other port, for a second mapping
	public string       // where the other end is to connect to
	conns  chan *net.TCPConn
	failed chan error // of our own connects
	wg     sync.WaitGroup

	mu   sync.Mutex // guards following
	ln   *net.TCPListener
	busy bool           // a connect is under way
	open []*net.TCPConn // to be closed in the end

	lines *bufio.Scanner // of home; owned by obey
}

// openPeer takes a port and shows it to the broker. The caller closes the peer.
func openPeer(ctx context.Context, c peerConfig) (*peer, error) {
	// More may come than anybody wants; those stay in the channel until the end.
	p := &peer{peerConfig: c, conns: make(chan *net.TCPConn, 16), failed: make(chan error, 16)}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	if err := p.meetBroker(ctx); err != nil {
		p.close()
		return nil, err
	}
	p.wg.Go(p.obey)
	return p, nil
}

// meetBroker binds the port and connects from it, twice, and introduces the peer.
func (p *peer) meetBroker(ctx context.Context) error {
	any4 := netip.AddrPortFrom(netip.IPv4Unspecified(), 0)
	ln, err := p.net.Listen(ctx, any4)
	if err != nil {
		return err
	}
	p.ln = ln
	p.local = netip.AddrPortFrom(any4.Addr(), sock.AddrPort(ln.Addr()).Port())
	var seen [2]netip.AddrPort
	for i, to := range []struct {
		port uint16
		conn **net.TCPConn
	}{{port1, &p.home}, {port2, &p.second}} {
		c, err := p.net.Dial(ctx, p.local, p.server.AddrPort(to.port), 0)
		if err != nil {
			return err
		}
		*to.conn = c
		lines := bufio.NewScanner(c)
		if i == 0 {
			p.lines = lines
		}
		if !lines.Scan() {
			return errors.Join(io.ErrUnexpectedEOF, lines.Err())
		}
		if seen[i], err = netip.ParseAddrPort(lines.Text()); err != nil {
			return err
		}
	}
	p.public = seen[0].String()
	if p.order.predicts && seen[1] != seen[0] {
		step := seen[1].Port() - seen[0].Port()
		p.public = netip.AddrPortFrom(seen[1].Addr(), seen[1].Port()+step).String()
	}
	if p.order.listens {
		p.wg.Go(func() { p.accept(ln) })
	} else {
		ln.Close() // the connections hold the port
		p.ln = nil
	}
	_, err = fmt.Fprintln(p.home, p.name, p.public)
	return err
}

func (p *peer) say(words string) { fmt.Fprintln(p.home, words) } // an error ends obey as well

// obey does what the broker tells; ends with home.
func (p *peer) obey() {
	for p.lines.Scan() {
		word, at, _ := strings.Cut(p.lines.Text(), " ")
		to, err := netip.ParseAddrPort(at)
		switch {
		case err != nil:
			p.failed <- err
		case word == wordConnect:
			p.connect(to)
		case word == wordPrime:
			p.prime(to)
		}
	}
}

// connect makes one connect from the port, unless there is one under way.
func (p *peer) connect(to netip.AddrPort) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.busy {
		return
	}
	p.busy = true
	if p.ln != nil && !p.order.listens {
		p.ln.Close()
		p.ln = nil
	}
	p.wg.Go(func() { // ends in time, or with close
		ctx, cancel := context.WithTimeout(p.ctx, p.patience)
		defer cancel()
		c, err := p.net.Dial(ctx, p.local, to, 0)
		p.mu.Lock()
		p.busy = false
		p.mu.Unlock()
		if err != nil {
			select {
			case p.failed <- err:
			default: // nobody listens any more
			}
			return
		}
		p.got(c)
	})
}

// prime sends a SYN, gives it up, listens and has the other end connect.
func (p *peer) prime(to netip.AddrPort) {
	if syn, err := p.net.Start(p.local, to, 0); err == nil {
		syn.Close()
	}
	ln, err := p.net.Listen(p.ctx, p.local)
	if err != nil {
		p.failed <- err
		return
	}
	p.mu.Lock()
	p.ln = ln
	p.mu.Unlock()
	p.wg.Go(func() { p.accept(ln) })
	p.say("other " + wordConnect)
}

// accept ends when its listener is closed.
func (p *peer) accept(ln *net.TCPListener) {
	for {
		c, err := ln.AcceptTCP()
		if err != nil {
			return
		}
		p.got(c)
	}
}

// got keeps a connection that stands.
func (p *peer) got(c *net.TCPConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ctx.Err() != nil || len(p.conns) == cap(p.conns) {
		c.Close()
		return
	}
	p.open = append(p.open, c)
	p.conns <- c
}

// answer sends back what comes over every connection, until close.
func (p *peer) answer() {
	p.wg.Go(func() {
		for {
			select {
			case c := <-p.conns:
				p.wg.Go(func() {
					c.SetDeadline(time.Now().Add(talkTimeout))
					io.Copy(c, c)
					c.Close()
				})
			case <-p.failed: // the dialer counts its own
			case <-p.ctx.Done():
				return
			}
		}
	})
}

// close ends all that runs and waits for it.
func (p *peer) close() {
	p.cancel()
	p.mu.Lock()
	if p.ln != nil {
		p.ln.Close()
	}
	for _, c := range p.open {
		c.Close()
	}
	p.mu.Unlock()
	for _, c := range []*net.TCPConn{p.home, p.second} {
		if c != nil {
			c.Close()
		}
	}
	p.wg.Wait()
}
