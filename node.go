package stunt

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"

	"github.com/gostunt/stunt/internal/punch"
	"github.com/gostunt/stunt/internal/sock"
	"github.com/gostunt/stunt/probe"
	"github.com/gostunt/stunt/rendezvous"
)

// Node is a host's presence: one identity, one session with a rendezvous
// server, one report on the NAT in front of it, any number of listeners and
// dials. It starts at its first use. Only Config is set by the caller.
type Node struct {
	Config Config

	starting struct {
		sync.Once
		err error // why nothing runs
	}

	// Set by start, not changed after.
	life   context.Context // of everything that runs; ends with Close
	end    context.CancelFunc
	key    ed25519.PrivateKey
	log    *slog.Logger
	client *rendezvous.Client
	ports  *ports
	door   punch.Door
	offers offers
	wg     sync.WaitGroup
	host   host

	resumptions resumptions

	forwards []*forward // for IPv4 and IPv6; none if Config says so

	mu sync.Mutex // guards following
	st state
}

// state is what changes in a node's life.
type state struct {
	closed     bool
	ended      chan struct{} // made with closed; closed when nothing runs any more
	up         bool          // a session stands
	listeners  map[uint16]*Listener
	server     netip.AddrPort // that the session is with
	server6    netip.AddrPort // the same over IPv6, if it has such an address
	other      others         // where else it answers STUN
	relayNames []string       // of the relays that the session's server has named
	relays     []way          // to those of them that can be reached
	local      netip.Addr     // of this host, that the session leaves from, or the last one did
	public     netip.AddrPort // of the session's port, as the server sees it; invalid: no session yet in this network
	knowledge
}

// knowledge is what a node knows of the NAT in front of it, and from where.
type knowledge struct {
	report     *probe.Report // nil: nothing known yet
	probed     chan struct{} // closed when the first probe in this network is over
	probedOnce bool          // it is closed
	probing    bool
	probedBy   netip.AddrPort     // the server of the last probe
	answered   bool               // some server has
	vouched    bool               // there was a session with that one, too
	probedFrom netip.Addr         // our address when a session had it made
	stop       context.CancelFunc // of the probe under way, or the last one
}

func (n *Node) start() error {
	n.starting.Do(func() { n.starting.err = n.setUp() })
	return n.starting.err
}

func (n *Node) setUp() error {
	c := &n.Config
	if c.Server == "" {
		return errors.New("stunt: Config.Server is not set")
	}
	servers, err := rendezvous.ParseServers(c.Server)
	if err != nil {
		return fmt.Errorf("stunt: Config.Server: %w", err)
	}
	if c.ID != "" {
		if err := rendezvous.ValidID(c.ID); err != nil {
			return fmt.Errorf("stunt: Config.ID: %w", err)
		}
	}
	if err := c.checkToken(); err != nil {
		return fmt.Errorf("stunt: Config.Token: %w", err)
	}
	if c.Relay > RelayOnly {
		return fmt.Errorf("stunt: Config.Relay: %v", c.Relay)
	}
	n.key, n.log = c.Key, c.logger()
	if n.key == nil {
		n.key = NewKey()
	} else if len(n.key) != ed25519.PrivateKeySize {
		return errors.New("stunt: Config.Key is not an Ed25519 private key")
	}
	n.st.listeners = make(map[uint16]*Listener)
	n.st.probed = make(chan struct{})
	n.life, n.end = context.WithCancel(context.Background())
	n.ports = newPorts(n.life, &sock.Net{Open: c.OpenSocket}, c.warm())
	n.ports.accept, n.ports.bind = n.door.Knock, n.bind
	if !c.NoPortMapping && c.Relay != RelayOnly {
		n.forwards = []*forward{newForward(n, false), newForward(n, true)}
	}
	n.client = rendezvous.NewClient(rendezvous.ClientConfig{
		Servers: servers,
		Key:     n.key,
		Dial: func(ctx context.Context, _, address string) (net.Conn, error) {
			return n.dialServer(ctx, address, othersOf(servers, address))
		},
		RootCAs:   c.RootCAs,
		Token:     c.token,
		Logger:    n.log,
		OnSession: n.onSession,
		OnDown:    n.onDown,
		OnOffer:   n.onOffer,
		OnLost: func(id string, err error) {
			n.log.Warn("name lost", "phase", "session", "peer", id, "err", err)
		},
	})
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.st.closed {
		n.end()
		return net.ErrClosed
	}
	n.wg.Go(n.run)
	n.wg.Go(n.watch)
	for _, f := range n.forwards {
		n.wg.Go(f.run)
	}
	return nil
}

