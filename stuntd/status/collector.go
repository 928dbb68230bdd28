package status

import (
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/gostunt/stunt/relay"
	"github.com/gostunt/stunt/rendezvous"
)

// A metric is one name of /metrics, and where its numbers come from.
type metric struct {
	name, help string
	kind       prometheus.ValueType
	labels     []string
	each       func(b *Board, put func(v float64, labels ...string))
}

// metrics are all but the histograms and what Go and the process say of
// themselves. docs/operate.md has the same table; a test compares the two.
var metrics = []metric{
	{"stuntd_build_info", "The program: always 1.", prometheus.GaugeValue, []string{"version", "goversion"}, func(b *Board, put func(float64, ...string)) {
		put(1, b.config.Version, runtime.Version())
	}},
	{"stuntd_sessions", "Nodes that have a session.", prometheus.GaugeValue, nil, func(b *Board, put func(float64, ...string)) {
		put(float64(b.config.Meet.Sessions()))
	}},
	{"stuntd_names", "Names that belong to a key, also those held for one without a session.", prometheus.GaugeValue, nil, func(b *Board, put func(float64, ...string)) {
		put(float64(b.config.Meet.Stats().Names))
	}},
	{"stuntd_dials_open", "Dials that are under way, or of which not both ends have reported yet.", prometheus.GaugeValue, nil, func(b *Board, put func(float64, ...string)) {
		put(float64(b.config.Meet.Stats().Dials))
	}},
	{"stuntd_session_requests_total", "Clients that asked for a session, by what they were told.", prometheus.CounterValue, []string{"code"}, byLabel(func(b *Board) map[string]int64 { return b.sessions.all() })},
	{"stuntd_registrations_total", "Registrations of names and keys, by what the node was told.", prometheus.CounterValue, []string{"code"}, byLabel(func(b *Board) map[string]int64 { return b.registers.all() })},
	{"stuntd_dials_total", "Dials, by what the caller was told.", prometheus.CounterValue, []string{"code"}, byLabel(func(b *Board) map[string]int64 { return b.answers.all() })},
	{"stuntd_dial_outcomes_total", "Dials whose caller reported, by whether they connected and by which method.", prometheus.CounterValue, []string{"result", "method"}, func(b *Board, put func(float64, ...string)) {
		for e, n := range b.outcomes.all() {
			put(float64(n), e.result, e.method)
		}
	}},
	{"stuntd_dial_nat_pairs_total", "Dials whose caller reported, by the NATs of both ends and what came of it.", prometheus.CounterValue, []string{"caller_nat", "callee_nat", "result"}, func(b *Board, put func(float64, ...string)) {
		for p, n := range b.pairs.all() {
			put(float64(n), p.caller.String(), p.callee.String(), p.result.String())
		}
	}},
	{"stuntd_limit_hits_total", "Times that somebody met a limit.", prometheus.CounterValue, []string{"limit"}, byLabel((*Board).met)},

	{"stuntd_connections", "Connections to the port.", prometheus.GaugeValue, nil, func(b *Board, put func(float64, ...string)) {
		put(float64(b.config.Port().Conns))
	}},
	{"stuntd_connections_half_open", "Connections whose client has not shown yet what it wants.", prometheus.GaugeValue, nil, func(b *Board, put func(float64, ...string)) {
		put(float64(b.config.Port().HalfOpen))
	}},
	{"stuntd_connections_max", "Connections that are let in at most.", prometheus.GaugeValue, nil, func(b *Board, put func(float64, ...string)) {
		put(float64(b.config.Port().MaxConns))
	}},
	{"stuntd_memory_bytes", "Memory that the process holds, as the limit counts it.", prometheus.GaugeValue, nil, func(b *Board, put func(float64, ...string)) {
		put(float64(b.config.Port().Memory))
	}},
	{"stuntd_memory_max_bytes", "Memory from which on nobody is let in any more; at 80 % of it that begins. Absent without a limit.", prometheus.GaugeValue, nil, func(b *Board, put func(float64, ...string)) {
		if m := b.config.Port().MaxMemory; m > 0 {
			put(float64(m))
		}
	}},
	{"stuntd_connections_total", "Connections that were let in and have shown what they speak, or ended before.", prometheus.CounterValue, []string{"protocol"}, byLabel(func(b *Board) map[string]int64 { return b.accepted.all() })},
	{"stuntd_certificate_expiry_timestamp_seconds", "When the certificate in use ends; absent where clients hold its pin.", prometheus.GaugeValue, nil, func(b *Board, put func(float64, ...string)) {
		if t := b.config.Expiry(); !t.IsZero() {
			put(float64(t.Unix()))
		}
	}},

	{"stuntd_cluster_members", "Other servers of the cluster that are there; absent where the server is alone by configuration.", prometheus.GaugeValue, nil, ofCluster(func(st rendezvous.ClusterState) float64 { return float64(len(st.Members)) })},
	{"stuntd_cluster_names", "Names and keys that reach nodes of this server, as the others know; absent as before.", prometheus.GaugeValue, nil, ofCluster(func(st rendezvous.ClusterState) float64 { return float64(st.Names) })},
	{"stuntd_cluster_delay_seconds", "One way to the furthest of the other servers; absent as before.", prometheus.GaugeValue, nil, ofCluster(func(st rendezvous.ClusterState) float64 { return furthest(st).Seconds() })},

	{"stuntd_stun_requests_total", "STUN messages, by what they got.", prometheus.CounterValue, []string{"result"}, func(b *Board, put func(float64, ...string)) {
		st := b.config.STUN.Stats()
		put(float64(st.Answered), "answered")
		put(float64(st.Refused), "refused")
		put(float64(st.Discarded), "discarded")
	}},
	{"stuntd_stun_dial_backs_total", "Connects back to those who measure their NAT, by how they ended.", prometheus.CounterValue, []string{"result"}, byLabel(func(b *Board) map[string]int64 { return b.config.STUN.Stats().DialBacks })},
	{"stuntd_stun_borrowed_dial_backs_total", "Connects back that other servers of the cluster have made for this one, by how they ended.", prometheus.CounterValue, []string{"result"}, byLabel(func(b *Board) map[string]int64 { return b.config.STUN.Stats().Borrowed })},
	{"stuntd_stun_dial_backs_open", "Connects back that are under way.", prometheus.GaugeValue, nil, func(b *Board, put func(float64, ...string)) {
		put(float64(b.config.STUN.Stats().DialingBack))
	}},

	{"stuntd_relay_pairs", "Connections that the relay carries.", prometheus.GaugeValue, nil, ofRelay(func(st relay.Stats) float64 { return float64(st.Pairs) })},
	{"stuntd_relay_streams_waiting", "Relay streams whose other end is not there.", prometheus.GaugeValue, nil, ofRelay(func(st relay.Stats) float64 { return float64(st.Waiting) })},
	{"stuntd_relay_pairs_total", "Connections that the relay has carried.", prometheus.CounterValue, nil, ofRelay(func(st relay.Stats) float64 { return float64(st.Paired) })},
	{"stuntd_relay_bytes_total", "Bytes that the relay has carried, in both directions.", prometheus.CounterValue, nil, ofRelay(func(st relay.Stats) float64 { return float64(st.Bytes) })},
	{"stuntd_relay_refused_total", "Relay streams that ended before they were paired.", prometheus.CounterValue, []string{"reason"}, func(b *Board, put func(float64, ...string)) {
		if b.config.Relay == nil {
			return
		}
		st := b.config.Relay.Stats()
		for s, reason := range refusals {
			put(float64(st.Refused[s]), reason)
		}
	}},
}

