package rendezvous

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// BenchmarkDial is one introduction over loopback TLS: from Dial to the moment
// at which both ends may fire. skew-ns is what lies between the two, as two
// goroutines of one process see it, on average.
func BenchmarkDial(b *testing.B) {
	_, from, to := pair(b, &Server{Limits: Limits{DialRate: -1, MessageRate: -1, MessageRatePerSource: -1}})
	ctx := b.Context()
	offered := make(chan time.Time, 1)
	go func() { // ends with the client's offers at the end of the benchmark
		for o := range to.offers {
			offered <- time.Now()
			o.Answer(Answer{})
			o.Conclude(Outcome{OK: true})
		}
	}()
	b.Cleanup(func() { to.stop(); close(to.offers) })
	var skew time.Duration
	b.ReportAllocs()
	for b.Loop() {
		call, err := from.Dial(ctx, DialRequest{Peer: "bob", Noise: make([]byte, 100), Candidates: make([]byte, 100), Report: make([]byte, 100)})
		require.NoError(b, err)
		<-call.Ringing
		rang := time.Now()
		skew += (<-offered).Sub(rang).Abs()
		<-call.Answer
		call.Conclude(Outcome{OK: true, Method: "direct"})
	}
	b.ReportMetric(float64(skew.Nanoseconds())/float64(b.N), "skew-ns")
}

// BenchmarkSession is a session from the first SYN to a registered name.
func BenchmarkSession(b *testing.B) {
	h := serve(b, &Server{Limits: Limits{SessionsPerSource: -1}})
	key := newKey(b)
	for b.Loop() {
		p := h.raw(b, key)
		p.send(&hello{Min: 1, Max: 1}, &register{Ref: 1, ID: "alice"})
		read[*Welcome](p)
		read[*registered](p)
		p.conn.NetConn().Close()
		<-h.ended
	}
}
