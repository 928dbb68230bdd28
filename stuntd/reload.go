package stuntd

import (
	"context"
	"log/slog"
	"os"
	"time"
)

// reloadEvery is how often files that others write are looked at. A look is a
// stat of each.
const reloadEvery = 5 * time.Second

// A reloadable is something that is read from files which others write.
type reloadable interface {
	// load reads the files if they have changed since they were last read
	// without an error, and reports whether it did. With an error, what was in
	// use stays.
	load() (bool, error)
	// forget has the next load read them in any case.
	forget()
	// news returns what the log says when they were read, with something about
	// it, and when they can't be.
	news() (loaded string, about slog.Attr, kept string)
}

// A stamp tells one version of a file from the next.
type stamp struct {
	at   time.Time
	size int64
}

func stampOf(path string) (stamp, error) {
	info, err := os.Stat(path)
	if err != nil {
		return stamp{}, err
	}
	return stamp{info.ModTime(), info.Size()}, nil
}

// A reloader keeps what was read from files up to date.
type reloader struct {
	log   *slog.Logger
	files []reloadable
	asked chan struct{} // capacity 1: somebody wants them read now

	said map[reloadable]string // the last error of each. Owned by run
}

// newReloader keeps those files up to date that are not nil.
func newReloader(log *slog.Logger, files ...reloadable) *reloader {
	r := &reloader{log: log, asked: make(chan struct{}, 1), said: make(map[reloadable]string)}
	for _, f := range files {
		if f != nil {
			r.files = append(r.files, f)
		}
	}
	return r
}

// ask has everything read now. It does not wait.
func (r *reloader) ask() {
	select {
	case r.asked <- struct{}{}:
	default: // asked already
	}
}

// run looks now and then, and when it is asked to, until ctx ends.
func (r *reloader) run(ctx context.Context) {
	t := time.NewTicker(reloadEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		case <-r.asked:
			for _, f := range r.files {
				f.forget()
			}
			clear(r.said) // whoever asks wants an answer
		}
		for _, f := range r.files {
			r.load(ctx, f)
		}
	}
}

// load says what came of it, but not the same twice.
func (r *reloader) load(ctx context.Context, f reloadable) {
	loaded, err := f.load()
	good, about, bad := f.news()
	switch {
	case err != nil:
		if text := err.Error(); r.said[f] != text {
			r.said[f] = text
			r.log.Warn(bad, "err", err)
		}
	case loaded:
		delete(r.said, f)
		r.log.LogAttrs(ctx, slog.LevelInfo, good, about)
	}
}

// Reload reads the files anew that it was started with: the certificate and
// the rules of Config.Access, as far as there are any. It does not wait; the
// log says what came of it. Files that have changed are read without it, too.
func (s *Server) Reload() { s.reload.ask() }
