// Package status is what an operator sees of a server: counters for Prometheus,
// and a page. A [Board] counts what happens; [Board.Handler] serves both, and the
// profiles of package pprof. Both say the same, as they read the same counters.
//
// Most of what is counted is told by nodes, which may lie. So every label is one
// of a list that is written here, and whatever else comes counts as "other".
package status

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/gostunt/stunt/probe"
	"github.com/gostunt/stunt/relay"
	"github.com/gostunt/stunt/rendezvous"
)

// Config says what a Board is about.
type Config struct {
	Version string // of the program
	Facts   []Fact // more about the server, in the order in which they are shown

	Meet  *rendezvous.Server // must be set, as STUN
	STUN  *probe.Server
	Relay *relay.Server // nil: it does not relay
	// Port returns what the port that all protocols share holds at the moment.
	Port func() Port
	// Expiry returns when the certificate in use ends; the zero time if it matters
	// to nobody, because clients hold its pin.
	Expiry func() time.Time
}

// A Fact is something about a server that does not change while it runs.
type Fact struct{ Name, Value string }

// Port is what a port holds.
type Port struct {
	Conns, HalfOpen int // now
	MaxConns        int
	// Memory is what the process has in use, of the MaxMemory from which on
	// it lets nobody in, in bytes; MaxMemory is 0 if there is no such limit.
	Memory, MaxMemory uint64
	// Refusing says what is refused for want of memory; empty: nothing.
	Refusing string
}

// A Board counts what a server does. Its methods may be called at any time from
// any goroutine; those that count never wait for those who look.
type Board struct {
	config Config
	began  time.Time

	sessions   tally[string] // by code
	registers  tally[string] // by code
	answers    tally[string] // by code
	outcomes   tally[ending] // as callers say
	pairs      tally[pair]   // as callers say
	limits     tally[string] // by name
	accepted   tally[string] // connections by protocol
	answerTime prometheus.Histogram
	meetTime   *prometheus.HistogramVec // by method

	recent recent
	past   past
}

// ending is what a caller says of its dial.
type ending struct{ method, result string }

// pair is where a dial came from and went to, and what came of it.
type pair struct {
	caller, callee class
	result         result
}

// result is what came of a dial.
type result uint8

const (
	direct result = iota
	relayed
	failed
	results
)

func (r result) String() string { return [results]string{"direct", "relayed", "failed"}[r] }

// Methods are the ways in which a dial may say that it connected; whatever else
// one says is "other". Those that failed have none.
var methods = []string{"direct", "reversed", "lan", "hairpin", "simultaneous-open", "predicted-port", "guessed-port",
	rendezvous.LastRelayed, rendezvous.MethodRelayOnly, methodOther}

const methodOther = "other"

// Protocols are what connections to the port turn out to speak.
var protocols = []string{ProtocolSTUN, ProtocolSession, ProtocolHTTP, ProtocolRelay, ProtocolNone}

// The protocols that [Board.Accepted] counts.
const (
	ProtocolSTUN    = "stun"
	ProtocolSession = "session"
	ProtocolHTTP    = "http"
	ProtocolRelay   = "relay"
	ProtocolNone    = "none" // it ended before it was one of these
)

// New returns a board for a server; set the server's Trace to [Board.Trace].
func New(c Config) *Board {
	b := &Board{
		config: c,
		began:  time.Now(),
		answerTime: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "stuntd_dial_answer_seconds",
			Help: "Time from a dial that came in to its answer that went out: two ways to the callee, and its thinking.",
			// From a callee next door to one that is given up.
			Buckets: []float64{.001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10},
		}),
		meetTime: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "stuntd_dial_connect_seconds",
			Help: "Time that dials took to connect, as their callers say; by the way in which they connected.",
			// From two in one network to the end of the time in which a direct path is sought.
			Buckets: []float64{.005, .01, .02, .05, .1, .2, .3, .5, .75, 1, 1.5, 2, 3, 5, 10},
		}, []string{"method"}),
	}
	b.limits.expect(limitNames()...)
	b.accepted.expect(protocols...)
	for _, m := range methods {
		b.outcomes.expect(ending{m, "ok"})
	}
	b.outcomes.expect(ending{"", "failed"})
	b.sample(b.began)
	return b
}

