package grid

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/gostunt/stunt"
	"github.com/gostunt/stunt/natlab"
)

const (
	// buildTimeout bounds all that comes before the first dial. A probe takes
	// 3 s where silence is the answer, longer on a busy machine.
	buildTimeout = time.Minute
	// talkTimeout bounds the exchange over a connection that stands.
	talkTimeout = 10 * time.Second

	listenerHost, dialerHost = "listener", "dialer"
)

// world is a lab with a server and two programs that are to meet.
type world struct {
	config Config
	seed   uint64
	trace  trace

	lab  *natlab.Lab
	ends ends
}

// ends are the two programs and their server.
type ends interface {
	// prepare does what comes before a dial and is not part of it.
	prepare(ctx context.Context) error
	// dial makes connection i and says how it came about.
	dial(ctx context.Context, i int) (net.Conn, stunt.Method, error)
	// close ends all that runs, also after an error of the constructor.
	close()
}

// build makes the world of a case and waits until both ends are ready. close
// ends it, also after an error.
func (w *world) build(ctx context.Context, c Case, state string) error {
	ctx, cancel := context.WithTimeout(ctx, buildTimeout)
	defer cancel()
	w.trace.began = time.Now()
	var err error
	if w.lab, err = natlab.New(natlab.Config{Seed: w.seed, Trace: &w.trace}); err != nil {
		return err
	}
	// A quarter of a round trip from each to the core. Only the pairs that are
	// about IPv6 have it: it would cross what the others are about.
	link := natlab.Link{
		Delay: w.config.RTT / 4, Jitter: w.config.Jitter, Loss: w.config.Loss,
		Hops: 2, NoIPv6: !c.ipv6,
	}
	server := w.lab.Host("server", nil, link)
	if c.order != nil {
		listener, dialer := c.place(w.lab, link)
		w.ends, err = startPeers(ctx, w, hosts{server, listener, dialer}, *c.order)
		return err
	}
	n := &nodes{world: w}
	w.ends = n
	address, err := n.serve(server, state)
	if err != nil {
		return err
	}
	listener, dialer := c.place(w.lab, link)
	return n.start(ctx, hosts{server, listener, dialer}, address)
}

// hosts are those of a world.
type hosts struct{ server, listener, dialer *natlab.Host }

// dial makes connection i and checks that bytes pass both ways. A dial that
// fails is a result, and no error.
func (w *world) dial(ctx context.Context, i int) (Dial, error) {
	// The dials of one lab are each the first between their NATs: what earlier
	// ones opened and nobody came through is long closed.
	if err := w.lab.Age(); err != nil {
		return Dial{}, err
	}
	ready, cancel := context.WithTimeout(ctx, buildTimeout)
	defer cancel()
	if err := w.ends.prepare(ready); err != nil {
		return Dial{}, err
	}
	before := w.trace.count()
	w.trace.note(dialerHost, "dial %d", i)
	began := time.Now()
	c, method, err := w.ends.dial(ctx, i)
	d := Dial{Method: method, Took: time.Since(began), Err: err}
	if err == nil {
		d.Err = talk(c, i)
	}
	// Those of earlier dials that are still open count here: none gets lost.
	d.SYNs = w.trace.count() - before
	w.trace.note(dialerHost, "dial %d ended after %v: %s %v", i, d.Took, d.Method, d.Err)
	return d, ctx.Err()
}

// talk sends something, hears the same, and closes c.
func talk(c net.Conn, i int) error {
	defer c.Close()
	c.SetDeadline(time.Now().Add(talkTimeout))
	want := fmt.Appendf(nil, "bytes of connection %d\n", i)
	_, err := c.Write(want)
	if half, ok := c.(interface{ CloseWrite() error }); ok && err == nil {
		err = half.CloseWrite()
	}
	got, readErr := io.ReadAll(c)
	if err = errors.Join(err, readErr); err != nil {
		return fmt.Errorf("connected, but: %w", err)
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("connected, but %q came back for %q", got, want)
	}
	return nil
}

// close ends whatever build made.
func (w *world) close() error {
	if w.ends != nil {
		w.ends.close()
	}
	if w.lab == nil {
		return nil
	}
	return w.lab.Close()
}
