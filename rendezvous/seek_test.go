package rendezvous

import (
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// The callee of another server's node is told when the caller's server has what
// was sent to it, and not at all if the caller has given up by then.
func TestOfferIsHeldForTheWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Server{cluster: &cluster{}, dials: dialTable{pendingOut: 99, pendingIn: 99, open: 99}}
		s.cluster.members.heard(&beat{Server: "near"}, time.Now())
		s.cluster.members.heard(&beat{Server: "far"}, time.Now())
		for _, trip := range []time.Duration{70, 40, 90} {
			s.cluster.members.took("near", trip*time.Millisecond)
			s.cluster.members.took("far", trip*time.Second)
		}
		near, far := net.Pipe()
		defer far.Close()
		to := &session{server: s, pass: anything{}, link: newLink(near, near, maxQueue)}
		defer to.link.wait()
		defer to.link.close(net.ErrClosed)
		ring := func(from seat) *dial {
			d := &dial{id: NewDialID(), from: party{seat: from, calls: new(calls)}, to: to.party()}
			require.NoError(t, s.dials.add(d, time.Hour, func(*dial) {}))
			t.Cleanup(func() { d.timer.Stop() })
			s.hold(d, []byte("offer"))
			return d
		}
		read := func(why string) time.Duration {
			began := time.Now()
			require.NoError(t, far.SetReadDeadline(began.Add(time.Minute)))
			var b [5]byte
			_, err := io.ReadFull(far, b[:])
			require.NoError(t, err, why)
			return time.Since(began)
		}
		ring(seat{at: "near"})
		require.Equal(t, 20*time.Millisecond, read("half of the shortest round trip"))
		ring(seat{at: "far"})
		require.Equal(t, maxHold, read("there is an end to it"))
		ring(seat{at: "not heard of"})
		require.Zero(t, read("no way is known"))
		ring(seat{here: &session{}})
		require.Zero(t, read("the caller is here"))

		d := ring(seat{at: "near"})
		require.NotNil(t, s.dials.cancel(d.id, seat{at: "near"}))
		require.NoError(t, far.SetReadDeadline(time.Now().Add(time.Minute)))
		_, err := far.Read(make([]byte, 1))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded, "a caller that has given up")
	})
}
