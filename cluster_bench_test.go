//go:build unix

package stunt_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt/natlab"
	"github.com/gostunt/stunt/natlab/nat"
	"github.com/gostunt/stunt/rendezvous"
)

// BenchmarkBetweenServers measures what two servers make of the moment at which
// both ends of a dial are told, and what a dial costs more: two nodes 4 ms there
// and back from a server each, or both from one, and 40 ms between the servers.
// skew is the time between Ringing at the caller and Offer at the callee, as a
// median and at worst; told is from Dial to the later of them, answered to the
// Answer.
func BenchmarkBetweenServers(b *testing.B) {
	natlab.Need(b)
	path, secret := buildStuntd(b), clusterSecret(b)
	for _, bb := range []struct {
		name   string
		callee int
	}{{"one", 0}, {"two", 1}} {
		b.Run(bb.name, func(b *testing.B) {
			s := newServers(b, path, secret)
			away, _ := nat.Profile("eim-apdf")
			home := s.lab.NAT("home", nil, away, natlab.Link{Delay: 18 * time.Millisecond, Hops: 1, NoIPv6: true})
			s.startAt(nil, home)
			offers := make(chan *rendezvous.Offer, 1)
			came := make(chan time.Time, 1)
			places := []natlab.Place{nil, home}
			caller, _ := s.client(s.lab.Host("caller", nil, s.link()), 0, rendezvous.ClientConfig{})
			callee, _ := s.client(s.lab.Host("callee", places[bb.callee], s.link()), bb.callee, rendezvous.ClientConfig{OnOffer: func(o *rendezvous.Offer) {
				came <- time.Now()
				offers <- o
			}})
			require.NoError(b, callee.Register(b.Context(), "callee"))
			require.Eventually(b, func() bool { _, err := caller.Lookup(b.Context(), "callee"); return err == nil }, time.Minute, time.Millisecond)
			var skew, told, answered []time.Duration
			for range 200 {
				began := time.Now()
				call, err := caller.Dial(b.Context(), rendezvous.DialRequest{Peer: "callee"})
				require.NoError(b, err)
				<-call.Ringing
				rang := time.Now()
				at := <-came
				require.NoError(b, (<-offers).Answer(rendezvous.Answer{}))
				<-call.Answer
				answered = append(answered, time.Since(began))
				skew = append(skew, rang.Sub(at).Abs())
				told = append(told, max(rang.Sub(began), at.Sub(began)))
			}
			for _, m := range []struct {
				name string
				of   []time.Duration
			}{{"skew", skew}, {"told", told}, {"answered", answered}} {
				slices.Sort(m.of)
				b.ReportMetric(float64(m.of[len(m.of)/2].Microseconds())/1000, m.name+"-ms")
			}
			b.ReportMetric(float64(skew[len(skew)*9/10].Microseconds())/1000, "skew-p90-ms")
		})
	}
}
