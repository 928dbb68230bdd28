package probe

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// full is a report with every field set.
func full() *Report {
	return &Report{
		Version:        1,
		Time:           time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC),
		Public:         []netip.Addr{netip.MustParseAddr("203.0.113.7"), netip.MustParseAddr("203.0.113.8")},
		Local:          []netip.Addr{netip.MustParseAddr("192.168.1.5")},
		Mapping:        APDM,
		PortPreserving: No,
		Delta:          2,
		Samples:        7,
		Ports:          Ports{Assignment: Sequential, Drift: 4.5, Confidence: 0.9, Parity: No, Contiguity: No, Pooling: Arbitrary, Pool: 2},
		Filtering:      APDF,
		Unsolicited:    RST,
		UnsolicitedMS:  21,
		OnRST:          Closes,
		OnICMP:         Keeps,
		Hairpin:        No,
		Path:           Path{Hops: 12, NATs: 2, LastNAT: 3, TTL: 4, SeqPreserved: Yes},
		LifetimeS:      300,
		Ambiguous:      []string{"mapping ADM or APDM: the server has one port"},
		IPv6: IPv6{
			Global:        Yes,
			Public:        netip.MustParseAddr("2001:db8::5"),
			Mapping:       NoNAT,
			Filtering:     APDF,
			Unsolicited:   Silence,
			UnsolicitedMS: 3000,
		},
	}
}

func TestReportGolden(t *testing.T) {
	r := full()
	want := `{"version":1,"time":"2026-03-01T12:00:00Z","public":["203.0.113.7","203.0.113.8"],` +
		`"mapping":"address-and-port-dependent","port_preserving":"no","delta":2,"samples":7,` +
		`"ports":{"assignment":"sequential","drift":4.5,"confidence":0.9,"parity":"no","contiguity":"no","pooling":"arbitrary","pool":2},` +
		`"filtering":"address-and-port-dependent","unsolicited":"rst","unsolicited_ms":21,"on_rst":"closes","on_icmp":"keeps",` +
		`"hairpin":"no","path":{"hops":12,"nats":2,"last_nat":3,"ttl":4,"seq_preserved":"yes"},"lifetime_s":300,"ambiguous":["mapping ADM or APDM: the server has one port"],` +
		`"ipv6":{"global":"yes","public":"2001:db8::5","mapping":"none","filtering":"address-and-port-dependent",` +
		`"unsolicited":"silence","unsolicited_ms":3000}}`
	require.Equal(t, want, string(r.Encode()), "the names are stable, and no private address is in the wire form")

	got, err := DecodeReport(r.Encode())
	require.NoError(t, err)
	r.Local = nil
	require.Equal(t, r, got)

	require.Equal(t, `{"version":1}`, string((&Report{Version: 1}).Encode()), "what is unknown takes no room")
}

func TestReportJSONKeepsLocal(t *testing.T) {
	b, err := json.Marshal(full())
	require.NoError(t, err)
	var got Report
	require.NoError(t, json.Unmarshal(b, &got))
	require.Equal(t, full(), &got)
}

func TestEncodeFits(t *testing.T) {
	r := full()
	for range 20 {
		r.Public = append(r.Public, netip.MustParseAddr("203.0.113.200"))
		r.Ambiguous = append(r.Ambiguous, strings.Repeat("x", maxNote))
	}
	b := r.Encode()
	require.LessOrEqual(t, len(b), MaxReport)
	got, err := DecodeReport(b)
	require.NoError(t, err)
	require.Equal(t, r.Mapping, got.Mapping)
	require.NotEmpty(t, got.Ambiguous)

	r.Time = time.Date(12000, 1, 1, 0, 0, 0, 0, time.UTC)
	r.Public = []netip.Addr{netip.MustParseAddr("fe80::1%" + strings.Repeat("z", 2*MaxReport))}
	require.LessOrEqual(t, len(r.Encode()), MaxReport, "whatever is in it")
}