// Trace returns what counts for the board.
func (b *Board) Trace() *rendezvous.Trace {
	return &rendezvous.Trace{
		Session:    func(c rendezvous.Code) { b.sessions.add(codeLabel(c)) },
		Registered: func(c rendezvous.Code) { b.registers.add(codeLabel(c)) },
		Answered:   b.answered,
		Outcome:    b.outcome,
		Limited:    b.Limited,
	}
}

// Accepted counts a connection that turned out to speak a protocol.
func (b *Board) Accepted(protocol string) { b.accepted.add(protocol) }

// Limited counts that somebody met a limit.
func (b *Board) Limited(name string) { b.limits.addKnown(name, limitOther) }

func (b *Board) answered(c rendezvous.Code, after time.Duration) {
	b.answers.add(codeLabel(c))
	if after > 0 && c == rendezvous.CodeNone {
		b.answerTime.Observe(after.Seconds())
	}
}

// longest is how long a dial can have taken: what an end says beyond it would
// spoil the sum of all others.
const longest = time.Minute

// outcome counts what the caller says; the callee says it again.
func (b *Board) outcome(v rendezvous.Verdict) {
	if !v.ByCaller {
		return
	}
	d := dial{caller: key(v.Caller), callee: key(v.Callee), at: time.Now(), result: failed,
		took: min(max(v.Outcome.Elapsed, 0), longest), from: classOf(v.CallerKind), to: classOf(v.CalleeKind)}
	e := ending{"", "failed"}
	if v.Outcome.OK {
		e = ending{methodOf(v.Outcome.Method), "ok"}
		d.method, d.result = e.method, direct
		b.meetTime.WithLabelValues(e.method).Observe(d.took.Seconds())
	}
	b.outcomes.add(e)
	chosen := v.Outcome.Method == rendezvous.MethodRelayOnly // it says nothing of the NATs
	if d.method == rendezvous.LastRelayed || d.method == rendezvous.MethodRelayOnly {
		d.result = relayed
	}
	if !chosen {
		b.pairs.add(pair{d.from, d.to, d.result})
	}
	b.recent.add(d)
}

// key is a public key that can be compared.
func key(k []byte) (id [32]byte) {
	copy(id[:], k)
	return id
}

func methodOf(said string) string {
	for _, m := range methods {
		if m == said {
			return m
		}
	}
	return methodOther
}

// sampleEvery is how fine the pictures of the last hour are.
const sampleEvery = 10 * time.Second

// Run takes a sample now and then, for the pictures of the last hour, until ctx
// ends.
func (b *Board) Run(ctx context.Context) {
	t := time.NewTicker(sampleEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-t.C:
			b.sample(now)
		}
	}
}

// tally counts by labels.
type tally[K comparable] struct {
	mu sync.Mutex // guards following
	n  map[K]int64
}

// expect makes labels that are there from the beginning: what counts from
// nothing to one is not seen by a rate.
func (t *tally[K]) expect(ks ...K) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.n == nil {
		t.n = make(map[K]int64)
	}
	for _, k := range ks {
		t.n[k] += 0
	}
}

func (t *tally[K]) add(k K) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.n == nil {
		t.n = make(map[K]int64)
	}
	t.n[k]++
}

// addKnown counts k if it was expected, else other.
func (t *tally[K]) addKnown(k, other K) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.n[k]; !ok {
		k = other
	}
	t.n[k]++
}

// all returns a copy of the counts.
func (t *tally[K]) all() map[K]int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := make(map[K]int64, len(t.n))
	for k, v := range t.n {
		n[k] = v
	}
	return n
}