// run holds the session until Close, or until an error that no retry mends;
// Ready, every call on the client, and Accept then return that error.
func (n *Node) run() {
	err := n.client.Run(n.life)
	if err == nil || n.life.Err() != nil {
		return
	}
	n.log.Warn("session ended for good", "phase", "session", "err", err)
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, ln := range n.st.listeners { // another does not come: its registration fails
		ln.lose(fromServer(err))
	}
}

// Up waits until a session with a server stands. It returns an error that will
// not mend by itself at once: a wrong pin, a refused key.
func (n *Node) Up(ctx context.Context) error {
	if err := n.start(); err != nil {
		return err
	}
	_, err := n.client.Ready(ctx)
	return fromServer(err)
}

// Key returns the identity of the node, and nil if its Config is not valid.
func (n *Node) Key() ed25519.PublicKey {
	if n.start() != nil {
		return nil
	}
	return n.key.Public().(ed25519.PublicKey)
}

// Listen registers the node with its server and listens on a virtual port. On
// port 0 it takes every connection to a port that has no listener of its own.
// ctx bounds the registration.
func (n *Node) Listen(ctx context.Context, port uint16) (*Listener, error) {
	ln := &Listener{node: n, conns: make(chan *Conn, backlog), done: make(chan struct{}), lost: make(chan struct{})}
	if err := n.start(); err != nil {
		return nil, opError("listen", err, nil, nil)
	}
	ln.addr = Addr{n.Config.ID, port}
	if ln.addr.ID == "" {
		ln.addr.ID = Fingerprint(n.Key())
	}
	n.mu.Lock()
	_, taken := n.st.listeners[port]
	closed := n.st.closed
	if !taken && !closed {
		n.st.listeners[port] = ln
	}
	n.mu.Unlock()
	switch {
	case closed:
		return nil, opError("listen", net.ErrClosed, ln.addr, nil)
	case taken:
		return nil, opError("listen", errPortTaken, ln.addr, nil)
	}
	// Register waits for the session; a name that another key holds is final.
	if err := n.client.Register(ctx, n.Config.ID); err != nil {
		ln.Close()
		return nil, opError("listen", fromServer(err), ln.addr, nil)
	}
	return ln, nil
}

func (n *Node) listener(port uint16) *Listener {
	n.mu.Lock()
	defer n.mu.Unlock()
	if ln := n.st.listeners[port]; ln != nil {
		return ln
	}
	return n.st.listeners[0]
}

// listens reports whether the session's port belongs to listeners.
func (n *Node) listens() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.st.listeners) > 0
}

func (n *Node) unlisten(ln *Listener) {
	n.mu.Lock()
	last := false
	if n.st.listeners[ln.addr.Port] == ln {
		delete(n.st.listeners, ln.addr.Port)
		last = len(n.st.listeners) == 0 && !n.st.closed && !n.resumptions.accepted()
	}
	n.mu.Unlock()
	if last {
		n.deregister()
	}
}

// unlistened gives up the name of a node without listeners when the last of the
// connections that its peers may look for is over.
func (n *Node) unlistened() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.st.listeners) == 0 && !n.st.closed && !n.resumptions.accepted() {
		n.wg.Go(n.deregister) // ends in a second
	}
}

func (n *Node) deregister() {
	ctx, cancel := context.WithTimeout(n.life, deregisterTimeout)
	defer cancel()
	n.client.Deregister(ctx, n.Config.ID) // best effort: the name lapses with the session
}

// Close ends the node: its listeners are closed, its dials fail, and nothing
// of it runs any more when Close returns, the first time and every other: so it
// can't be called from a hook of the node. Connections live on, but are not
// resumed any more; those that were closed, and whose peers have not got all or not
// ended, have a second for that. If a router has mapped a port it is told to remove
// it, and has a second, too.
func (n *Node) Close() error {
	n.mu.Lock()
	first := !n.st.closed
	if first {
		n.st.closed, n.st.ended = true, make(chan struct{})
	}
	ended := n.st.ended
	var lns []*Listener
	for _, ln := range n.st.listeners {
		lns = append(lns, ln)
	}
	n.mu.Unlock()
	if !first {
		<-ended
		return nil
	}
	defer close(ended)
	n.starting.Do(func() { n.starting.err = net.ErrClosed })
	if n.starting.err != nil {
		return nil
	}
	for _, ln := range lns {
		ln.shut()
	}
	n.wg.Go(n.host.closed.end)
	n.resumptions.lastWords(n.end)
	n.door.Close()
	n.wg.Wait()
	n.ports.close()
	return nil
}
