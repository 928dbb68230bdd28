package netwatch

import (
	"context"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt/natlab"
)

func TestMain(m *testing.M) { natlab.Main(m) }

func addrs(texts ...string) (as []netip.Addr) {
	for _, s := range texts {
		as = append(as, netip.MustParseAddr(s))
	}
	return as
}

func TestCompare(t *testing.T) {
	server, other := netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("198.51.100.2")
	via := func(link int, gateway string) Route {
		r := Route{To: server, Link: link}
		if gateway != "" {
			r.Gateway = netip.MustParseAddr(gateway)
		}
		return r
	}
	home := State{addrs("10.0.0.2", "2001:db8::2"), []Route{via(2, "10.0.0.1")}}
	for _, c := range []struct {
		name          string
		before, after State
		want          Change
	}{
		{"nothing", home, home, Change{}},
		{"never looked", State{}, home, Change{New: home.Addrs}},
		{"an address more", home, State{addrs("10.0.0.2", "10.9.0.1", "2001:db8::2"), home.Routes}, Change{New: addrs("10.9.0.1")}},
		{"another network", home, State{addrs("192.168.1.7"), []Route{via(3, "192.168.1.1")}},
			Change{Gone: home.Addrs, New: addrs("192.168.1.7"), Rerouted: []netip.Addr{server}}},
		{"another router", home, State{home.Addrs, []Route{via(2, "10.0.0.254")}}, Change{Rerouted: []netip.Addr{server}}},
		{"another interface", home, State{home.Addrs, []Route{via(3, "10.0.0.1")}}, Change{Rerouted: []netip.Addr{server}}},
		{"a VPN without a router", home, State{home.Addrs, []Route{via(5, "")}}, Change{Rerouted: []netip.Addr{server}}},
		{"offline", home, State{nil, []Route{via(0, "")}}, Change{Gone: home.Addrs}},
		{"online", State{nil, []Route{via(0, "")}}, home, Change{New: home.Addrs}},
		{"another destination", home, State{home.Addrs, []Route{{To: other, Link: 9}}}, Change{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := Compare(c.before, c.after)
			require.Equal(t, c.want, got)
			require.Equal(t, c.name == "nothing" || c.name == "another destination", got.None())
		})
	}
}

// A host that was offline for a moment has the way that it had, or another one.
func TestSince(t *testing.T) {
	server := netip.MustParseAddr("198.51.100.1")
	at := func(link int) State { return State{Routes: []Route{{To: server, Link: link}}} }
	gone := at(0).Since(at(2))
	require.Equal(t, at(2), gone)
	require.True(t, Compare(gone, at(2)).None())
	require.Equal(t, []netip.Addr{server}, Compare(gone, at(3)).Rerouted)
	require.Equal(t, at(3), at(3).Since(at(2)), "one that is there is taken")
	require.Equal(t, at(0), at(0).Since(State{}), "and nothing is made up")
}

// fake is a kernel with news at will.
type fake struct {
	news  chan struct{} // unbuffered
	ended chan struct{} // closed by close
	sleep time.Duration
}

func (f *fake) wait(t time.Time) error {
	var end <-chan time.Time
	if !t.IsZero() {
		end = time.After(time.Until(t))
	}
	select {
	case <-f.news:
		return nil
	case <-end:
		return os.ErrDeadlineExceeded
	case <-f.ended:
		return net.ErrClosed
	}
}

func (f *fake) slept() time.Duration { return f.sleep }
func (f *fake) close()               { close(f.ended) }

func TestFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{news: make(chan struct{}), ended: make(chan struct{}), sleep: time.Hour}
		began := time.Now()
		var wakes []time.Duration // since began
		done := make(chan struct{})
		go func() {
			defer close(done)
			follow(f, func(slept time.Duration) {
				require.Equal(t, time.Hour, slept)
				wakes = append(wakes, time.Since(began))
			})
		}()
		for range 5 { // a burst
			f.news <- struct{}{}
			time.Sleep(settle / 2)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		require.Equal(t, []time.Duration{2*settle + settle}, wakes, "once, when it was over")

		began, wakes = time.Now(), nil
		for time.Since(began) < settleAtMost { // one that does not end
			f.news <- struct{}{}
			time.Sleep(settle / 2)
		}
		synctest.Wait()
		require.Equal(t, []time.Duration{settleAtMost}, wakes, "in the middle of it")

		f.news <- struct{}{}
		f.close()
		<-done
		require.Len(t, wakes, 1, "nobody is woken after the end")
	})
}

func TestPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		wakes := 0
		go poll(ctx, (&Config{}).poll(), func(slept time.Duration) {
			wakes++
			require.Zero(t, slept)
		})
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Equal(t, 6, wakes)
		cancel()
		time.Sleep(time.Minute)
		require.Equal(t, 6, wakes)
	})
}

func TestLate(t *testing.T) {
	at := time.Now()
	for real, slept := range map[time.Duration]time.Duration{
		10 * time.Second: 0, 10*time.Second + leastSleep - 1: 0, time.Hour: time.Hour - 10*time.Second, -time.Hour: 0,
	} {
		require.Equal(t, slept, late(at, at.Add(real), 10*time.Second), "%v later", real)
	}
}

func TestLook(t *testing.T) {
	ip := netip.MustParseAddr("127.0.0.1")
	s, err := Look(nil, ip)
	require.NoError(t, err)
	require.True(t, slices.IsSortedFunc(s.Addrs, netip.Addr.Compare))
	lo, err := net.InterfaceByName("lo")
	require.NoError(t, err)
	require.Equal(t, []Route{{To: ip, Link: lo.Index}}, s.Routes)
	require.Equal(t, s.Routes[0], routeOfSocket(nil, ip), "the portable way finds the same")
}
