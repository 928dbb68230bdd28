package stuntd

import (
	"flag"
	"strconv"

	"github.com/gostunt/stunt/relay"
)

// relayFlags adds the flags of the relay.
func (o *options) relayFlags(fs *flag.FlagSet) {
	def, _ := relay.Limits{}.WithDefaults() // the zero value is never refused
	r, l := &o.Relay, &o.Relay.Limits
	fs.Var((*not)(&r.Off), "relay", "carry the bytes of peers that can't reach each other; -relay=false: don't")
	fs.BoolVar(&r.Only, "relay-only", false, "do nothing but relay, for the servers with the same secret")
	fs.Var(&list{p: &r.At}, "relay-at", "`host:port` of another server that relays with the same secret; repeat it for more")
	fs.StringVar(&r.SecretFile, "relay-secret", "", "`file` with the secret that servers share, 32 characters or more; without one, a random one")

	fs.IntVar(&l.Pairs, "relay-max-pairs", def.Pairs, "relayed connections in all")
	fs.IntVar(&l.Waiting, "relay-max-waiting", def.Waiting, "relay streams in all whose other end is not there yet")
	fs.IntVar(&l.WaitingPerSource, "relay-max-waiting-per-source", def.WaitingPerSource, "those of one source")
	fs.IntVar(&l.StreamsPerKey, "relay-max-streams-per-key", def.StreamsPerKey, "relay streams of one key")
	fs.IntVar(&l.StreamsPerSecond, "relay-max-streams-per-second", def.StreamsPerSecond, "relay streams that one key may begin per second, for dials of its own")
	fs.IntVar(&l.StreamsPerSource, "relay-max-streams-per-source", def.StreamsPerSource, "relay streams of one source")
	fs.DurationVar(&l.Wait, "relay-wait", def.Wait, "how long a relay stream waits for its other end")
	fs.DurationVar(&l.Idle, "relay-idle", 0, "end relayed connections that carry nothing for so long; 0: never")
	fs.DurationVar(&l.Life, "relay-life", 0, "end relayed connections after so long; 0: never")
	fs.IntVar(&l.Rate, "relay-rate", 0, "bytes per second that are relayed for one key; 0: no limit")
}

// not is a flag that is true when its bool is false.
type not bool

func (n *not) String() string { return strconv.FormatBool(!bool(*n)) }

func (n *not) Set(s string) error {
	v, err := strconv.ParseBool(s)
	*n = not(!v)
	return err
}

// IsBoolFlag lets -relay stand for -relay=true.
func (n *not) IsBoolFlag() bool { return true }
