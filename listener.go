package stunt

import (
	"context"
	"net"
	"sync"
)

// backlog is how many chosen connections wait for Accept, as in listen(2).
// A dial that finds it full is told that the peer is busy.
const backlog = 128

// Listener accepts connections from peers. It is a [net.Listener].
type Listener struct {
	node  *Node
	addr  Addr
	owned bool // Close closes the node as well

	conns  chan *Conn    // capacity backlog; never closed
	done   chan struct{} // closed by Close
	closed sync.Once
	lost   chan struct{} // closed by lose
	err    error         // why; set before lost is closed
}

// Listen makes a node and listens on it for every virtual port. It returns
// when the node is registered with the server; ctx bounds only that. Closing
// the listener closes the node.
func Listen(ctx context.Context, c Config) (*Listener, error) {
	n := &Node{Config: c}
	ln, err := n.Listen(ctx, 0)
	if err != nil {
		n.Close()
		return nil, err
	}
	ln.owned = true
	return ln, nil
}

// Accept waits for a connection that a peer has made and chosen. It returns an
// error only when the listener is closed, and then one that is [net.ErrClosed], or
// when no peer can reach it any more, as no server will have the node: a
// [rendezvous.FinalError]. A server that goes away and comes back is the node's
// concern.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case <-l.done: // closed wins over what waits
		return nil, opError("accept", net.ErrClosed, l.addr, nil)
	default:
	}
	select {
	case c := <-l.conns: // and that over being lost
		return c, nil
	default:
	}
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, opError("accept", net.ErrClosed, l.addr, nil)
	case <-l.lost:
		return nil, opError("accept", l.err, l.addr, nil)
	}
}

// lose ends Accept once what waits for it has been taken. It is called once.
func (l *Listener) lose(err error) {
	l.err = err
	close(l.lost)
}

// Addr returns the [Addr] under which peers dial this listener.
func (l *Listener) Addr() net.Addr { return l.addr }

// Node returns the node behind the listener.
func (l *Listener) Node() *Node { return l.node }

// Close stops listening and unblocks Accept. Connections that wait for Accept
// are closed; those that were accepted live on.
func (l *Listener) Close() error {
	err := l.shut()
	if l.owned {
		l.node.Close()
	}
	return err
}

// shut is Close without the node, which calls it.
func (l *Listener) shut() error {
	err := opError("close", net.ErrClosed, l.addr, nil)
	l.closed.Do(func() {
		err = nil
		l.node.unlisten(l)
		close(l.done)
		l.drain()
	})
	return err
}

// deliver hands a chosen connection to Accept.
func (l *Listener) deliver(c *Conn) {
	select {
	case l.conns <- c:
	default:
		c.Close()
		return
	}
	select {
	case <-l.done: // Close may have drained before we delivered
		l.drain()
	default:
	}
}

func (l *Listener) drain() {
	for {
		select {
		case c := <-l.conns:
			c.Close()
		default:
			return
		}
	}
}
