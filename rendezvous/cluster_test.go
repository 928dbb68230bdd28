package rendezvous

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A lonely bus has nobody else on it.
type lonely struct{}

func (lonely) Listen(string, func([]byte, func([]byte))) (func(), error) { return func() {}, nil }
func (lonely) Send(string, []byte) error                                 { return nil }
func (lonely) Ask(_ string, _ []byte, _ time.Duration, done func([]byte, error)) {
	done(nil, ErrNobody)
}

// What makes all servers work counts for more than what one does.
func TestNamesCostMoreInACluster(t *testing.T) {
	met := make(chan string, 100)
	srv := &Server{Limits: Limits{MessageRate: 10}, Trace: &Trace{Limited: func(name string) {
		select {
		case met <- name:
		default:
		}
	}}}
	leave, err := srv.Join(lonely{})
	require.NoError(t, err)
	t.Cleanup(leave)
	p := serve(t, srv).peer(t, newKey(t))
	for i := range 6 { // of 40 in a burst, each is eight
		p.send(&register{Ref: uint32(i + 1), ID: "alice"})
		require.Equal(t, uint32(i+1), read[*registered](p).Ref)
	}
	require.Equal(t, limitMessageRate, receive(t, met, "the sixth is one too many"))
}
