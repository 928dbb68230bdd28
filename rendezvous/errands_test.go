package rendezvous

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Each server begins with another one of those that lend, and always with the same.
func TestLenders(t *testing.T) {
	var ms members
	lends := []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:3478")}
	for _, name := range []string{"e", "b", "d", "a"} {
		ms.heard(&beat{Server: name, Lends: lends}, time.Now())
	}
	ms.heard(&beat{Server: "c2"}, time.Now()) // of a version that does not know of it
	for ours, want := range map[string]string{"c": "deab", "0": "abde", "f": "abde", "d1": "eabd"} {
		var got string
		for _, l := range ms.lenders(ours) {
			got += l.Name
			require.Equal(t, lends, l.Endpoints)
		}
		require.Equal(t, want, got)
	}
	ms.heard(&beat{Server: "a"}, time.Now())
	ms.lose(func(x *member) bool { return x.name == "b" })
	require.Len(t, ms.lenders("c"), 2, "what is not lent any more, and who is gone")
}

// join makes a server one of those on a bus, until the test ends.
func join(t *testing.T, s *Server, b Bus) {
	leave, err := s.Join(b)
	require.NoError(t, err)
	t.Cleanup(func() {
		leave()
		s.Close()
	})
}

// wired is a bus to one other server, which hears what it is asked at once.
type wired struct {
	lonely
	hear func([]byte, func([]byte))
}

func (p *wired) Ask(_ string, b []byte, _ time.Duration, done func([]byte, error)) {
	p.hear(b, func(answer []byte) { done(answer, nil) })
}

// An errand is done by who does errands, and its answer comes back; the end of the
// asker's patience is that of the errand.
func TestErrand(t *testing.T) {
	doer := &Server{DoErrand: func(message []byte, answer func([]byte)) {
		if string(message) != "nothing" {
			answer(append([]byte("did "), message...))
		}
	}}
	join(t, doer, lonely{})
	asker := &Server{}
	join(t, asker, &wired{hear: doer.cluster.hear})

	answer, err := asker.Errand(t.Context(), doer.cluster.me, []byte("it"))
	require.NoError(t, err)
	require.Equal(t, "did it", string(answer))
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	_, err = asker.Errand(ctx, doer.cluster.me, []byte("nothing"))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	_, err = asker.Errand(t.Context(), doer.cluster.me, make([]byte, MaxErrand+1))
	require.ErrorIs(t, err, CodeBadMessage)
	_, err = new(Server).Errand(t.Context(), "x", nil)
	require.ErrorIs(t, err, ErrNobody)
}

// Whoever nobody listens for is gone, and lends nothing any more.
func TestErrandToNobody(t *testing.T) {
	s := &Server{}
	join(t, s, lonely{})
	const other = "0123456789abcdef"
	s.cluster.heardBeat(&beat{Server: other, Lends: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:3478")}})
	require.Len(t, s.Lenders(), 1)
	_, err := s.Errand(t.Context(), other, nil)
	require.ErrorIs(t, err, ErrNobody)
	s.Cluster() // after what there was to do
	require.Empty(t, s.Lenders())
}
