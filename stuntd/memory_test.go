package stuntd

import (
	"log/slog"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt/probe"
	"github.com/gostunt/stunt/relay"
	"github.com/gostunt/stunt/rendezvous"
)

// uses has a server take percent of its memory for used.
func (m *memory) uses(percent uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.used, m.at = func() uint64 { return m.limit / 100 * percent }, time.Time{}
}

// With ever less memory a server refuses ever more of what is new, in this
// order, and serves what is there.
func TestShedding(t *testing.T) {
	s := start(t, Config{Limits: Limits{Memory: 1000, HalfOpen: fewer}})
	memory, addr := s.mux.door.memory, s.Addrs()[0]
	memory.uses(1)
	offers := make(chan *rendezvous.Offer, 8)
	bob := client(t, s, rendezvous.ClientConfig{OnOffer: func(o *rendezvous.Offer) { offers <- o }})
	require.NoError(t, bob.Register(t.Context(), "bob"))
	alice := client(t, s, rendezvous.ClientConfig{})
	dial := func() (*rendezvous.Call, *rendezvous.Offer) {
		call, err := alice.Dial(t.Context(), rendezvous.DialRequest{Peer: "bob"})
		require.NoError(t, err)
		return call, <-offers
	}
	call, offer := dial()
	mine, theirs := (<-call.Ringing).Ticket, offer.Ticket
	bind := func() error {
		b, err := probe.Bind(t.Context(), probe.BindConfig{Server: addr})
		if err == nil {
			b.Close()
		}
		return err
	}
	newcomer := func() error {
		var why error
		t.Run("newcomer", func(t *testing.T) { // its end is the client's
			told := make(chan error, 16)
			c := client(t, s, rendezvous.ClientConfig{OnDown: func(err error) { told <- err }, OnSession: func(rendezvous.Welcome, net.Conn) { told <- nil }})
			why = <-told
			require.NotNil(t, c)
		})
		return why
	}

	memory.uses(79)
	require.NoError(t, bind())

	memory.uses(80)
	idle := lastPlace(t, s)
	refused(t, addr.String()) // of eight places one is left, and taken
	idle.Close()
	require.Eventually(t, func() bool { return s.mux.door.inside().halfOpen == 0 }, 10*time.Second, time.Millisecond)
	require.NoError(t, bind(), "what comes is served all the same")

	memory.uses(85)
	require.Error(t, bind())
	require.NoError(t, newcomer())

	memory.uses(90)
	require.ErrorIs(t, newcomer(), rendezvous.CodeBusy, "told, and told to come back")
	waiting := stream(t, addr.String(), mine)
	require.Eventually(t, func() bool { return s.RelayStats().Waiting == 1 }, 10*time.Second, time.Millisecond)

	memory.uses(95)
	require.ErrorIs(t, relay.ReadStatus(stream(t, addr.String(), theirs)), relay.Busy)

	memory.uses(100)
	refused(t, addr.String())
	again, o := dial()
	<-again.Ringing
	require.NoError(t, o.Answer(rendezvous.Answer{}), "those who are here dial on")
	<-again.Answer

	memory.uses(50)
	require.NoError(t, relay.ReadStatus(stream(t, addr.String(), theirs)), "and so does everybody, when there is room")
	require.NoError(t, relay.ReadStatus(waiting))
	require.NoError(t, newcomer())
	require.NoError(t, bind())
}

// lastPlace takes the one half-open place that a server under strain has.
func lastPlace(t *testing.T, s *Server) net.Conn {
	require.Eventually(t, func() bool { return s.mux.door.inside().halfOpen == 0 }, 10*time.Second, time.Millisecond)
	c := dial(t, s.Addrs()[0].String())
	require.Eventually(t, func() bool { return s.mux.door.inside().halfOpen == 1 }, 10*time.Second, time.Millisecond)
	return c
}

func TestMemoryInUse(t *testing.T) {
	before := inUse()
	require.Greater(t, before, uint64(1<<20))
	block := make([]byte, 64<<20)
	for i := 0; i < len(block); i += 4096 {
		block[i] = 1
	}
	require.Greater(t, inUse(), before+32<<20, "what is taken is seen")
	runtime.KeepAlive(block)
	require.Equal(t, calm, (*memory)(nil).strain())
	require.Equal(t, calm, newMemory(0, slog.New(slog.DiscardHandler)).strain(), "no limit")
	require.Equal(t, nothing, newMemory(1, slog.New(slog.DiscardHandler)).strain())
	if runtime.GOOS == "linux" {
		require.Greater(t, Limits{}.memory(), int64(1<<20), "a machine has some")
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]size{"0": 0, "17": 17, "1k": 1 << 10, "512M": 512 << 20, "3G": 3 << 30, "1536M": 1536 << 20} {
		var s size
		require.NoError(t, s.Set(text))
		require.Equal(t, want, s)
		var back size
		if s != 0 {
			require.NoError(t, back.Set(s.String()))
			require.Equal(t, s, back)
		}
	}
	for _, text := range []string{"", "M", "-1", "1.5G", "1T", "9999999999G", "1 M"} {
		var s size
		require.Error(t, s.Set(text), text)
	}
}
