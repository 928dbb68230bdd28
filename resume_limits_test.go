package stunt

import (
	"bytes"
	"crypto/ed25519"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt/internal/resume"
	"github.com/gostunt/stunt/internal/secure"
	"github.com/gostunt/stunt/rendezvous"
)

// waiting is a connection without a path that a peer has dialled.
func waiting(peer Peer, n byte) *resumption {
	return &resumption{
		conn: &Conn{peer: peer}, id: resumeID{n, byte(len(peer.ID))},
		stream: resume.New(resume.Config{Timeout: time.Hour}),
	}
}

// TestLostLimits: a peer can't have more than so many connections wait for it
// to come back, nor all peers together.
func TestLostLimits(t *testing.T) {
	var rs resumptions
	one, other := Peer{Key: NewKey().Public().(ed25519.PublicKey)}, Peer{ID: "o", Key: NewKey().Public().(ed25519.PublicKey)}
	for i := range maxLostPerPeer {
		require.False(t, rs.full(waiting(one, byte(i))), "%d", i)
		rs.add(waiting(one, byte(i)))
	}
	require.True(t, rs.full(waiting(one, 0)))
	require.False(t, rs.full(waiting(other, 0)), "another peer has its own")
	for i := range maxLost - maxLostPerPeer {
		p := Peer{Key: NewKey().Public().(ed25519.PublicKey)}
		r := waiting(p, byte(i))
		r.id = resumeID(p.Key)
		rs.add(r)
	}
	require.True(t, rs.full(waiting(other, 0)))
}

// TestFindResumption: only who has dialled a connection, and can name it, finds it.
func TestFindResumption(t *testing.T) {
	var rs resumptions
	peer := Peer{Key: NewKey().Public().(ed25519.PublicKey)}
	r := waiting(peer, 1)
	rs.add(r)
	require.Same(t, r, rs.find(r.id, &rendezvous.Offer{From: peer.Key}))
	require.Nil(t, rs.find(resumeID{2}, &rendezvous.Offer{From: peer.Key}))
	require.Nil(t, rs.find(r.id, &rendezvous.Offer{From: NewKey().Public().(ed25519.PublicKey)}))
	r.dialer = true
	require.Nil(t, rs.find(r.id, &rendezvous.Offer{From: peer.Key}), "we dial that peer")
	rs.remove(r)
	require.Empty(t, rs.list(func(*resumption) bool { return true }))
}

// FuzzOpening holds that what is read of an opening is what was written.
func FuzzOpening(f *testing.F) {
	for _, o := range []opening{
		{msg1: []byte{1}}, {mode: secure.Raw, msg1: []byte{1}}, {resumable: true, msg1: []byte{1}},
		{resumable: true, resumes: resumeID{1}, msg1: []byte{1}},
	} {
		f.Add(o.encode())
	}
	f.Add([]byte{})
	f.Add([]byte{openResumes | openResumable})
	f.Fuzz(func(t *testing.T, b []byte) {
		if o, ok := parseOpening(b); ok && !bytes.Equal(o.encode(), b) {
			t.Fatalf("read %x as %+v", b, o)
		}
	})
}
