package stunt

import (
	"context"
	"net"
	"sync"
)

// Dialer dials peers. The zero value with a Server works: it makes a node of
// its own at the first dial. Methods may be called from several goroutines.
type Dialer struct {
	Config

	// Node is what dials. Nil: one made from Config. A program that listens as
	// well sets it, and then Config is not used.
	Node *Node

	mu  sync.Mutex // guards following
	own *Node
}

// DialContext connects to the peer at address, id or id:port. The network is
// "tcp" or "stunt". It has the shape that [net/http.Transport] wants. ctx
// bounds the establishment of the connection, not its life.
func (d *Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return d.node().DialContext(ctx, network, address)
}

// DialPeer is DialContext in the shape that grpc.WithContextDialer wants.
func (d *Dialer) DialPeer(ctx context.Context, address string) (net.Conn, error) {
	return d.node().DialContext(ctx, "tcp", address)
}

func (d *Dialer) node() *Node {
	if d.Node != nil {
		return d.Node
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.own == nil {
		d.own = &Node{Config: d.Config}
	}
	return d.own
}

// Close closes the node that the dialer made, if it made one. Connections live
// on. Another dial makes another node.
func (d *Dialer) Close() error {
	d.mu.Lock()
	own := d.own
	d.own = nil
	d.mu.Unlock()
	if own == nil {
		return nil
	}
	return own.Close()
}
