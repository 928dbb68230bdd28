package stuntd

import (
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt/probe"
	"github.com/gostunt/stunt/relay"
	"github.com/gostunt/stunt/rendezvous"
)

// startWithAdmin starts a server with an admin listener on loopback.
func startWithAdmin(t *testing.T, cfg Config) (s *Server, admin string) {
	cfg.Admin.Listen = "127.0.0.1:0"
	s = start(t, cfg)
	return s, "http://" + s.AdminAddr().String()
}

// fetch gets a page as an operator does.
func fetch(t *testing.T, url string, change ...func(*http.Request)) (code int, body string) {
	req, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
	require.NoError(t, err)
	for _, f := range change {
		f(req)
	}
	resp, err := web(t).Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(b)
}

// scrape returns the samples at an admin listener, by name and labels as they
// are written there.
func scrape(t *testing.T, admin string) map[string]float64 {
	code, body := fetch(t, admin+"/metrics")
	require.Equal(t, http.StatusOK, code, "%s", body)
	values := make(map[string]float64)
	for line := range strings.Lines(body) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		i := strings.LastIndexByte(line, ' ')
		v, err := strconv.ParseFloat(strings.TrimSpace(line[i:]), 64)
		require.NoError(t, err, "%s", line)
		values[line[:i]] = v
	}
	return values
}

// TestMetrics: what nodes do is what the metrics say, and they are named as
// Prometheus wants it.
func TestMetrics(t *testing.T) {
	s, admin := startWithAdmin(t, Config{Limits: Limits{IDsPerKey: 1}})
	const eim, random = "eim/preserving/apdf/silence", "apdm/random/apdf/silence"
	offers := make(chan *rendezvous.Offer, 8)
	bob := client(t, s, rendezvous.ClientConfig{OnOffer: func(o *rendezvous.Offer) { offers <- o }})
	require.NoError(t, bob.Register(t.Context(), "bob"))
	require.ErrorIs(t, bob.Register(t.Context(), "too-many"), rendezvous.CodeLimit)
	require.NoError(t, bob.Update(rendezvous.Info{Kind: random}))
	// Whatever bob has told before it is answered is in force.
	_, err := bob.Lookup(t.Context(), "bob")
	require.NoError(t, err)
	alice := client(t, s, rendezvous.ClientConfig{})
	dial := func(answer rendezvous.Answer, out rendezvous.Outcome) {
		call, err := alice.Dial(t.Context(), rendezvous.DialRequest{Peer: "bob", Kind: eim})
		require.NoError(t, err)
		require.NoError(t, (<-offers).Answer(answer))
		<-call.Answer
		call.Conclude(out)
	}
	dial(rendezvous.Answer{}, rendezvous.Outcome{OK: true, Method: "guessed-port", Elapsed: 120 * time.Millisecond})
	dial(rendezvous.Answer{}, rendezvous.Outcome{OK: true, Method: "relay", Elapsed: 700 * time.Millisecond})
	dial(rendezvous.Answer{}, rendezvous.Outcome{OK: true, Method: "invented-by-me", Elapsed: 1000 * time.Hour})
	dial(rendezvous.Answer{}, rendezvous.Outcome{Text: "no path"})
	dial(rendezvous.Answer{Code: rendezvous.CodeRefused}, rendezvous.Outcome{})
	call, err := alice.Dial(t.Context(), rendezvous.DialRequest{Peer: "nobody"})
	require.NoError(t, err)
	<-call.Done
	_, err = alice.Lookup(t.Context(), "bob") // answered after all that alice has said
	require.NoError(t, err)
	b, err := probe.Bind(t.Context(), probe.BindConfig{Server: s.Addrs()[0]})
	require.NoError(t, err)
	defer b.Close()

	got := scrape(t, admin)
	for sample, want := range map[string]float64{
		`stuntd_sessions`: 2,
		`stuntd_names`:    1,
		`stuntd_session_requests_total{code="ok"}`:                                                2,
		`stuntd_registrations_total{code="ok"}`:                                                   1,
		`stuntd_registrations_total{code="limit_reached"}`:                                        1,
		`stuntd_limit_hits_total{limit="ids_per_key"}`:                                            1,
		`stuntd_limit_hits_total{limit="half_open"}`:                                              0,
		`stuntd_dials_total{code="ok"}`:                                                           4,
		`stuntd_dials_total{code="refused_by_peer"}`:                                              1,
		`stuntd_dials_total{code="unknown_peer"}`:                                                 1,
		`stuntd_dial_answer_seconds_count`:                                                        4,
		`stuntd_dial_outcomes_total{method="guessed-port",result="ok"}`:                           1,
		`stuntd_dial_outcomes_total{method="relay",result="ok"}`:                                  1,
		`stuntd_dial_outcomes_total{method="other",result="ok"}`:                                  1,
		`stuntd_dial_outcomes_total{method="",result="failed"}`:                                   1,
		`stuntd_dial_nat_pairs_total{callee_nat="apdm-random",caller_nat="eim",result="direct"}`:  2,
		`stuntd_dial_nat_pairs_total{callee_nat="apdm-random",caller_nat="eim",result="relayed"}`: 1,
		`stuntd_dial_nat_pairs_total{callee_nat="apdm-random",caller_nat="eim",result="failed"}`:  1,
		`stuntd_dial_connect_seconds_sum{method="guessed-port"}`:                                  .12,
		`stuntd_dial_connect_seconds_sum{method="other"}`:                                         60, // not a thousand hours
		`stuntd_connections`:                            3,
		`stuntd_connections_total{protocol="session"}`:  2,
		`stuntd_connections_total{protocol="stun"}`:     1,
		`stuntd_stun_requests_total{result="answered"}`: 1,
		`stuntd_relay_pairs`:                            0,
	} {
		v, there := got[sample]
		require.True(t, there, "%s is not there", sample)
		require.Equal(t, want, v, "%s", sample)
	}
	require.NotContains(t, got, "stuntd_certificate_expiry_timestamp_seconds", "nobody minds the end of a pinned one")
	require.Contains(t, got, "go_goroutines")
	if runtime.GOOS == "linux" {
		require.Contains(t, got, "process_open_fds")
	}
	lint(t, admin)
}

