package rendezvous

import (
	"context"
	"crypto/tls"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// BenchmarkReturn is the return of nodes to a server that was killed, or rather to
// the next one, which knows nothing of them and is ready a moment later. They come
// at the times at which a Client does, through the limits that stuntd has, with all
// that both ends compute, on the cores of one machine. What is missing is the
// kernel, so that no limit on open files is in the way:
//
//	go test ./rendezvous -run '^$' -bench Return -benchtime 1x -args -many 100000
func BenchmarkReturn(b *testing.B) {
	exiles := make([]tls.Certificate, *many)
	for i := range exiles {
		var err error
		exiles[i], err = Certificate(newKey(b))
		require.NoError(b, err)
	}
	cert, _ := serverCert(b)
	spread := time.Duration(*many/1600) * time.Second // as stuntd with one core for handshakes
	for b.Loop() {
		r := &reunion{
			server: &Server{lot: memoryLot{}, Keepalive: time.Hour, Limits: Limits{Handshakes: -1}},
			config: ServerTLS(cert), address: ServerAddr{Host: "127.0.0.1", Pin: PinOf(cert.Leaf)},
			halfOpen: make(chan struct{}, mostHalfOpen), turns: make(chan struct{}, max(runtime.GOMAXPROCS(0)-1, 1)),
			began: time.Now(), total: len(exiles),
		}
		r.all.Add(len(exiles))
		for i := range exiles {
			e := &exile{reunion: r, index: i, cert: exiles[i], round: round{servers: []ServerAddr{r.address}}}
			e.away(visit{err: net.ErrClosed, found: FoundServer, lasted: stableTime, spread: spread})
		}
		r.all.Wait()
		took := time.Since(r.began)
		b.StopTimer()
		require.Equal(b, len(exiles), r.server.Sessions())
		b.ReportMetric(took.Seconds(), "s-all")
		b.ReportMetric(time.Duration(r.half.Load()).Seconds(), "s-half")
		b.ReportMetric(float64(r.full.Load()), "turned-away")
		b.ReportMetric(float64(r.broken.Load()), "broken")
		r.server.Close()
		b.StartTimer()
	}
}

const (
	// mostHalfOpen is stuntd's -max-half-open.
	mostHalfOpen = 1024
	// bootTime is from the end of a server to the moment at which the next one
	// listens, as crowd measures it.
	bootTime = 250 * time.Millisecond
)

// A reunion is one return of all.
type reunion struct {
	server   *Server
	config   *tls.Config
	address  ServerAddr
	halfOpen chan struct{} // as of stuntd's door: has one for each in its handshake
	turns    chan struct{} // as of stuntd's: has one for each handshake that computes
	began    time.Time
	total    int

	all          sync.WaitGroup // who is not back
	back         atomic.Int64
	half         atomic.Int64 // when half of them were, in ns
	full, broken atomic.Int64 // attempts: turned away, or begun in vain
}

// An exile is one node.
type exile struct {
	*reunion
	index int
	cert  tls.Certificate
	round round
}

// away has the next attempt follow v as a Client does.
func (e *exile) away(v visit) { time.AfterFunc(e.round.next(v), e.come) }

// come is one attempt. The goroutine ends with it.
func (e *exile) come() {
	found, err := e.connect()
	if err != nil {
		e.away(visit{err: err, found: found})
		return
	}
	if e.back.Add(1) == int64(e.total+1)/2 {
		e.half.Store(int64(time.Since(e.began)))
	}
	e.all.Done()
}

// connect makes a session, and forgets it: the server has it.
func (e *exile) connect() (Found, error) {
	if time.Since(e.began) < bootTime {
		return FoundGone, syscall.ECONNREFUSED
	}
	select {
	case e.halfOpen <- struct{}{}:
	default:
		e.full.Add(1)
		return FoundFull, syscall.ECONNRESET
	}
	near, far := newMemoryConns(addressOf(e.index))
	near.turns = e.turns
	go e.accept(near) // ends with the handshake, or when ctx is over
	ctx, cancel := context.WithTimeout(context.Background(), (&ClientConfig{}).timeout())
	defer cancel()
	defer context.AfterFunc(ctx, func() { far.Close() })()
	conn := tls.Client(far, e.address.tlsConfig(e.cert, nil))
	err := conn.HandshakeContext(ctx)
	if err == nil {
		err = enroll(conn, e.index)
	}
	if err != nil {
		e.broken.Add(1)
	}
	return FoundServer, err
}

// accept is the server's side, as in stuntd.
func (r *reunion) accept(near *memoryConn) {
	r.turns <- struct{}{}
	conn := tls.Server(near, r.config)
	err := conn.Handshake()
	near.turns = nil
	<-r.turns
	<-r.halfOpen
	if err != nil {
		near.Close()
		return
	}
	r.server.ServeConn(context.Background(), conn) // why not is what the client hears
}
