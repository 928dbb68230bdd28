//go:build unix

package stunt_test

import (
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/gostunt/stunt/internal/sock"
	"github.com/gostunt/stunt/natlab"
	"github.com/gostunt/stunt/probe"
	"github.com/gostunt/stunt/rendezvous"
)

// Two servers of a cluster with an address each tell a node as much about its NAT
// as one with two. When one is killed, the other tells what it can alone: who
// asks at the same moment misses no more than that.
func TestLentAddresses(t *testing.T) {
	t.Parallel()
	natlab.Need(t)
	s := newServers(t, buildStuntd(t), clusterSecret(t))
	s.more = []string{"-listen", ":3479"}
	s.startAt(nil, nil)
	whole := s.lab.Host("whole", nil, s.link())
	second := whole.AddAddr().String()
	startStuntd(t, whole, s.path, t.TempDir(), "-listen", whole.AddrPort(3479).String(), "-listen", second+":3478", "-listen", second+":3479")
	know(t, s)

	names := []string{"eim-eif", "eim-adf", "adm-delta1"}
	var probes []probed
	for _, name := range names {
		// Each behind a NAT of its own, or one's ports would be the other's drift.
		probes = append(probes, probed{host: s.behind(name+"-whole", name), server: whole.AddrPort(3478)},
			probed{host: s.behind(name+"-lent", name), server: s.hosts[0].AddrPort(3478)})
	}
	probeAll(t, probes)
	for i, name := range names {
		want, got := probes[2*i].report, probes[2*i+1].report
		require.Empty(t, got.Ambiguous, name)
		require.Equal(t, want.Verdict(), got.Verdict(), name)
		require.Equal(t, found(want), found(got), name)
	}

	require.NoError(t, s.all[1].cmd.Process.Signal(syscall.SIGKILL))
	probes = probes[1:2]
	require.Equal(t, probe.EIF, probes[0].report.Filtering)
	probeAll(t, probes)
	r := probes[0].report
	require.Equal(t, []any{probe.EIM, probe.ADF}, []any{r.Mapping, r.Filtering})
	require.Equal(t, []string{"mapping EIM or ADM: the server has one address", "filtering EIF or ADF: nothing came from another address"}, r.Ambiguous)
}

// know waits until the first server knows the second: it asks no others for a name
// before.
func know(t *testing.T, s *servers) {
	host := s.lab.Host("guest", nil, s.link())
	here, _ := s.client(host, 0, rendezvous.ClientConfig{})
	there, key := s.client(host, 1, rendezvous.ClientConfig{})
	require.NoError(t, there.Register(t.Context(), ""))
	require.Eventually(t, func() bool {
		_, err := here.Lookup(t.Context(), rendezvous.Fingerprint(key))
		return err == nil
	}, 30*time.Second, 10*time.Millisecond)
}

// probed is what a server tells a host.
type probed struct {
	host   *natlab.Host
	server netip.AddrPort
	report *probe.Report
}

// probeAll runs probes side by side.
func probeAll(t *testing.T, probes []probed) {
	var g errgroup.Group
	for i := range probes {
		p := &probes[i]
		g.Go(func() (err error) {
			p.report, err = probe.Run(t.Context(), probe.Config{Net: &sock.Net{Open: p.host.Do}, Server: p.server})
			return err
		})
	}
	require.NoError(t, g.Wait())
}

// found is what does not vary from one run to the next.
func found(r *probe.Report) probe.Report {
	f := *r
	f.Time, f.UnsolicitedMS, f.Samples, f.Ports, f.IPv6 = time.Time{}, 0, 0, probe.Ports{Assignment: r.Ports.Assignment}, probe.IPv6{}
	f.Public, f.Local = nil, nil // each has its own
	return f
}
