package punch

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// moving is pair for a connection that can move, as either end has it.
func moving(t *testing.T, dialer, listener bool) (a, b *end) {
	a, b = newEnd(t), newEnd(t)
	sa, sb := handshake(t)
	for _, e := range []struct {
		end           *end
		dialer, moves bool
	}{{a, true, dialer}, {b, false, listener}} {
		var err error
		e.end.race, err = NewRace(Config{Door: &e.end.door, Port: e.end.port, ID: sa.Params().DialID, Dialer: e.dialer, Moves: e.moves, Window: 20 * time.Second})
		require.NoError(t, err)
	}
	a.race.Keys(sa)
	b.race.Keys(sb)
	b.race.Fire([]Attempt{{To: a.addr(), Method: SimOpen}})
	a.race.Fire([]Attempt{{To: b.addr(), Method: SimOpen}})
	return a, b
}

// upgraded is what Upgrade returns.
type upgraded struct {
	path *Path
	err  error
}

func (e *end) upgrade() <-chan upgraded {
	got := make(chan upgraded, 1)
	go func() {
		p, err := e.race.Upgrade(context.Background())
		got <- upgraded{p, err}
	}()
	return got
}

func TestUpgrade(t *testing.T) {
	a, b := moving(t, true, true)
	atA, atB := a.upgrade(), b.upgrade()
	pa, pb := <-atA, <-atB
	require.NoError(t, pa.err)
	require.NoError(t, pb.err)
	defer pa.path.Conn.Close()
	defer pb.path.Conn.Close()
	requireSame(t, pa.path, pb.path)
}

// TestUpgradeIsNoChoice: what the dialer moves to is not what it selects, so a
// listener that has not been told of the relay yet does not take it for that.
func TestUpgradeIsNoChoice(t *testing.T) {
	a, b := moving(t, true, true)
	atA := a.upgrade()
	require.Eventually(t, func() bool { return len(b.race.moves) == 1 }, 10*time.Second, time.Millisecond)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := b.race.Wait(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	atB := <-b.upgrade()
	require.NoError(t, atB.err)
	defer atB.path.Conn.Close()
	got := <-atA
	require.NoError(t, got.err)
	got.path.Conn.Close()
}

// TestUpgradeAlone: the dialer does not move to where the listener does not.
func TestUpgradeAlone(t *testing.T) {
	for _, tt := range []struct {
		name  string
		moves bool // the listener knows how
	}{{"the listener has ended", true}, {"the listener can't", false}} {
		t.Run(tt.name, func(t *testing.T) {
			a, b := moving(t, true, tt.moves)
			atA := a.upgrade()
			if tt.moves {
				require.Eventually(t, func() bool { return len(b.race.moves) == 1 }, 10*time.Second, time.Millisecond)
				b.race.Stop()
			}
			require.Error(t, (<-atA).err)
			<-a.race.Done()
		})
	}
}

// TestUpgradeStopped: the dialer's race ends while it waits for the answer, on
// which it must act all the same, as the listener does.
func TestUpgradeStopped(t *testing.T) {
	a, b := moving(t, true, true)
	atA := a.upgrade()
	require.Eventually(t, func() bool { return len(b.race.moves) == 1 }, 10*time.Second, time.Millisecond)
	a.race.Stop()
	<-a.race.Done()
	pa, pb := <-b.upgrade(), <-atA
	require.NoError(t, pa.err)
	require.NoError(t, pb.err)
	defer pa.path.Conn.Close()
	defer pb.path.Conn.Close()
	requireSame(t, pa.path, pb.path)
	_, err := a.race.Upgrade(t.Context())
	require.ErrorIs(t, err, net.ErrClosed, "there is no other")
}

// TestUpgradeCanceled: the connection is closed before there is a path.
func TestUpgradeCanceled(t *testing.T) {
	a, _, _, _ := pair(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := a.race.Upgrade(ctx)
	require.ErrorIs(t, err, context.Canceled)
	<-a.race.Done()
}
