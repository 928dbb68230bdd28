package rendezvous

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFingerprint(t *testing.T) {
	// As: head -c 32 /dev/zero | sha256sum | xxd -r -p | base32 -w0 | tr A-Z a-z | tr -d =
	require.Equal(t, "mzuhvlpymk6xo3epygfy5h4oeaejofefn3rdhm4qfjmr2dk7fesq", Fingerprint(make(ed25519.PublicKey, 32)))
	id := fingerprintOf(newKey(t))
	require.Len(t, id, fingerprintLen)
	require.True(t, IsFingerprint(id))
	require.NoError(t, ValidID(id))
	require.False(t, IsFingerprint(id[1:]))
	require.False(t, IsFingerprint("1"+id[1:]))
	require.False(t, IsFingerprint(strings.ToUpper(id)))
}

func TestValidID(t *testing.T) {
	for _, id := range []string{"a", "alice", "a-b", "0", "xn--bcher-kva", strings.Repeat("x", 63)} {
		require.NoError(t, ValidID(id), id)
	}
	for _, id := range []string{"", "-a", "a-", "-", "A", "a.b", "a_b", "a b", "ä", "a\x00", strings.Repeat("x", 64)} {
		require.ErrorIs(t, ValidID(id), CodeBadID, "%q", id)
	}
}

func TestCertificate(t *testing.T) {
	key := newKey(t)
	cert, err := Certificate(key)
	require.NoError(t, err)
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	require.NoError(t, err)
	require.Equal(t, key.Public(), leaf.PublicKey)
	require.Equal(t, x509.PureEd25519, leaf.SignatureAlgorithm)
	require.NoError(t, leaf.CheckSignature(leaf.SignatureAlgorithm, leaf.RawTBSCertificate, leaf.Signature))
	require.Empty(t, leaf.Extensions, "a server keeps what is in it")
	_, err = Certificate(nil)
	require.Error(t, err)
}

func TestParseServers(t *testing.T) {
	pin := Pin{1, 2, 3}
	at := netip.MustParseAddrPort
	asHex, asBase64 := hex.EncodeToString(pin[:]), base64.RawURLEncoding.EncodeToString(pin[:])
	for s, want := range map[string]ServerAddr{
		"stunt.example.com":                        {Host: "stunt.example.com", Port: 3478},
		"stunt.example.com:443":                    {Host: "stunt.example.com", Port: 443},
		" 192.0.2.1 ":                              {Host: "192.0.2.1", Port: 3478},
		"192.0.2.1:1#sha256:" + asHex:              {Host: "192.0.2.1", Port: 1, Pin: pin},
		"h#sha256:" + asBase64:                     {Host: "h", Port: 3478, Pin: pin},
		"h#sha256:" + asBase64 + "=":               {Host: "h", Port: 3478, Pin: pin},
		"2001:db8::1":                              {Host: "2001:db8::1", Port: 3478},
		"[2001:db8::1]":                            {Host: "2001:db8::1", Port: 3478},
		"[2001:db8::1]:5#sha256:" + asBase64:       {Host: "2001:db8::1", Port: 5, Pin: pin},
		"h:65535#sha256:" + strings.ToUpper(asHex): {Host: "h", Port: 65535, Pin: pin},

		"h#+192.0.2.2:3479": {Host: "h", Port: 3478, Other: at("192.0.2.2:3479")},
		"h#sha256:" + asBase64 + "+192.0.2.2:1+[2001:db8::2]:2": {Host: "h", Port: 3478, Pin: pin, Other: at("192.0.2.2:1"), Other6: at("[2001:db8::2]:2")},
		"h#sha256:" + asHex + "+:3479":                          {Host: "h", Port: 3478, Pin: pin, Other: at("0.0.0.0:3479"), Other6: at("[::]:3479")},
		"h#+[::]:3479":                                          {Host: "h", Port: 3478, Other6: at("[::]:3479")},
		"h#+0.0.0.0:1+[::]:2":                                   {Host: "h", Port: 3478, Other: at("0.0.0.0:1"), Other6: at("[::]:2")},
	} {
		got, err := ParseServers(s)
		require.NoError(t, err, s)
		require.Equal(t, []ServerAddr{want}, got, s)
		again, err := ParseServers(want.String())
		require.NoError(t, err, want.String())
		require.Equal(t, got, again, "String can be parsed")
	}
	several, err := ParseServers("a, b:1,[::1]#sha256:" + asHex)
	require.NoError(t, err)
	require.Len(t, several, 3)
	require.Equal(t, "[::1]:3478", several[2].HostPort())
	for _, s := range []string{"", ",", "a,", ":1", "a:0", "a:65536", "a:x", "a:", "a b", "a/b", "[::1", "::1]", "[a]", "http://a", "a#", "a#md5:00",
		"a#+", "a#+:", "a#+:0", "a#+b:1", "a#+192.0.2.2", "a#+192.0.2.2:1+", "a#+192.0.2.2:1+192.0.2.3:1", "a#+:1+:1", "a#+:1+[2001:db8::2]:1",
		"a#+224.0.0.1:1", "a#+[fe80::1%eth0]:1", "a#+[::ffff:192.0.2.2]:1", "a#192.0.2.2:1", "a#+:1#sha256:" + asHex, "a#+:1+sha256:" + asHex,
		"a#sha256:", "a#sha256:00", "a#sha256:" + asHex[1:] + "x", "a#sha256:" + strings.Repeat("0", 64), strings.Repeat("a", 254),
		strings.Repeat("a,", maxServers) + "a"} {
		_, err := ParseServers(s)
		require.Error(t, err, "%q", s)
	}
}

func FuzzParseServers(f *testing.F) {
	f.Add("stunt.example.com:443#sha256:AQID,[::1]")
	f.Add("a#sha256:" + strings.Repeat("0f", 32))
	f.Add("a#sha256:" + strings.Repeat("0f", 32) + "+:3479")
	f.Add("a#+192.0.2.2:3479+[2001:db8::2]:3479")
	f.Fuzz(func(t *testing.T, s string) {
		addrs, err := ParseServers(s)
		if err != nil {
			return
		}
		for _, a := range addrs {
			again, err := ParseServers(a.String())
			if err != nil || len(again) != 1 || again[0] != a {
				t.Fatalf("%q became %v and then %v (%v)", s, a, again, err)
			}
		}
	})
}
