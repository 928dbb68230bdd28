package probe

import (
	"context"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/gostunt/stunt/internal/sock"
)

// Whoever connects to a port under test shows a token or is let go.
const tokenTimeout = time.Second

// door is a local port with a listener that notes which tokens came in.
type door struct {
	ln    *net.TCPListener
	port  uint16
	trial int           // which of prober.facts.trials it is for, if for one
	done  chan struct{} // closed by watch

	mu   sync.Mutex // guards following
	seen map[token]bool
	told func() // called for each token; nil: nobody
}

// listen opens a door at a port, or at another if that one is not to be had.
// Port 0 is one of the system's choice. The caller closes the door.
func (p *prober) listen(ctx context.Context, port uint16) (*door, error) {
	ln, err := p.net.Listen(ctx, netip.AddrPortFrom(p.from, port))
	if err != nil && port != 0 {
		ln, err = p.net.Listen(ctx, netip.AddrPortFrom(p.from, 0))
	}
	if err != nil {
		return nil, err
	}
	d := &door{ln: ln, port: sock.AddrPort(ln.Addr()).Port(), done: make(chan struct{}), seen: make(map[token]bool)}
	go d.watch()
	return d, nil
}

// close stops watch and waits for it.
func (d *door) close() {
	d.ln.Close()
	<-d.done
}

// watch accepts until the door is closed, one visitor at a time.
func (d *door) watch() {
	defer close(d.done)
	for {
		c, err := d.ln.AcceptTCP()
		if err != nil {
			return
		}
		d.welcome(c)
	}
}

// welcome notes the token that a connection opens with, and ends it. Only
// then: the end tells the visitor that its token was noted.
func (d *door) welcome(c *net.TCPConn) {
	defer sock.Abort(c)
	c.SetDeadline(time.Now().Add(tokenTimeout))
	var t token
	if _, err := io.ReadFull(c, t[:]); err == nil {
		d.mu.Lock()
		d.seen[t] = true
		told := d.told
		d.mu.Unlock()
		if told != nil {
			told()
		}
	}
}

// tell has f called for each token from now on.
func (d *door) tell(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.told = f
}

// saw reports whether the token came in.
func (d *door) saw(t token) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.seen[t]
}
