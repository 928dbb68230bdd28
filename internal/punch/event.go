package punch

import (
	"log/slog"
	"net/netip"
	"time"
)

// EventKind is a step in the life of an attempt.
type EventKind uint8

const (
	Fired     EventKind = iota // a SYN goes out
	Arrived                    // a connection came in that named this dial
	Connected                  // a connect completed
	Verified                   // the other end proved to be the peer
	Selected                   // the dialer chose this path
	Failed                     // an attempt ended, or will try again
)

var eventNames = [...]string{"fired", "arrived", "connected", "verified", "selected", "failed"}

// String returns the step in one word.
func (k EventKind) String() string { return eventNames[k] }

// Event is one step of a race, as a trace shows it.
type Event struct {
	Time   time.Time
	Kind   EventKind
	Remote netip.AddrPort
	Method Method
	Err    error // of Failed
}

func (r *Race) event(k EventKind, remote netip.AddrPort, m Method, err error) {
	if r.cfg.Event != nil {
		r.cfg.Event(Event{time.Now(), k, remote, m, err})
	}
	if r.ctx.Err() == nil && r.cfg.Log != nil {
		r.cfg.Log.LogAttrs(r.ctx, slog.LevelDebug, "punch", slog.String("phase", k.String()),
			slog.String("remote", remote.String()), slog.String("method", string(m)), slog.Any("err", err))
	}
}

// failed tells of an attempt that ended, as long as that matters.
func (r *Race) failed(remote netip.AddrPort, m Method, err error) {
	if !r.chosen.Load() && r.ctx.Err() == nil {
		r.event(Failed, remote, m, err)
	}
}
