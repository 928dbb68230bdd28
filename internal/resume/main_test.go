package resume

import (
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/gostunt/stunt/internal/secure"
	"github.com/gostunt/stunt/internal/tcppipe"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func testKey(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte(name))
	return ed25519.NewKeyFromSeed(seed[:])
}

// newSessions runs a handshake, as each path has one.
func newSessions(t testing.TB) (dialer, listener *secure.Session) {
	p := secure.Params{DialID: [16]byte{1}, Peer: "b", Resumable: true}
	i, msg1, err := secure.Initiate(testKey("a"), p)
	require.NoError(t, err)
	r, err := secure.Respond(testKey("b"), p, msg1)
	require.NoError(t, err)
	msg2, listener, err := r.Answer(true)
	require.NoError(t, err)
	dialer, err = i.Finish(msg2)
	require.NoError(t, err)
	a, b := tcppipe.New("", 1000)
	_, err = a.Write(dialer.Preface(secure.Nonce{1}))
	require.NoError(t, err)
	h, err := secure.ReadHeader(b)
	require.NoError(t, err)
	require.NoError(t, listener.Check(h))
	return dialer, listener
}

// pair is both ends of a connection, and what gives them paths.
type pair struct {
	t     testing.TB
	a, b  *Conn
	path  func() (a, b net.Conn) // makes the next
	pause func()                 // before it is there
	paths atomic.Int32
	over  atomic.Int32

	mu      sync.Mutex // guards following
	stopped bool
	records [2]*secure.Conn // of the last path
	wg      sync.WaitGroup
}

var errUnknown = errors.New("unknown connection")

// newPair returns two ends of which the first is given another path when it has lost its own, as the node that has dialled
// does; and the second with it.
func newPair(t testing.TB, timeout time.Duration, path func() (a, b net.Conn), pause func()) *pair {
	p := &pair{t: t, path: path, pause: pause}
	cfg := Config{Timeout: timeout, Idle: 15 * time.Second, Silence: 10 * time.Second, Lost: func(error) {}, Over: func() { p.over.Add(1) }}
	p.b = New(cfg)
	cfg.Lost = func(error) { p.revive() }
	p.a = New(cfg)
	p.attach()
	return p
}

func (p *pair) attach() {
	x, y := p.path()
	ds, ls := newSessions(p.t)
	p.paths.Add(1)
	b, err := p.b.Attach(ls, y)
	if err != nil {
		x.Close()
		y.Close()
		p.a.Fail(errUnknown)
		return
	}
	a, err := p.a.Attach(ds, x)
	if err != nil {
		x.Close()
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.records = [2]*secure.Conn{a, b}
}

// move has the path go on over another connection, as one that began over a relay does. The path may die meanwhile.
func (p *pair) move(pause func()) {
	p.mu.Lock()
	records := p.records
	p.mu.Unlock()
	x, y := p.path()
	for i, end := range []net.Conn{x, y} {
		if records[i].Move(end) != nil {
			end.Close()
		}
		pause()
	}
}

// revive gives both ends another path.
func (p *pair) revive() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return
	}
	p.wg.Go(func() { // ends with its one path
		p.pause()
		if p.a.Waiting() {
			p.attach()
		}
	})
}

func (p *pair) close() {
	p.a.Close()
	p.b.Close()
}

// stop waits until nothing of the pair runs any more.
func (p *pair) stop() {
	p.mu.Lock()
	p.stopped = true
	p.mu.Unlock()
	p.wg.Wait()
}

var errKilled = errors.New("killed")

// mortal is a path that dies when so many bytes were written to one end: with a RST that loses what is under way, or without
// a word, like a link that is down.
type mortal struct {
	*tcppipe.End
	silent bool

	mu   sync.Mutex // guards following
	left int
}

func (m *mortal) Write(b []byte) (int, error) {
	m.mu.Lock()
	n := min(len(b), m.left)
	m.left -= n
	m.mu.Unlock()
	if n > 0 {
		if n, err := m.End.Write(b[:n]); err != nil {
			return n, err
		}
	}
	if n == len(b) {
		return n, nil
	}
	if !m.silent {
		m.End.Reset(errKilled)
		return n, errKilled
	}
	return len(b), nil
}

// SetLinger is what SetLinger and Close do to a TCP connection.
func (m *mortal) SetLinger(int) error {
	m.End.Reset(errKilled)
	return nil
}

func newMortals(r *rand.Rand, name string) (a, b net.Conn) {
	x, y := tcppipe.New(name, 200+r.IntN(1<<(8+r.IntN(10))))
	life := func() int {
		if r.IntN(3) == 0 {
			return 1 << 30
		}
		return r.IntN(1 << (4 + r.IntN(14)))
	}
	silent := r.IntN(4) == 0
	return &mortal{End: x, silent: silent, left: life()}, &mortal{End: y, silent: silent, left: life()}
}
