package crowd

import (
	"context"
	"log/slog"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"github.com/gostunt/stunt/stuntd"
)

// Host is the server in its process, for net/rpc.
type Host struct {
	server *stuntd.Server
	dials  dialLog
}

// HostConfig says how it is to be started.
type HostConfig struct {
	Listen    string // address of the loopback
	State     string // directory, so that one that comes back has the same key
	Conns     int
	Keepalive time.Duration
	Drain     time.Duration
	Return    int // nodes a second; 0: as always
	Cluster   stuntd.Cluster
}

// Start starts it; address is what nodes take.
func (h *Host) Start(c HostConfig, address *string) (err error) {
	h.server, err = stuntd.Start(stuntd.Config{Listen: []string{c.Listen}, StateDir: c.State, Keepalive: c.Keepalive, Drain: c.Drain, ReturnRate: c.Return, Cluster: c.Cluster,
		Limits: stuntd.Limits{Conns: c.Conns}, Logger: slog.New(&h.dials)})
	if err == nil {
		*address = h.server.Address()
	}
	return err
}

// HostStats are of one moment, but for the dials since the last time.
type HostStats struct {
	Heap       int64 // bytes in use after a collection: objects, and the rest of their spans
	Stack      int64 // bytes
	Resident   int64 // bytes, when what is free was given back; 0: not known here
	Running    int64 // bytes, as it was before that
	Goroutines int
	Files      int             // open ones; 0: not known here
	Dials      []time.Duration // the server's part of each
}

func (s *HostStats) add(more HostStats) {
	s.Heap, s.Stack, s.Resident, s.Running = s.Heap+more.Heap, s.Stack+more.Stack, s.Resident+more.Resident, s.Running+more.Running
	s.Goroutines, s.Files = s.Goroutines+more.Goroutines, s.Files+more.Files
	s.Dials = append(s.Dials, more.Dials...)
}

// Stats measures.
func (h *Host) Stats(_ Nothing, s *HostStats) error {
	s.Running = resident()
	debug.FreeOSMemory() // collects, too
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	*s = HostStats{Heap: int64(m.HeapInuse), Stack: int64(m.StackInuse), Running: s.Running, Resident: resident(),
		Goroutines: runtime.NumGoroutine(), Files: filesOpen(), Dials: h.dials.take()}
	return nil
}

// Parts returns the server's part of each dial since the last time, and measures
// nothing else.
func (h *Host) Parts(_ Nothing, took *[]time.Duration) error {
	*took = h.dials.take()
	return nil
}

// CPU returns how much processor time the server has used.
func (h *Host) CPU(_ Nothing, d *time.Duration) error {
	*d = processorTime()
	return nil
}

// Shutdown stops it as SIGTERM does.
func (h *Host) Shutdown(Nothing, *Nothing) error { return h.server.Shutdown(context.Background()) }

// A dialLog takes from the server's log how long it had to do for each dial.
type dialLog struct {
	mu   sync.Mutex // guards following
	took []time.Duration
}

func (d *dialLog) take() []time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	took := d.took
	d.took = nil
	return took
}

// Enabled implements slog.Handler.
func (d *dialLog) Enabled(context.Context, slog.Level) bool { return true }

// Handle implements slog.Handler.
func (d *dialLog) Handle(_ context.Context, r slog.Record) error {
	if r.Message != "dial" {
		return nil
	}
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "took" {
			d.mu.Lock()
			d.took = append(d.took, a.Value.Duration())
			d.mu.Unlock()
		}
		return true
	})
	return nil
}

// WithAttrs implements slog.Handler.
func (d *dialLog) WithAttrs([]slog.Attr) slog.Handler { return d }

// WithGroup implements slog.Handler.
func (d *dialLog) WithGroup(string) slog.Handler { return d }