func TestDecodeReportRefuses(t *testing.T) {
	for name, in := range map[string]string{
		"empty":             ``,
		"not JSON":          `{`,
		"trailing":          `{"version":1}{}`,
		"no version":        `{}`,
		"a null":            `null`,
		"too long":          `{"version":1,"x":"` + strings.Repeat("x", MaxReport) + `"}`,
		"multicast":         `{"version":1,"public":["224.0.0.1"]}`,
		"unspecified":       `{"version":1,"public":["0.0.0.0"]}`,
		"mapped":            `{"version":1,"public":["::ffff:1.2.3.4"]}`,
		"a zone":            `{"version":1,"ipv6":{"public":"fe80::1%eth0"}}`,
		"IPv6 where IPv4":   `{"version":1,"public":["2001:db8::1"]}`,
		"IPv4 where IPv6":   `{"version":1,"ipv6":{"public":"1.2.3.4"}}`,
		"nine addresses":    `{"version":1,"public":["1.1.1.1","1.1.1.1","1.1.1.1","1.1.1.1","1.1.1.1","1.1.1.1","1.1.1.1","1.1.1.1","1.1.1.1"]}`,
		"delta":             `{"version":1,"delta":5000}`,
		"range":             `{"version":1,"ports":{"lo":2,"hi":1}}`,
		"half a range":      `{"version":1,"ports":{"hi":1}}`,
		"drift":             `{"version":1,"ports":{"drift":1e9}}`,
		"confidence":        `{"version":1,"ports":{"confidence":1.5}}`,
		"pool":              `{"version":1,"ports":{"pool":-1}}`,
		"hops":              `{"version":1,"path":{"ttl":256}}`,
		"lifetime":          `{"version":1,"lifetime_s":-1}`,
		"samples":           `{"version":1,"samples":-1}`,
		"ms":                `{"version":1,"unsolicited_ms":60001}`,
		"ipv6 ms":           `{"version":1,"ipv6":{"unsolicited_ms":-1}}`,
		"terminal escape":   `{"version":1,"ambiguous":["\u001b[2J"]}`,
		"a long note":       `{"version":1,"ambiguous":["` + strings.Repeat("x", maxNote+1) + `"]}`,
		"no plausible year": `{"version":1,"time":"9999-12-31T23:59:59-01:00"}`,
	} {
		t.Run(name, func(t *testing.T) {
			_, err := DecodeReport([]byte(in))
			require.Error(t, err)
		})
	}
}

func TestDecodeReportFromTheFuture(t *testing.T) {
	r, err := DecodeReport([]byte(`{"version":2,"mapping":"quantum","filtering":"open","more":[1]}`))
	require.NoError(t, err)
	require.Equal(t, &Report{Version: 2, Filtering: Open}, r, "what is not known is unknown")
}

func TestKindNames(t *testing.T) {
	require.Equal(t, "unknown", Mapping(99).String())
	for _, v := range []fmt.Stringer{MappingUnknown, FilteringUnknown, ReplyUnknown, EffectUnknown, Unknown} {
		require.Equal(t, "unknown", v.String())
	}
	for i := range mappingNames {
		var m Mapping
		b, _ := Mapping(i).MarshalText()
		require.NoError(t, m.UnmarshalText(b))
		require.Equal(t, Mapping(i), m)
	}
}

func FuzzDecodeReport(f *testing.F) {
	f.Add(full().Encode())
	f.Add([]byte(`{"version":1}`))
	f.Add([]byte(`{"version":1,"time":"9999-12-31T23:59:59-01:00","public":["::"]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := DecodeReport(b)
		if err != nil {
			return
		}
		again, err := DecodeReport(r.Encode())
		if err != nil {
			t.Fatalf("its own encoding: %v", err)
		}
		if a, b := string(r.Encode()), string(again.Encode()); a != b {
			t.Fatalf("%s became %s", a, b)
		}
		if r.Summary() == "" || len(r.Verdict()) == 0 {
			t.Fatal("no words for it")
		}
	})
}
