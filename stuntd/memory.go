package stuntd

import (
	"errors"
	"log/slog"
	"math"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/gostunt/stunt/rendezvous"
)

// A strain is how much of its memory a server has in use, in steps: at each one
// more kind of thing is refused, those first that cost somebody the least. What
// is there already is served at all of them.
type strain int

const (
	calm          strain = iota
	fewHandshakes        // strangers get an eighth of the half-open places
	noSTUN               // nodes that come now go without a report on their NAT, or further ports
	noSessions           // they are told to come back
	noRelays             // dials find a direct path or none
	nothing              // every new connection is closed unheard
)

// atPercent is where each strain begins.
var atPercent = [...]uint64{fewHandshakes: 80, noSTUN: 85, noSessions: 90, noRelays: 95, nothing: 100}

// String says what is refused.
func (s strain) String() string {
	return [...]string{"nothing", "most handshakes", "stun", "stun and sessions", "stun, sessions and relays", "everything"}[s]
}

// fewer is what half-open places are divided by under strain.
const fewer = 8

// busy is what a node is told that wants a session.
func (m *memory) busy() error {
	if m.strain() < noSessions {
		return nil
	}
	return &rendezvous.Error{Code: rendezvous.CodeBusy, Text: "the server is short of memory"}
}

var errMemory = &overLimit{"memory", "memory"}

// memory watches how much of it is in use. Nothing runs: it looks when it is
// asked, and not more often than lookEvery, in which a flood can take no more
// than some ten MiB.
type memory struct {
	limit uint64 // bytes; 0: none
	log   *slog.Logger
	warn  rate.Sometimes // Interval: quiet

	mu   sync.Mutex    // guards following
	used func() uint64 // inUse, but for tests
	at   time.Time     // of the last look
	now  strain
}

const lookEvery = 50 * time.Millisecond

func newMemory(limit int64, log *slog.Logger) *memory {
	return &memory{limit: uint64(limit), log: log, used: inUse, warn: rate.Sometimes{Interval: quiet}}
}

// strain returns how the server is. A nil memory is calm.
func (m *memory) strain() strain {
	if m == nil || m.limit == 0 {
		return calm
	}
	now, used := m.look(time.Now())
	if now > calm && used > 0 {
		m.warn.Do(func() {
			m.log.Warn("short of memory", "used", used, "limit", m.limit, "refusing", now.String())
		})
	}
	return now
}

// look returns how the server is and, unless that is from an earlier look, how
// much is in use.
func (m *memory) look(at time.Time) (now strain, used uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if at.Sub(m.at) < lookEvery {
		return m.now, 0
	}
	used = m.used()
	m.at, m.now = at, calm
	for s, percent := range atPercent {
		if s > 0 && used >= m.limit/100*percent {
			m.now = strain(s)
		}
	}
	return m.now, used
}

// inUse returns what the process holds of the system, as GOMEMLIMIT counts it:
// neither what the kernel holds for its sockets, nor the program itself.
func inUse() uint64 {
	s := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64() - s[1].Value.Uint64()
}

// memory returns the limit in bytes; 0: none.
func (l Limits) memory() int64 {
	if l.Memory == 0 {
		return memoryHere() / 4 * 3
	}
	return l.Memory
}

// collectEarly has the garbage collector work harder before garbage alone would
// make the server refuse anybody, unless GOMEMLIMIT says when.
func collectEarly(limit int64) {
	if limit > 0 && debug.SetMemoryLimit(-1) == math.MaxInt64 {
		debug.SetMemoryLimit(limit / 100 * 75) // under the first of atPercent
	}
}

// size is a number of bytes, as in 512M or 2G.
type size int64

var units = []struct {
	suffix string
	bytes  int64
}{{"G", 1 << 30}, {"M", 1 << 20}, {"K", 1 << 10}, {"", 1}}

func (s *size) String() string {
	if *s == 0 {
		return ""
	}
	for _, u := range units {
		if int64(*s)%u.bytes == 0 {
			return strconv.FormatInt(int64(*s)/u.bytes, 10) + u.suffix
		}
	}
	return "" // not reached: 1 divides all
}

func (s *size) Set(text string) error {
	for _, u := range units {
		digits, ok := strings.CutSuffix(strings.ToUpper(text), u.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(digits, 10, 64)
		if err != nil || n < 0 || n > math.MaxInt64/u.bytes {
			return errors.New("neither 512M, 2G or the like")
		}
		*s = size(n * u.bytes)
		return nil
	}
	return nil // not reached: the last suffix is that of every text
}