// refusals are the relay's reasons, as labels.
var refusals = map[relay.Status]string{relay.BadTicket: "bad_ticket", relay.Expired: "expired", relay.Used: "used",
	relay.Busy: "limit", relay.Alone: "alone", relay.Closing: "closing"}

// refusalOrder is the order in which they are shown.
var refusalOrder = []relay.Status{relay.Busy, relay.Alone, relay.BadTicket, relay.Expired, relay.Used, relay.Closing}

func byLabel(all func(b *Board) map[string]int64) func(*Board, func(float64, ...string)) {
	return func(b *Board, put func(float64, ...string)) {
		for label, n := range all(b) {
			put(float64(n), label)
		}
	}
}

// ofCluster has no number where there is none.
func ofCluster(of func(rendezvous.ClusterState) float64) func(*Board, func(float64, ...string)) {
	return func(b *Board, put func(float64, ...string)) {
		if st := b.config.Meet.Cluster(); st.Name != "" {
			put(of(st))
		}
	}
}

func furthest(st rendezvous.ClusterState) (d time.Duration) {
	for _, m := range st.Members {
		d = max(d, m.Delay)
	}
	return d
}

// ofRelay has a number even where there is no relay: zero.
func ofRelay(of func(relay.Stats) float64) func(*Board, func(float64, ...string)) {
	return func(b *Board, put func(float64, ...string)) {
		var st relay.Stats
		if b.config.Relay != nil {
			st = b.config.Relay.Stats()
		}
		put(of(st))
	}
}

// descs are those of metrics, in the same order.
var descs = func() (ds []*prometheus.Desc) {
	for _, m := range metrics {
		ds = append(ds, prometheus.NewDesc(m.name, m.help, m.labels, nil))
	}
	return ds
}()

// Describe implements [prometheus.Collector].
func (b *Board) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range descs {
		ch <- d
	}
	b.answerTime.Describe(ch)
	b.meetTime.Describe(ch)
}

// Collect implements [prometheus.Collector].
func (b *Board) Collect(ch chan<- prometheus.Metric) {
	for i, m := range metrics {
		m.each(b, func(v float64, labels ...string) {
			ch <- prometheus.MustNewConstMetric(descs[i], m.kind, v, labels...) // panics only where a metric and its labels do not fit
		})
	}
	b.answerTime.Collect(ch)
	b.meetTime.Collect(ch)
}

// registry has the board, and what Go and the process say of themselves.
func (b *Board) registry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(b, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}
