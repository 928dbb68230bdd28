package grid

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strings"
	"sync"

	"github.com/gostunt/stunt/natlab"
)

// broker introduces the two ends of a dial that is made in the order of
// others. It does for them what a server of ours does: it tells whoever
// connects how that looks from here, and passes words on, to both at the same
// moment if that is wanted. Lines of text:
//
//	from the broker    ADDRESS             at once: where the connection comes from
//	to the broker      NAME ADDRESS        who that is, and where the other end is to connect to
//	to the broker      WHOM WORD           WHOM is me, other or both
//	from the broker    WORD ADDRESS        with the address of who gets it not
type broker struct {
	lns []net.Listener
	wg  sync.WaitGroup

	mu      sync.Mutex // guards following
	conns   map[net.Conn]bool
	members map[string]member
	came    chan struct{} // closed and made anew when a member comes
}

// member is one end, as it has introduced itself last.
type member struct {
	conn    net.Conn
	address string
}

// startBroker listens on both ports of a host, so that an end can see whether
// its NAT maps them alike.
func startBroker(ctx context.Context, h *natlab.Host) (*broker, error) {
	b := &broker{conns: map[net.Conn]bool{}, members: map[string]member{}, came: make(chan struct{})}
	for _, port := range []uint16{port1, port2} {
		ln, err := h.Listen(ctx, "tcp4", h.AddrPort(port).String())
		if err != nil {
			b.close()
			return nil, err
		}
		b.lns = append(b.lns, ln)
		b.wg.Go(func() { b.accept(ln) })
	}
	return b, nil
}

// accept ends when its listener is closed.
func (b *broker) accept(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		b.mu.Lock()
		b.conns[c] = true
		b.mu.Unlock()
		b.wg.Go(func() { b.serve(c) })
	}
}

// serve ends with its connection.
func (b *broker) serve(c net.Conn) {
	defer func() {
		b.mu.Lock()
		delete(b.conns, c)
		b.mu.Unlock()
		c.Close()
	}()
	fmt.Fprintln(c, c.RemoteAddr())
	name := ""
	for lines := bufio.NewScanner(c); lines.Scan(); {
		first, second, _ := strings.Cut(lines.Text(), " ")
		if name == "" {
			name = first
			b.join(name, member{c, second})
			continue
		}
		b.pass(name, first, second)
	}
}

func (b *broker) join(name string, m member) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.members[name] = m
	close(b.came)
	b.came = make(chan struct{})
}

// pass passes a word on. Who is not there gets none.
func (b *broker) pass(from, whom, word string) {
	other := listenerHost
	if from == listenerHost {
		other = dialerHost
	}
	b.mu.Lock()
	me, them := b.members[from], b.members[other]
	b.mu.Unlock()
	toMe, toThem := fmt.Appendf(nil, "%s %s\n", word, them.address), fmt.Appendf(nil, "%s %s\n", word, me.address)
	if them.conn != nil && whom != "me" {
		them.conn.Write(toThem)
	}
	if whom != "other" {
		me.conn.Write(toMe)
	}
}

// wait returns when an end has introduced itself with this address.
func (b *broker) wait(ctx context.Context, name, address string) error {
	for {
		b.mu.Lock()
		there, came := b.members[name].address == address, b.came
		b.mu.Unlock()
		if there {
			return nil
		}
		select {
		case <-came:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// close ends all that runs.
func (b *broker) close() {
	for _, ln := range b.lns {
		ln.Close()
	}
	b.mu.Lock()
	for c := range b.conns {
		c.Close()
	}
	b.mu.Unlock()
	b.wg.Wait()
}
