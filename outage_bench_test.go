package stunt_test

import (
	"io"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/gostunt/stunt"
	"github.com/gostunt/stunt/natlab"
	"github.com/gostunt/stunt/natlab/nat"
)

// BenchmarkOutage takes a host off the network for half a minute, and reports
// how long after that a byte comes through which was written a second after its
// beginning: over connections that can be resumed, and over such that can't,
// which TCP itself may save.
func BenchmarkOutage(b *testing.B) {
	const loss = 30 * time.Second
	const pairs = 3
	w := newWorld(b, 40*time.Millisecond)
	router := w.lab.NAT("nat-b", nil, nat.Config{}, w.link())
	host := w.lab.Host("b", router, natlab.Link{})
	at := w.behind("a", "eim-apdf")
	var links []link
	for _, resume := range []bool{true, false} {
		id := map[bool]string{true: "lasting", false: "plain"}[resume]
		ln := listen(b, w.node(at, stunt.Config{ID: id, Resume: resume}), 0)
		from := w.node(host, stunt.Config{Resume: resume})
		for range pairs {
			l := connect(b, from, ln)
			b.Cleanup(l.close)
			links = append(links, l)
		}
	}
	times := make([][]time.Duration, 2)
	for b.Loop() {
		down := w.link()
		down.Down = true
		router.SetLink(down)
		began := time.Now()
		var all errgroup.Group
		got := make([]time.Duration, len(links))
		for i, l := range links {
			all.Go(func() error {
				time.Sleep(time.Second) // the program has something to say
				if _, err := l.dialer.Write([]byte("x")); err != nil {
					return err
				}
				l.listener.SetReadDeadline(time.Now().Add(3 * time.Minute))
				_, err := io.ReadFull(l.listener, make([]byte, 1))
				got[i] = time.Since(began) - loss
				return err
			})
		}
		time.Sleep(loss)
		router.SetLink(w.link())
		require.NoError(b, all.Wait())
		for i, t := range got {
			times[i/pairs] = append(times[i/pairs], t)
		}
	}
	for i, name := range []string{"resume-s", "tcp-s"} {
		slices.Sort(times[i])
		b.ReportMetric(times[i][len(times[i])/2].Seconds(), name+"-p50")
		b.ReportMetric(times[i][len(times[i])-1].Seconds(), name+"-max")
	}
	b.ReportMetric(0, "ns/op") // of all of it: says nothing
}
