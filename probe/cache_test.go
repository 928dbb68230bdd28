package probe

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt/internal/sock"
	"github.com/gostunt/stunt/natlab"
	"github.com/gostunt/stunt/natlab/nat"
)

// A report is used again on the same network, after a test that it still
// holds; a network that only looks the same is noticed.
func TestRunCached(t *testing.T) {
	t.Parallel()
	lab := natlab.Start(t, natlab.Config{Seed: 8, SamePrivate: true})
	server, _ := startIn(t, lab)
	config := func(h *natlab.Host) Config { return Config{Net: &sock.Net{Open: h.Do}, Server: server} }
	home1 := config(lab.Host("a", lab.NAT("one", nil, nat.Config{}, home), natlab.Link{}))
	home2 := config(lab.Host("b", lab.NAT("two", nil, nat.Config{Mapping: nat.APDM, Assignment: nat.Random}, home), natlab.Link{}))
	cache := CacheConfig{Dir: filepath.Join(t.TempDir(), "new"), Identity: "alice/../key"}

	first, err := RunCached(t.Context(), home1, cache)
	require.NoError(t, err)
	require.Equal(t, EIM, first.Mapping)
	files, err := os.ReadDir(cache.Dir)
	require.NoError(t, err)
	require.Len(t, files, 1, "no temporary file is left")

	var early *Report
	again := home1
	again.OnMapping = func(r *Report) { early = r }
	second, err := RunCached(t.Context(), again, cache)
	require.NoError(t, err)
	require.True(t, second.Time.Equal(first.Time), "it was not measured anew")
	require.Equal(t, first.Encode(), second.Encode())
	require.Equal(t, first.Encode(), early.Encode(), "a caller plans with it as with a new one")

	third, err := RunCached(t.Context(), home2, cache)
	require.NoError(t, err)
	require.Equal(t, []any{APDM, Random}, []any{third.Mapping, third.Ports.Assignment}, "the other home has the same private addresses")
	e, err := cache.load()
	require.NoError(t, err)
	require.Equal(t, third.Encode(), e.Report.Encode(), "what was found last is kept")
	require.ErrorContains(t, confirm(t.Context(), withLog(home1), e.Report), "the public address is now")

	require.Equal(t, otherOf(server), e.Other)
	e.Other = netip.AddrPortFrom(e.Other.Addr().Next(), 1) // where nobody is, whoever wrote the file
	require.NoError(t, cache.save(e))
	fourth, err := RunCached(t.Context(), home2, cache)
	require.NoError(t, err)
	require.Equal(t, third.Encode(), fourth.Encode(), "the server is asked, and believed")

	home2.Lifetime = time.Second
	fifth, err := RunCached(t.Context(), home2, cache)
	require.NoError(t, err)
	require.Equal(t, 1, fifth.LifetimeS, "what was not asked for before")
	home2.Lifetime = 0
	sixth, err := RunCached(t.Context(), home2, cache)
	require.NoError(t, err)
	require.Equal(t, fifth.Encode(), sixth.Encode(), "and is kept then")

	require.NoError(t, cache.Forget())
	require.NoError(t, cache.Forget(), "may be repeated")
	_, err = cache.load()
	require.ErrorIs(t, err, os.ErrNotExist)
}

// The server's other endpoints are taken from the file only as far as from the
// server itself.
func TestRemind(t *testing.T) {
	at := netip.MustParseAddrPort
	cfg := Config{Server: at("192.0.2.1:3478"), Server6: at("[2001:db8::1]:3478")}
	here := network{Server: cfg.Server, Server6: cfg.Server6}
	e := entry{Network: here, Other: at("192.168.1.1:22"), Other6: at("[fd00::1]:22")}
	e.remind(&cfg)
	require.Equal(t, []netip.AddrPort{{}, {}}, []netip.AddrPort{cfg.Other, cfg.Other6}, "no way into our own network")
	e = entry{Other: at("192.0.2.2:3479"), Other6: at("[2001:db8::2]:3479")}
	e.remind(&cfg)
	require.Equal(t, []netip.AddrPort{{}, {}}, []netip.AddrPort{cfg.Other, cfg.Other6}, "they are another server's")
	e.Network = here
	e.remind(&cfg)
	require.Equal(t, []netip.AddrPort{e.Other, e.Other6}, []netip.AddrPort{cfg.Other, cfg.Other6})
}

