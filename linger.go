package stunt

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/gostunt/stunt/internal/secure"
)

// Connections that were closed, and whose peers have not got all.

const (
	// maxLingering bounds them: each is a socket and a goroutine, for 5 s if its
	// peer does not end its stream, too. When there are more, the one that has had
	// the most time is ended: TCP goes on with it for as long as the peer is silent.
	maxLingering = 256

	// nodeFarewell is how long the Close of a node waits for them: its program may
	// end with it.
	nodeFarewell = time.Second
)

// lingering are those of a node.
type lingering struct {
	mu  sync.Mutex // guards following
	all []*lingers // in the order of their Close
}

// lingers is one connection.
type lingers struct {
	records *secure.Conn
	over    chan struct{} // closed when nothing of it runs any more
}

// take has a connection linger. It is the Late of all of them.
func (l *lingering) take(records *secure.Conn) {
	c := &lingers{records, make(chan struct{})}
	l.mu.Lock()
	l.all = append(l.all, c)
	var first *lingers
	if len(l.all) > maxLingering {
		first = l.all[0]
		l.all = slices.Delete(l.all, 0, 1)
	}
	l.mu.Unlock()
	if first != nil {
		first.records.Leave()
	}
	go l.run(c)
}

// run ends with the peer's stream, in 5 s, or by Leave. end waits for it,
// and nobody does if the connection was closed after its node, which it outlives.
func (l *lingering) run(c *lingers) {
	defer close(c.over)
	c.records.Linger()
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.Index(l.all, c); i >= 0 {
		l.all = slices.Delete(l.all, i, i+1)
	}
}

// end gives those that linger now a second, and ends them.
func (l *lingering) end() {
	ctx, cancel := context.WithTimeout(context.Background(), nodeFarewell)
	defer cancel()
	l.mu.Lock()
	all := slices.Clone(l.all)
	l.mu.Unlock()
	for _, c := range all {
		select {
		case <-c.over:
		case <-ctx.Done():
			c.records.Leave()
			<-c.over
		}
	}
}
