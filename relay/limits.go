package relay

import (
	"errors"
	"fmt"
	"time"
)

// Limits bound what the relay does, for all and for one. In each field zero is
// the default named there; of those whose default is none, there is none then.
// A source is an IPv4 address or an IPv6 /64, a key that of a node.
type Limits struct {
	Pairs            int           // at once: 4096, of two files each; while bytes move, up to 64 KiB of memory each
	Waiting          int           // streams whose other end is not there: 1024
	WaitingPerSource int           // of these, of one source: 64
	StreamsPerKey    int           // of one key, waiting or paired: 128
	StreamsPerSecond int           // of one key as the dialer, in bursts of four times as many: 32
	StreamsPerSource int           // of one source: 192; many nodes may be behind one
	Wait             time.Duration // for the other end: 15 s, longer than two ends of a dial are ever apart
	Idle             time.Duration // a pair that carries nothing for so long is ended: none
	Life             time.Duration // a pair is ended after so long: none
	// Rate is how many bytes a second are carried for one key, in all its
	// pairs and both directions; each pair counts for both its keys: none.
	Rate int
}

// How limits are counted when somebody meets them.
const (
	limitPairs            = "relay_pairs"
	limitWaiting          = "relay_waiting"
	limitWaitingPerSource = "relay_waiting_per_source"
	limitStreamsPerKey    = "relay_streams_per_key"
	limitStreamsPerSecond = "relay_streams_per_second"
	limitStreamsPerSource = "relay_streams_per_source"
	limitUsedTickets      = "relay_used_tickets" // maxUsed
	limitMemory           = "relay_memory"       // Server.Full
	limitIdle             = "relay_idle"
	limitLife             = "relay_life"
	limitRate             = "relay_rate" // each time that a pair has to wait for it
)

var limitNames = []string{limitPairs, limitWaiting, limitWaitingPerSource, limitStreamsPerKey, limitStreamsPerSecond,
	limitStreamsPerSource, limitUsedTickets, limitMemory, limitIdle, limitLife, limitRate}

// WithDefaults fills in what is zero and has a default, and refuses what is
// negative.
func (l Limits) WithDefaults() (Limits, error) {
	for _, f := range []struct {
		name string
		p    *int
		zero int
	}{
		{"Pairs", &l.Pairs, 4096},
		{"Waiting", &l.Waiting, 1024},
		{"WaitingPerSource", &l.WaitingPerSource, 64},
		{"StreamsPerKey", &l.StreamsPerKey, 128},
		{"StreamsPerSecond", &l.StreamsPerSecond, 32},
		{"StreamsPerSource", &l.StreamsPerSource, 192},
		{"Rate", &l.Rate, 0},
	} {
		if *f.p < 0 {
			return l, fmt.Errorf("relay limit %s is negative", f.name)
		}
		if *f.p == 0 {
			*f.p = f.zero
		}
	}
	if l.Wait < 0 || l.Idle < 0 || l.Life < 0 {
		return l, errors.New("a relay time is negative")
	}
	if l.Wait == 0 {
		l.Wait = 15 * time.Second
	}
	return l, nil
}