// A server that has lost its other address, or has one now, has nobody measured
// anew who is behind the same NAT.
func TestFits(t *testing.T) {
	local := netip.MustParseAddrPort("192.168.1.5:40000")
	for _, tt := range []struct {
		port, addr string // beside 5000 at the server itself
		fits       []Mapping
	}{
		{"5000", "5000", []Mapping{EIM}},
		{"5000", "5001", []Mapping{ADM}},
		{"5001", "5002", []Mapping{APDM, SessionDependent}},
		{"5000", "", []Mapping{EIM, ADM}},
		{"5001", "", []Mapping{APDM, SessionDependent}},
		{"", "5000", []Mapping{EIM}},
		{"", "5001", []Mapping{ADM, APDM, SessionDependent}},
		{"", "", []Mapping{EIM, ADM, APDM, SessionDependent}},
	} {
		f := seen{local: local, first: addr("5000"), port: addr(tt.port), addr: addr(tt.addr)}
		now, _ := f.judge(false)
		for _, had := range []Mapping{NoNAT, EIM, ADM, APDM, SessionDependent} {
			require.Equal(t, slices.Contains(tt.fits, had), f.fits(had, now), "%q, %q: %v was found before", tt.port, tt.addr, had)
		}
	}
}

func withLog(c Config) Config {
	c.Logger = new(Server).logger()
	return c
}

func TestUsable(t *testing.T) {
	now := time.Now()
	here := network{Server: netip.MustParseAddrPort("192.0.2.1:3478"), Subnets: []netip.Prefix{netip.MustParsePrefix("192.168.1.0/24")}}
	for _, tt := range []struct {
		name   string
		change func(e *entry, c *CacheConfig)
		why    string // empty: usable
	}{
		{"the same", func(*entry, *CacheConfig) {}, ""},
		{"another identity", func(_ *entry, c *CacheConfig) { c.Identity = "bob" }, "another identity's"},
		{"another format", func(e *entry, _ *CacheConfig) { e.Version++ }, "another version"},
		{"another report", func(e *entry, _ *CacheConfig) { e.Report.Version++ }, "another version"},
		{"another server", func(e *entry, _ *CacheConfig) { e.Network.Server = netip.MustParseAddrPort("192.0.2.2:3478") }, "network is another"},
		{"another subnet", func(e *entry, _ *CacheConfig) {
			e.Network.Subnets = []netip.Prefix{netip.MustParsePrefix("192.168.2.0/24")}
		}, "network is another"},
		{"another gateway", func(e *entry, _ *CacheConfig) { e.Network.Gateway = netip.MustParseAddr("192.168.1.254") }, "network is another"},
		{"yesterday's", func(e *entry, _ *CacheConfig) { e.Report.Time = now.Add(-25 * time.Hour) }, "too old"},
		{"yesterday's is fine", func(e *entry, c *CacheConfig) { e.Report.Time, c.MaxAge = now.Add(-25*time.Hour), -1 }, ""},
		{"tomorrow's", func(e *entry, _ *CacheConfig) { e.Report.Time = now.Add(time.Hour) }, "too old"},
		{"nothing in it", func(e *entry, _ *CacheConfig) { e.Report.Mapping = MappingUnknown }, "does not say much"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := entry{Version: cacheVersion, Identity: "alice", Network: here, Report: &Report{Version: ReportVersion, Time: now, Mapping: EIM}}
			c := CacheConfig{Identity: "alice"}
			tt.change(&e, &c)
			err := e.usable(here, c, now)
			if tt.why == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, tt.why)
			}
		})
	}
}

// Without a network there is no report, and a broken file is no obstacle.
func TestRunCachedFails(t *testing.T) {
	dir := t.TempDir()
	cache := CacheConfig{Dir: dir, Identity: "alice"}
	require.NoError(t, os.WriteFile(cache.path(), []byte("{"), 0o600))
	broken := &sock.Net{Open: func(func() error) error { return errors.New("no network") }}
	_, err := RunCached(t.Context(), Config{Net: broken, Server: sock.Loopback(1)}, cache)
	require.ErrorContains(t, err, "no network")

	at := start(t, new(Server), "127.0.0.1:0", "127.0.0.1:1", "127.0.0.2:0", "127.0.0.2:1")
	cache.Dir = filepath.Join(cache.path(), "below a file") // nothing can be kept there
	r, err := RunCached(t.Context(), Config{Server: at[0]}, cache)
	require.NoError(t, err)
	require.Equal(t, NoNAT, r.Mapping)

	ctx, cancel := context.WithCancel(t.Context())
	cut := Config{Server: at[0], OnMapping: func(*Report) { cancel() }}
	cache = CacheConfig{Dir: dir, Identity: "bob"}
	_, err = RunCached(ctx, cut, cache)
	require.ErrorIs(t, err, context.Canceled)
	_, err = cache.load()
	require.ErrorIs(t, err, os.ErrNotExist, "half a report is not kept for a day")
}

func FuzzDecodeEntry(f *testing.F) {
	good, err := json.Marshal(entry{Version: 1, Identity: "alice", Other: sock.Loopback(1), Report: full()})
	require.NoError(f, err)
	f.Add(good)
	f.Add([]byte(`{"report":{"version":1}}`))
	f.Add([]byte(`{"report":null,"network":{"subnets":["10.0.0.0/8"],"gateway":""}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := decodeEntry(b)
		if err != nil {
			return
		}
		if _, err := DecodeReport(e.Report.Encode()); err != nil {
			t.Fatal(err)
		}
	})
}
