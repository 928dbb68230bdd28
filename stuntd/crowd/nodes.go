package crowd

import (
	"context"
	"crypto/tls"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gostunt/stunt/internal/park"
	"github.com/gostunt/stunt/rendezvous"
)

// nodes are those of one process.
type nodes struct {
	server    rendezvous.ServerAddr
	keepalive time.Duration
	lot       park.Lot
	ctx       context.Context // of all of them; done when they go home
	leave     context.CancelFunc
	dials     dials

	standing, failed, lost atomic.Int64

	out     sync.WaitGroup // nodes that have not gone home
	pinging sync.WaitGroup

	mu  sync.Mutex // guards following
	all []*node
}

func newNodes(server string, keepalive time.Duration) (*nodes, error) {
	servers, err := rendezvous.ParseServers(server)
	if err != nil {
		return nil, err
	}
	c := &nodes{server: servers[0], keepalive: keepalive, lot: park.New()}
	c.dials.waiting = make(map[string]time.Time)
	c.ctx, c.leave = context.WithCancel(context.Background())
	c.pinging.Go(c.ping)
	return c, nil
}

// tls returns how a node talks to the server: it offers the key exchanges that a
// Client does, where raiders have the server do the costliest.
func (c *nodes) tls(cert tls.Certificate) *tls.Config {
	config := pinned(c.server, cert)
	config.CurvePreferences = []tls.CurveID{tls.X25519, tls.CurveP256}
	return config
}

// pinned is the TLS of a client of a server. Only the pin is asked for: with a
// certificate of some CA a node would do more, and the server the same.
func pinned(server rendezvous.ServerAddr, cert tls.Certificate) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		NextProtos:         []string{rendezvous.ALPN},
		ServerName:         server.Host,
		Certificates:       []tls.Certificate{cert},
		InsecureSkipVerify: true, // for VerifyConnection
		VerifyConnection: func(state tls.ConnectionState) error {
			if rendezvous.PinOf(state.PeerCertificates[0]) != server.Pin {
				return fmt.Errorf("the server has another pin")
			}
			return nil
		},
	}
}

// grow has more nodes come, and returns when each has tried once.
func (c *nodes) grow(g Growth) error {
	var newcomers []*node
	for i := g.First; i < g.Last; i += g.Step {
		n, err := newNode(c, i)
		if err != nil {
			return err
		}
		newcomers = append(newcomers, n)
	}
	c.mu.Lock()
	c.all = append(c.all, newcomers...)
	c.mu.Unlock()
	next := make(chan *node)
	var coming sync.WaitGroup
	for range g.Abreast {
		coming.Go(func() {
			for n := range next {
				c.out.Add(1)
				n.come()
			}
		})
	}
	for _, n := range newcomers {
		next <- n
	}
	close(next)
	coming.Wait()
	return nil
}

// ping has everybody ping once in the time of a keepalive, evenly spread. It
// ends when they go home.
func (c *nodes) ping() {
	const step = 50 * time.Millisecond
	tick := time.NewTicker(step)
	defer tick.Stop()
	var turn float64 // of all, this part has pinged in this round
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-tick.C:
		}
		c.mu.Lock()
		all := c.all
		c.mu.Unlock()
		from := int(turn * float64(len(all)))
		turn = min(turn+float64(step)/float64(c.keepalive), 1)
		for _, n := range all[from:int(turn*float64(len(all)))] {
			n.ping()
		}
		if turn == 1 {
			turn = 0
		}
	}
}

// goHome ends all sessions and returns when nothing runs any more.
func (c *nodes) goHome() {
	c.leave()
	c.pinging.Wait()
	c.mu.Lock()
	all := c.all
	c.mu.Unlock()
	for _, n := range all {
		n.goHome()
	}
	c.out.Wait()
	c.lot.Close()
}
