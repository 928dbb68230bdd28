package secure

import (
	"crypto/ed25519"
	"crypto/sha256"
	"math/rand/v2"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var testParams = Params{DialID: [16]byte{1, 2, 3}, Peer: "alice", Port: 443}

// testKey returns the identity that goes with name.
func testKey(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte(name))
	return ed25519.NewKeyFromSeed(seed[:])
}

func public(k ed25519.PrivateKey) ed25519.PublicKey { return k.Public().(ed25519.PublicKey) }

// testRandom is randomness that is the same each time.
func testRandom(name string) *rand.ChaCha8 { return rand.NewChaCha8(sha256.Sum256([]byte(name))) }

// testSessions runs a handshake between bob, who dials, and alice, up to where prefaces can be exchanged. It is
// deterministic, so that fuzz seeds stay good.
func testSessions(t testing.TB, p Params) (dialer, listener *Session) {
	t.Helper()
	i, msg1, err := initiate(testRandom("bob"), testKey("bob"), p)
	require.NoError(t, err)
	r, err := respond(testRandom("alice"), testKey("alice"), p, msg1)
	require.NoError(t, err)
	msg2, listener, err := r.Answer(false)
	require.NoError(t, err)
	dialer, err = i.Finish(msg2)
	require.NoError(t, err)
	return dialer, listener
}

// provenSessions is testSessions after a good preface.
func provenSessions(t testing.TB) (dialer, listener *Session) {
	t.Helper()
	dialer, listener = testSessions(t, testParams)
	require.NoError(t, listener.Check(headerOf(t, dialer.Preface(Nonce{1}))))
	return dialer, listener
}

// testConns wraps both ends of a connection under fresh keys.
func testConns(t testing.TB, a, b net.Conn) (dialer, listener *Conn) {
	t.Helper()
	ds, ls := provenSessions(t)
	dialer, err := ds.Conn(a)
	require.NoError(t, err)
	listener, err = ls.Conn(b)
	require.NoError(t, err)
	return dialer, listener
}

// tcpPair returns the two ends of a connection over loopback.
func tcpPair(t testing.TB) (a, b *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	dialed, err := net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	accepted, err := ln.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { dialed.Close(); accepted.Close() })
	return dialed.(*net.TCPConn), accepted.(*net.TCPConn)
}
