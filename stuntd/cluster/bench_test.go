package cluster

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// BenchmarkPresence measures what it costs that names are reached from another
// server: memory of both per name, in one process with both NATS servers, the time
// until the last of so many is seen, and how long it takes to ask for one that is
// there, and for one that is not.
func BenchmarkPresence(b *testing.B) {
	const names = 20_000
	first, err := Start(Config{Name: "test", Secret: secret, Listen: "127.0.0.1:0"}, nil)
	require.NoError(b, err)
	defer first.Close()
	second, err := Start(Config{Name: "test", Secret: secret, Listen: "127.0.0.1:0", Routes: []string{first.Addr().String()}}, nil)
	require.NoError(b, err)
	defer second.Close()
	waitFor(b, first, second, "ready")

	began, before := time.Now(), heap()
	for i := range names {
		_, err := first.Listen(fmt.Sprint("id.name-", i), func(m []byte, reply func([]byte)) { reply(m) })
		require.NoError(b, err)
	}
	waitFor(b, second, first, "last") // subjects come in order
	seen, size := time.Since(began), heap()-before
	there, nobody := time.Duration(0), time.Duration(0)
	n := 0
	for b.Loop() {
		there += roundTrip(second, fmt.Sprint("id.name-", n%names))
		nobody += roundTrip(second, "id.nobody")
		n++
	}
	b.ReportMetric(float64(size)/names, "B/name")
	b.ReportMetric(float64(seen.Milliseconds()), "seen-ms")
	b.ReportMetric(float64(there.Microseconds())/float64(n), "there-us")
	b.ReportMetric(float64(nobody.Microseconds())/float64(n), "nobody-us")
}

// waitFor waits until what from listens to now is known at to.
func waitFor(b *testing.B, to, from *Bus, subject string) {
	stop, err := from.Listen(subject, func(m []byte, reply func([]byte)) { reply(m) })
	require.NoError(b, err)
	defer stop()
	for {
		got := make(chan error, 1)
		to.Ask(subject, nil, time.Second, func(_ []byte, err error) { got <- err })
		if <-got == nil {
			return
		}
	}
}

func roundTrip(from *Bus, subject string) time.Duration {
	done := make(chan struct{})
	began := time.Now()
	from.Ask(subject, nil, time.Minute, func([]byte, error) { close(done) })
	<-done
	return time.Since(began)
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