// lint holds the names, units and helps against Prometheus's conventions.
func lint(t *testing.T, admin string) {
	_, body := fetch(t, admin+"/metrics")
	var ours strings.Builder // Go's own are not ours to name
	for line := range strings.Lines(body) {
		if strings.Contains(line, "stuntd_") {
			ours.WriteString(line)
		}
	}
	require.Greater(t, strings.Count(ours.String(), "# TYPE "), 20)
	problems, err := promlint.New(strings.NewReader(ours.String())).Lint()
	require.NoError(t, err)
	require.Empty(t, problems)
}

// TestMetricsOfRelay: pairs and bytes are those that were carried.
func TestMetricsOfRelay(t *testing.T) {
	s, admin := startWithAdmin(t, Config{})
	dial := introduce(t, s)
	at := s.Addrs()[0].String()
	a, b := stream(t, at, dial.dialer), stream(t, at, dial.listener)
	require.NoError(t, relay.ReadStatus(a))
	require.NoError(t, relay.ReadStatus(b))
	_, err := a.Write(make([]byte, 5000))
	require.NoError(t, err)
	_, err = io.ReadFull(b, make([]byte, 5000))
	require.NoError(t, err)
	c := stream(t, at, dial.dialer)
	require.ErrorIs(t, relay.ReadStatus(c), relay.Used)
	// Bytes count once they are passed on, which who reads them may be ahead of.
	require.Eventually(t, func() bool { return s.RelayStats().Bytes == 5000 }, 10*time.Second, time.Millisecond)
	got := scrape(t, admin)
	require.Equal(t, 1.0, got["stuntd_relay_pairs"])
	require.Equal(t, 1.0, got["stuntd_relay_pairs_total"])
	require.Equal(t, 5000.0, got["stuntd_relay_bytes_total"])
	require.Equal(t, 1.0, got[`stuntd_relay_refused_total{reason="used"}`])
}

// TestMetricsOfLimits: a connection that is turned away is counted by what it
// was over.
func TestMetricsOfLimits(t *testing.T) {
	s, admin := startWithAdmin(t, Config{Limits: Limits{ConnsPerSource: 1}})
	dial(t, s.Addrs()[0].String())
	require.Eventually(t, func() bool { return s.mux.door.inside().conns == 1 }, 5*time.Second, time.Millisecond)
	refused(t, s.Addrs()[0].String())
	got := scrape(t, admin)
	require.Equal(t, 1.0, got[`stuntd_limit_hits_total{limit="connections_per_source"}`])
	require.Equal(t, 1.0, got[`stuntd_connections_half_open`])
	for _, l := range []*overLimit{errConns, errConnsSource, errConnsSite, errHalfOpenSite, errRateSource, errRateSite, errHalfOpen, errHalfOpenSource, errHandshakes, errMemory} {
		require.Contains(t, got, `stuntd_limit_hits_total{limit="`+l.name+`"}`, "it is not one of the others")
	}
}

// TestCertificateExpiry: that of a certificate that clients verify is told.
func TestCertificateExpiry(t *testing.T) {
	cert, key := writeCert(t, t.TempDir(), time.Now())
	_, admin := startWithAdmin(t, Config{CertFile: cert, KeyFile: key})
	require.Greater(t, scrape(t, admin)["stuntd_certificate_expiry_timestamp_seconds"], float64(time.Now().Unix()))
}

// TestPublicPortShowsNothing: what the operator sees is not where strangers are.
func TestPublicPortShowsNothing(t *testing.T) {
	s, _ := startWithAdmin(t, Config{})
	for _, path := range []string{"/", "/metrics", "/debug/pprof/", "/assets/page.css"} {
		code, _ := fetch(t, "https://"+s.Addrs()[0].String()+path)
		require.Equal(t, http.StatusNotFound, code, "%s", path)
	}
}

