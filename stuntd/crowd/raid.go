package crowd

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/gostunt/stunt/rendezvous"
)

// A raid is an attack on a server by strangers who may use it: they have keys,
// and addresses of their own, which no honest node shares.
type raid struct {
	name  string
	about string // one line
	// run attacks until ctx is done, and leaves nothing behind.
	run func(ctx context.Context, r *raiders)
}

// raids are all, in the order in which they are told.
var raids = slices.Concat(doorRaids, sessionRaids, relayRaids)

// Raids returns the names of all attacks.
func Raids() (names []string) {
	for _, x := range raids {
		names = append(names, x.name)
	}
	return names
}

func findRaid(name string) (raid, error) {
	i := slices.IndexFunc(raids, func(x raid) bool { return x.name == name })
	if i < 0 {
		return raid{}, fmt.Errorf("crowd: there is no attack %q", name)
	}
	return raids[i], nil
}

const (
	// raidSources is from how many addresses an attack comes. Each gets its own
	// share of the server: who has a thousand addresses is no matter of limits.
	raidSources = 4
	// firstRaider is after any honest node: local(firstRaider) is 127.201.0.0.
	firstRaider = 200 << 16
	// hangTime is after how long a raider gives up what nothing comes of.
	hangTime = 15 * time.Second
)

// raiders are those of one process.
type raiders struct {
	server rendezvous.ServerAddr
	certs  []tls.Certificate // of their keys
	pace   *rate.Limiter     // of everything that they do; a busy raider is held up by itself as well
	peers  int               // honest nodes, by their names

	tried   atomic.Int64 // connections or messages, as the attack goes
	in      atomic.Int64 // of these, those that the server did what was asked
	refused atomic.Int64 // those that it answered with an error, a closed connection, or not at all
	holding atomic.Int64 // what they hold of the server now
	most    atomic.Int64 // at most so far
}

// raidKeys is how many keys the raiders have. Making one takes as long as
// a handshake, so they come back with the same ones.
const raidKeys = 64

// newRaiders makes those who attack a server with so many things a second.
func newRaiders(server string, perSecond, peers int) (*raiders, error) {
	servers, err := rendezvous.ParseServers(server)
	if err != nil {
		return nil, err
	}
	r := &raiders{server: servers[0], pace: rate.NewLimiter(rate.Limit(perSecond), max(perSecond/10, 1)), peers: peers}
	for range raidKeys {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return nil, err
		}
		cert, err := rendezvous.Certificate(key)
		if err != nil {
			return nil, err
		}
		r.certs = append(r.certs, cert)
	}
	return r, nil
}

// each runs n raiders and waits for them. One that returns before ctx is done
// begins again.
func (r *raiders) each(ctx context.Context, n int, attack func(ctx context.Context, i int)) {
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			for r.turn(ctx) {
				attack(ctx, i)
			}
		})
	}
	all.Wait()
}

// many is a raid of n raiders who all do the same.
func many(n int, attack func(r *raiders, ctx context.Context, i int)) func(context.Context, *raiders) {
	return func(ctx context.Context, r *raiders) {
		r.each(ctx, n, func(ctx context.Context, i int) { attack(r, ctx, i) })
	}
}

// turn waits until it is time for one more blow; false if there is none any more.
func (r *raiders) turn(ctx context.Context) bool { return r.pace.Wait(ctx) == nil }

// hold counts something that is held until the returned function is called.
func (r *raiders) hold() (release func()) {
	n := r.holding.Add(1)
	for most := r.most.Load(); n > most && !r.most.CompareAndSwap(most, n); most = r.most.Load() {
	}
	return sync.OnceFunc(func() { r.holding.Add(-1) })
}

// score counts what came of a blow.
func (r *raiders) score(ok bool) {
	r.tried.Add(1)
	if ok {
		r.in.Add(1)
	} else {
		r.refused.Add(1)
	}
}

// source is the address of a raider.
func source(i int) netip.Addr { return local(firstRaider + i%raidSources) }

// connect opens a connection from the address of raider i. It ends with ctx, and
// nothing on it takes longer than hangTime.
func (r *raiders) connect(ctx context.Context, i int) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: source(i).AsSlice()}, Timeout: hangTime}
	c, err := d.DialContext(ctx, "tcp", r.server.HostPort())
	if err != nil {
		return nil, err
	}
	c.(*net.TCPConn).SetLinger(0) // no TIME_WAIT: the attack may last
	c.SetDeadline(time.Now().Add(hangTime))
	return c, nil
}

// join opens a session of raider i, under a key that others may have, too, and
// says whatever follows the Hello in the same breath.
func (r *raiders) join(ctx context.Context, i int, more ...frame) (*tls.Conn, error) {
	raw, err := r.connect(ctx, i)
	if err != nil {
		return nil, err
	}
	c := tls.Client(raw, pinned(r.server, r.certs[i%len(r.certs)]))
	err = c.HandshakeContext(ctx)
	if err == nil {
		_, err = c.Write(encode(slices.Concat([]frame{{Kind: kindHello, Min: 1, Max: 1, Text: "raider"}}, more)...))
	}
	var f *frame
	if err == nil {
		f, err = readFrame(c, func() {})
	}
	if err == nil && f.Kind != kindWelcome {
		err = fmt.Errorf("no welcome: code %d, %q", f.Code, f.Text)
	}
	if err != nil {
		raw.Close()
		return nil, err
	}
	return c, nil
}

// shut has a connection closed when ctx is done, or by the returned function.
func shut(ctx context.Context, c net.Conn) func() {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn() // at once: nothing waits for the server to read
	}
	stop := context.AfterFunc(ctx, func() { c.Close() })
	return func() { stop(); c.Close() }
}

// untilClosed reads until the server closes a connection, and reports whether
// that was its doing; false if it waits for more than the raider does.
func untilClosed(c net.Conn) bool {
	_, err := io.Copy(io.Discard, c)
	return !errors.Is(err, os.ErrDeadlineExceeded)
}

// ends scores a connection that the server is to close.
func (r *raiders) ends(ctx context.Context, c net.Conn) {
	closed := untilClosed(c)
	if ctx.Err() == nil { // else it was we
		r.score(!closed)
	}
}
