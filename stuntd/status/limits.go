package status

import (
	"strings"

	"github.com/gostunt/stunt/rendezvous"
)

// limitOther counts those that are not in the list.
const limitOther = "other"

// A limit is what somebody may meet.
type limit struct {
	name string // as it is counted
	text string
	flag string // that moves it; empty: none does
}

// limits are all that are counted, in the order in which a client meets them.
var limits = []limit{
	{"connections", "connections in all", "-max-conns"},
	{"memory", "memory, of which too little is left for what is new", "-max-memory"},
	{"connections_per_source", "connections of one source", "-max-conns-per-source"},
	{"connection_rate", "connections per second of one source, as many as it may have", "-max-conns-per-source"},
	{"connection_rate_of_site", "those of one IPv6 /48, four times as many", "-max-conns-per-source"},
	{"connections_per_site", "connections of one IPv6 /48, which gets 16 times as many", "-max-conns-per-source"},
	{"half_open_per_site", "those of them whose handshake is not finished, four times as many", "-max-half-open-per-source"},
	{"half_open", "connections in all whose handshake is not finished", "-max-half-open"},
	{"half_open_per_source", "those of one source", "-max-half-open-per-source"},
	{"handshakes_per_source", "TLS handshakes per second of one source", "-max-handshake-rate"},
	{"sessions_per_source", "sessions of one source", "-max-conns-per-source"},
	{"sessions_per_key", "sessions of one key", "-max-sessions-per-key"},
	{"ids_per_key", "IDs of one key", "-max-ids-per-key"},
	{"dial_rate", "dials, or lookups, per second of one key", "-max-dial-rate"},
	{"message_rate", "messages per second of one session; more wait in its own socket", "-max-message-rate"},
	{"message_rate_of_source", "those of one source, or of one IPv6 /48, which gets four times as many", "-max-message-rate-per-source"},
	{"pending_dials_of_caller", "unanswered dials of one caller", "-max-pending-dials"},
	{"pending_dials_of_callee", "unanswered dials to one callee", "-max-pending-dials"},
	{"pending_dials_of_source", "unanswered dials from one source to one callee", "-max-pending-dials"},
	{"unread_messages", "messages that a node does not read", ""},
	{"dial_back_rate", "dial-backs per second of one source", ""},
	{"dial_backs", "dial-backs at once", ""},
	{"lent_dial_backs", "dial-backs for other servers of the cluster: half of those at once, and as many a second", ""},
	{"holds", "answers that are held back at once", ""},
	{"relay_pairs", "relayed connections in all", "-relay-max-pairs"},
	{"relay_memory", "memory, of which too little is left for another relay stream", "-max-memory"},
	{"relay_waiting", "relay streams in all whose other end is not there yet", "-relay-max-waiting"},
	{"relay_waiting_per_source", "those of one source", "-relay-max-waiting-per-source"},
	{"relay_streams_per_key", "relay streams of one key", "-relay-max-streams-per-key"},
	{"relay_streams_per_second", "relay streams that one key begins per second", "-relay-max-streams-per-second"},
	{"relay_streams_per_source", "relay streams of one source", "-relay-max-streams-per-source"},
	{"relay_used_tickets", "relay tickets that are remembered until they expire", ""},
	{"relay_rate", "bytes per second that are relayed for one key; more wait", "-relay-rate"},
	{"relay_idle", "how long a relayed connection may carry nothing", "-relay-idle"},
	{"relay_life", "how long a relayed connection may last", "-relay-life"},
	{limitOther, "others", ""},
}

func limitNames() []string {
	names := make([]string, len(limits))
	for i, l := range limits {
		names[i] = l.name
	}
	return names
}

// met returns how often each limit was met.
func (b *Board) met() map[string]int64 {
	met := b.limits.all()
	for name, n := range b.config.STUN.Stats().Met {
		met[name] += n
	}
	if b.config.Relay != nil {
		for name, n := range b.config.Relay.Stats().Met {
			met[name] += n
		}
	}
	return met
}

// codeLabel is what a code is counted as: a peer may answer with any number.
func codeLabel(c rendezvous.Code) string {
	if c == rendezvous.CodeNone {
		return "ok"
	}
	if s := c.String(); !strings.HasPrefix(s, "code ") { // a number without a name
		return strings.ReplaceAll(s, " ", "_")
	}
	return "other"
}