// TestAdminOnLoopback: a browser on this machine is let in, but not a page from
// elsewhere whose name was made to point here.
func TestAdminOnLoopback(t *testing.T) {
	_, admin := startWithAdmin(t, Config{})
	for _, path := range []string{"/", "/metrics", "/healthz", "/debug/pprof/", "/debug/pprof/goroutine?debug=1", "/assets/page.js"} {
		code, body := fetch(t, admin+path)
		require.Equal(t, http.StatusOK, code, "%s: %s", path, body)
	}
	code, body := fetch(t, admin+"/metrics", func(r *http.Request) { r.Host = "evil.example.com" })
	require.Equal(t, http.StatusMisdirectedRequest, code)
	require.NotContains(t, body, "stuntd_")
	code, _ = fetch(t, admin+"/metrics", func(r *http.Request) { r.Host = "localhost:1234" })
	require.Equal(t, http.StatusOK, code)
	_, port, err := net.SplitHostPort(strings.TrimPrefix(admin, "http://"))
	require.NoError(t, err)
	code, _ = fetch(t, admin+"/healthz", func(r *http.Request) { r.Host = "[::1]:" + port })
	require.Equal(t, http.StatusOK, code)
}

// TestAdminForOthers: on an address that others reach it speaks TLS, and asks
// for the token.
func TestAdminForOthers(t *testing.T) {
	const token = "0123456789abcdef0123456789abcdef"
	file := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(file, []byte(token+"\n"), 0o600))
	s := start(t, Config{Admin: Admin{Listen: "0.0.0.0:0", TokenFile: file}})
	at := net.JoinHostPort("127.0.0.1", strconv.Itoa(int(s.AdminAddr().Port())))
	bearer := func(token string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) }
	}
	for _, path := range []string{"/", "/metrics", "/healthz", "/debug/pprof/", "/assets/page.css"} {
		url := "https://" + at + path
		code, body := fetch(t, url)
		require.Equal(t, http.StatusUnauthorized, code, "%s: %s", path, body)
		code, _ = fetch(t, url, bearer(token[1:]))
		require.Equal(t, http.StatusUnauthorized, code, path)
		code, _ = fetch(t, url, bearer(token))
		require.Equal(t, http.StatusOK, code, path)
		code, _ = fetch(t, url, func(r *http.Request) { r.SetBasicAuth("anybody", token) })
		require.Equal(t, http.StatusOK, code, "as browsers do: %s", path)
		code, _ = fetch(t, url, bearer(token), func(r *http.Request) { r.Host = "stunt.example.com" })
		require.Equal(t, http.StatusOK, code, "with a token any name will do")
	}
	code, _ := fetch(t, "http://"+at+"/healthz", bearer(token))
	require.Equal(t, http.StatusBadRequest, code, "the token does not travel in clear")
}

func TestAdminConfig(t *testing.T) {
	short := filepath.Join(t.TempDir(), "short")
	require.NoError(t, os.WriteFile(short, []byte("secret"), 0o600))
	for _, tt := range []struct {
		admin Admin
		want  string
	}{
		{Admin{Listen: "nowhere"}, "not host:port"},
		{Admin{Listen: ":9478"}, "needs a token"},
		{Admin{Listen: "192.0.2.1:9478"}, "needs a token"},
		{Admin{Listen: "example.com:9478"}, "needs a token"},
		{Admin{TokenFile: short}, "without an admin address"},
		{Admin{Listen: "127.0.0.1:0", TokenFile: short}, "6 characters"},
		{Admin{Listen: "127.0.0.1:0", TokenFile: "/nonexistent"}, "/nonexistent"},
	} {
		_, err := Start(Config{Listen: []string{"127.0.0.1:0"}, StateDir: t.TempDir(), Admin: tt.admin})
		require.ErrorContains(t, err, tt.want)
	}
}

// TestMetricsOfCluster: the others are there, and where there are none by
// configuration nothing says that one is missing.
func TestMetricsOfCluster(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(secret, []byte("0123456789abcdef0123456789abcdef"), 0o600))
	cluster := Cluster{Name: "test", SecretFile: secret, Listen: "127.0.0.1:0"}
	a, admin := startWithAdmin(t, Config{Cluster: cluster})
	require.Zero(t, scrape(t, admin)["stuntd_cluster_members"])
	_, page := fetch(t, admin+"/")
	require.Contains(t, page, "No other server is there")

	cluster.Routes = []string{a.bus.Addr().String()}
	b := start(t, Config{Cluster: cluster})
	knows(t, a, 1)
	require.Equal(t, 1.0, scrape(t, admin)["stuntd_cluster_members"])
	_, page = fetch(t, admin+"/")
	require.Contains(t, page, b.Cluster().Name)

	_, alone := startWithAdmin(t, Config{})
	require.NotContains(t, scrape(t, alone), "stuntd_cluster_members")
	_, page = fetch(t, alone+"/")
	require.NotContains(t, page, "Cluster")
}
