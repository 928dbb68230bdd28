package stuntd

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"github.com/gostunt/stunt/rendezvous"
)

const (
	// recordEvery is how often what was learnt is written, if it has changed: what
	// a crash may cost. It is some megabytes at most.
	recordEvery = 5 * time.Minute
	// namesEvery is how often names are: one that is lost is anybody's.
	namesEvery = 5 * time.Second
	// recordShare bounds the part of the time that goes into it where there is much.
	recordShare = 100
)

// A recordFile keeps what a server would forget when it ends. One server has it
// at a time.
type recordFile struct {
	path   string
	most   int                // bytes
	record func() []byte      // returns what is to be kept
	recall func([]byte) error // takes it back
	aside  bool               // a file that cannot be used is set aside
	every  time.Duration
	log    *slog.Logger

	// Owned by open, then by run:
	written [sha256.Size]byte // the hash of what the file holds; zero: not known
}

// keepRecords has what the configuration names kept until ctx ends.
func (s *Server) keepRecords(ctx context.Context, cfg *Config) error {
	for _, f := range []*recordFile{
		{path: cfg.Record, most: rendezvous.MaxRecord, record: s.meet.Record, recall: s.meet.Recall, aside: true, every: recordEvery},
		// Without what it knew of names the server would give them to whoever
		// comes first: a damaged file is for the operator to look at.
		{path: cfg.Names, most: rendezvous.MaxNamesText, record: s.meet.Names, recall: s.meet.RecallNames, every: namesEvery},
	} {
		if f.log = s.log; f.path == "" {
			continue
		}
		if err := f.open(); err != nil {
			return err
		}
		s.mux.wg.Go(func() { f.run(ctx) })
	}
	return nil
}

// open reads what an earlier server has kept, if there is a file, and
// writes it back, so that a place that cannot be written to is found out now. If
// a file that cannot be used may be set aside, the server begins anew, and nobody
// has lost what it may still hold.
func (f *recordFile) open() error {
	record, err := readFile(f.path, int64(f.most)+1)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return fmt.Errorf("the record: %w", err)
	default:
		err := f.recall(record)
		if err != nil && !f.aside {
			return fmt.Errorf("%s: %w", f.path, err)
		}
		if err != nil {
			aside := f.path + ".bad"
			if rerr := os.Rename(f.path, aside); rerr != nil {
				return fmt.Errorf("the record cannot be used (%w), nor be set aside: %w", err, rerr)
			}
			f.log.Warn("record set aside", "path", aside, "err", err)
			break
		}
		f.written = sha256.Sum256(record)
	}
	if err := f.save(); err != nil {
		return fmt.Errorf("the record: %w", err)
	}
	return nil
}

// save writes the file, whole or not at all, if it would change.
func (f *recordFile) save() error {
	record := f.record()
	sum := sha256.Sum256(record)
	if sum == f.written {
		return nil
	}
	// Always the same name, so that a crash leaves one behind at most.
	next := f.path + ".new"
	file, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(record)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return errors.Join(err, os.Remove(next))
	}
	if err := os.Rename(next, f.path); err != nil {
		return err
	}
	f.written = sum
	return nil
}

// run saves now and then until ctx ends, and once more.
func (f *recordFile) run(ctx context.Context) {
	t := time.NewTimer(f.every)
	defer t.Stop()
	for running := true; running; {
		select {
		case <-ctx.Done():
			running = false
		case <-t.C:
		}
		began := time.Now()
		if err := f.save(); err != nil {
			f.log.Error("record not saved", "path", f.path, "err", err)
		}
		t.Reset(max(f.every, recordShare*time.Since(began)))
	}
}
