package stunt_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt"
	"github.com/gostunt/stunt/natlab"
	"github.com/gostunt/stunt/probe"
)

// syns says where the SYNs of a host of the lab go. It is a trace.
type syns struct {
	host string
	to   chan netip.AddrPort // with room for all
}

func (s syns) Write(line []byte) (int, error) {
	f := strings.Fields(string(line)) // time, place, what, source, >, destination, flags
	if len(f) > 6 && f[1] == s.host && f[2] == "send" && f[6] == "S" {
		select {
		case s.to <- netip.MustParseAddrPort(f[5]):
		default:
		}
	}
	return len(line), nil
}

// The NAT is probed from the session's first SYN on, and at all the endpoints that
// the server's address names: here none of them ever answers.
func TestProbeBeginsWithSession(t *testing.T) {
	t.Parallel()
	natlab.Need(t)
	sent := syns{"home", make(chan netip.AddrPort, 1000)}
	lab := natlab.Start(t, natlab.Config{Seed: 1, Trace: sent})
	w := &world{t: t, lab: lab}
	w.host = lab.Host("server", nil, natlab.Link{Down: true})
	second := w.host.AddAddr()
	n := &stunt.Node{Config: stunt.Config{
		Server:     fmt.Sprintf("%v#+%v:3479", w.host.AddrPort(3478), second),
		OpenSocket: w.behind("home", "eim-apdf").Do,
	}}
	defer n.Close()
	n.Key() // starts it
	missing := map[netip.AddrPort]bool{
		w.host.AddrPort(3478): true, w.host.AddrPort(3479): true, netip.AddrPortFrom(second, 3478): true,
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for len(missing) > 0 {
		select {
		case to := <-sent.to:
			delete(missing, to)
		case <-ctx.Done():
			require.Empty(t, missing, "no SYN went there")
		}
	}
}

// probes are a log's lines about probes that failed.
type probes chan string

func (probes) Enabled(context.Context, slog.Level) bool { return true }
func (p probes) WithAttrs([]slog.Attr) slog.Handler     { return p }
func (p probes) WithGroup(string) slog.Handler          { return p }

func (p probes) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "probe" {
		select {
		case p <- r.Message:
		default:
		}
	}
	return nil
}

// A node that was there before its server gets a report when that comes.
func TestProbedWhenServerComes(t *testing.T) {
	t.Parallel()
	natlab.Need(t)
	w := newWorld(t, 4*time.Millisecond)
	require.NoError(t, w.server.Close())
	failed := make(probes, 1)
	n := w.node(w.behind("home", "eim-apdf"), stunt.Config{Logger: slog.New(failed)})
	n.Key() // starts it
	<-failed
	w.serve()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	r, err := n.Report(ctx)
	require.NoError(t, err)
	require.Equal(t, probe.EIM, r.Mapping)
}

// BenchmarkStart measures how many round trips after its first SYN a node has a
// session, and knows what dialling needs of its NAT: with the address that the
// server prints, with one that says where it is and no more, and with a report
// that was kept.
func BenchmarkStart(b *testing.B) {
	for _, rtt := range []time.Duration{40, 100, 300} {
		for _, profile := range []string{"eim-apdf", "eim-rst"} {
			b.Run(fmt.Sprintf("%s/rtt=%v", profile, rtt*time.Millisecond), func(b *testing.B) { benchmarkStart(b, profile, rtt*time.Millisecond) })
		}
	}
}

// startsPerOp is how many nodes start for one op, so that one has a median.
const startsPerOp = 5

func benchmarkStart(b *testing.B, profile string, rtt time.Duration) {
	w := newWorld(b, rtt)
	w.noIPv6 = true
	home := w.behind("home", profile)
	printed := w.server.Address()
	plain, _, _ := strings.Cut(printed, "+")
	kept := b.TempDir()
	key := stunt.NewKey()
	for _, how := range []struct {
		unit string
		stunt.Config
	}{
		{"", stunt.Config{Server: printed}},
		{"-plain", stunt.Config{Server: plain}},
		{"-kept", stunt.Config{Server: plain, CacheDir: kept, Key: key}},
	} {
		how.OpenSocket = home.Do
		if how.CacheDir != "" {
			start(b, how.Config, true)
		}
		var session, mapping, policy []time.Duration
		for range b.N {
			for range startsPerOp {
				s := start(b, how.Config, false)
				session, mapping, policy = append(session, s.session), append(mapping, s.mapping), append(policy, s.policy)
			}
		}
		b.ReportMetric(float64(median(session))/float64(rtt), "rtt-session"+how.unit)
		b.ReportMetric(float64(median(mapping))/float64(rtt), "rtt-mapping"+how.unit)
		b.ReportMetric(float64(median(policy))/float64(rtt), "rtt-policy"+how.unit)
	}
	b.ReportMetric(0, "ns/op")
}

// started is how long after its start a node had what.
type started struct{ session, mapping, policy time.Duration }

// start starts a node and ends it when all of this, or, if it is to be kept, the
// whole report is there.
func start(t testing.TB, c stunt.Config, whole bool) (s started) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	type event struct {
		at time.Duration
		r  *probe.Report // nil: the session stands
	}
	events := make(chan event, 16)
	began := time.Now()
	c.Trace = &stunt.Trace{
		Session: func(netip.AddrPort, netip.AddrPort) { events <- event{time.Since(began), nil} },
		Probed:  func(r *probe.Report) { events <- event{time.Since(began), r} },
	}
	c.NoPortMapping = true
	n := &stunt.Node{Config: c}
	defer n.Close()
	n.Key() // starts it
	if whole {
		_, err := n.Report(ctx)
		require.NoError(t, err)
	}
	for s.session == 0 || s.mapping == 0 || s.policy == 0 {
		select {
		case e := <-events:
			switch {
			case e.r == nil:
				s.session = e.at
			default:
				if e.r.Mapping != probe.MappingUnknown && s.mapping == 0 {
					s.mapping = e.at
				}
				if e.r.Unsolicited != probe.ReplyUnknown && s.policy == 0 {
					s.policy = e.at
				}
			}
		case <-ctx.Done():
			require.Fail(t, "the node does not start")
		}
	}
	return s
}
