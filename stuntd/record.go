package stuntd

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"github.com/gostunt/stunt/rendezvous"
)

// recordEvery is how often what was learnt is written, if it has changed: what
// a crash may cost. It is some megabytes at most.
const recordEvery = 5 * time.Minute

// A recordFile keeps what a server has learnt from the outcomes of dials. One
// server has it at a time.
type recordFile struct {
	path string
	meet *rendezvous.Server
	log  *slog.Logger

	// Owned by openRecord, then by run:
	written [sha256.Size]byte // the hash of what the file holds; zero: not known
}

// openRecord reads what an earlier server has learnt, if there is a file, and
// writes it back, so that a place that cannot be written to is found out now. A
// file that cannot be used is set aside: the server begins anew, and nobody has
// lost what it may still hold.
func openRecord(path string, meet *rendezvous.Server, log *slog.Logger) (*recordFile, error) {
	f := &recordFile{path: path, meet: meet, log: log}
	record, err := readRecord(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("the record: %w", err)
	default:
		if err := meet.Recall(record); err != nil {
			aside := path + ".bad"
			if rerr := os.Rename(path, aside); rerr != nil {
				return nil, fmt.Errorf("the record cannot be used (%w), nor be set aside: %w", err, rerr)
			}
			log.Warn("record set aside", "path", aside, "err", err)
			break
		}
		f.written = sha256.Sum256(record)
	}
	if err := f.save(); err != nil {
		return nil, fmt.Errorf("the record: %w", err)
	}
	return f, nil
}

// readRecord reads no more than a record can have, and one byte.
func readRecord(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, rendezvous.MaxRecord+1))
}

// save writes the file, whole or not at all, if it would change.
func (f *recordFile) save() error {
	record := f.meet.Record()
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
	t := time.NewTicker(recordEvery)
	defer t.Stop()
	for running := true; running; {
		select {
		case <-ctx.Done():
			running = false
		case <-t.C:
		}
		if err := f.save(); err != nil {
			f.log.Error("record not saved", "path", f.path, "err", err)
		}
	}
}
