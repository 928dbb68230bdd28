package rendezvous

import (
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// beatEvery is how often a server says that it is there. Each beat of each
	// server costs a message to each other, and one back.
	beatEvery = 500 * time.Millisecond

	// lostAfter is the silence after which a server is not counted on any more.
	// Little is lost if it was only slow: what happened meanwhile is compared
	// when it is heard again.
	lostAfter = 5 * beatEvery

	// delays is how many of the latest round trips the shortest is taken of:
	// longer ones have waited somewhere.
	delays = 8

	// serverNameLen is 64 random bits in hex.
	serverNameLen = 16
)

// members are the other servers of the cluster.
type members struct {
	mu  sync.Mutex // guards following
	all map[string]*member
}

// A member is another server that was heard of late.
type member struct {
	name  string
	relay string
	lends []netip.AddrPort
	heard time.Time
	trips [delays]time.Duration // of a beat and its echo; 0: none yet
	next  int                   // index in trips
}

// heard takes in a beat, and reports whether its sender was not known.
func (ms *members) heard(m *beat, now time.Time) (isNew bool) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	x := ms.all[m.Server]
	if x == nil {
		if ms.all == nil {
			ms.all = make(map[string]*member)
		}
		x, isNew = &member{name: m.Server}, true
		ms.all[m.Server] = x
	}
	x.heard, x.relay, x.lends = now, m.Relay, m.Lends
	return isNew
}

// took takes in how long a beat of ours and the echo of it were under way.
func (ms *members) took(name string, trip time.Duration) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	if x := ms.all[name]; x != nil {
		x.trips[x.next] = max(trip, 1)
		x.next = (x.next + 1) % delays
	}
}

// lose forgets those that have been silent for too long, and those that match
// says; it returns their names.
func (ms *members) lose(match func(*member) bool) (lost []string) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	for name, x := range ms.all {
		if match(x) {
			delete(ms.all, name)
			lost = append(lost, name)
		}
	}
	return lost
}

// names returns who is there.
func (ms *members) names() []string {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	names := make([]string, 0, len(ms.all))
	for name := range ms.all {
		names = append(names, name)
	}
	return names
}

// any reports whether anybody is.
func (ms *members) any() bool {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	return len(ms.all) > 0
}

// delay returns how long a message to a member is under way; 0 if that is not
// known.
func (ms *members) delay(name string) time.Duration {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	x := ms.all[name]
	if x == nil {
		return 0
	}
	return x.delay()
}

func (x *member) delay() time.Duration {
	var least time.Duration
	for _, t := range x.trips {
		if t > 0 && (least == 0 || t < least) {
			least = t
		}
	}
	return least / 2
}

// relays returns where the members relay, in one order at every server.
func (ms *members) relays() []string {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	var at []string
	for _, x := range ms.all {
		if x.relay != "" {
			at = append(at, x.relay)
		}
	}
	slices.Sort(at)
	return slices.Compact(at)
}

// state returns what there is to say of the members.
func (ms *members) state() []ClusterMember {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	all := make([]ClusterMember, 0, len(ms.all))
	for _, x := range ms.all {
		all = append(all, ClusterMember{Name: x.name, Relay: x.relay, Lends: x.lends, Delay: x.delay()})
	}
	slices.SortFunc(all, func(a, b ClusterMember) int { return strings.Compare(a.Name, b.Name) })
	return all
}
