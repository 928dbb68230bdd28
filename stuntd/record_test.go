package stuntd

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostunt/stunt/rendezvous"
)

// met lets one client dial another of the same server, and both report how.
func met(t *testing.T, s *Server, method string) {
	offers := make(chan *rendezvous.Offer, 1)
	b := client(t, s, rendezvous.ClientConfig{OnOffer: func(o *rendezvous.Offer) { offers <- o }})
	require.NoError(t, b.Update(rendezvous.Info{Kind: "eim"}))
	require.NoError(t, b.Register(t.Context(), "bob"))
	a := client(t, s, rendezvous.ClientConfig{})
	call, err := a.Dial(t.Context(), rendezvous.DialRequest{Peer: "bob", Kind: "apdm"})
	require.NoError(t, err)
	offer := <-offers
	require.NoError(t, offer.Answer(rendezvous.Answer{}))
	<-call.Answer
	out := rendezvous.Outcome{OK: true, Method: method, Elapsed: time.Second}
	call.Conclude(out)
	offer.Conclude(out)
	for _, c := range []*rendezvous.Client{a, b} { // the outcomes are in when this is answered
		_, err := c.Lookup(t.Context(), "bob")
		require.NoError(t, err)
	}
	require.NoError(t, b.Deregister(t.Context(), "bob"))
}

func TestRecordSurvivesARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "record")
	s := start(t, Config{Record: path})
	met(t, s, "simultaneous-open")
	require.NoError(t, s.Close())
	file, err := os.Stat(path)
	require.NoError(t, err)
	require.Zero(t, file.Mode().Perm()&0o077, "nobody else's business")
	left, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Len(t, left, 1, "nothing is left of writing it")

	s = start(t, Config{Record: path})
	was := s.meet.Record()
	require.Len(t, s.meet.Hints(), 1)
	require.Equal(t, "simultaneous-open", s.meet.Hints()[0].Method)
	require.NoError(t, s.Close())
	again, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, was, again)
}

// A file that cannot be used is moved out of the way with a line in the log;
// the server starts, learns, and keeps what it has learnt.
func TestDamagedRecordIsSetAside(t *testing.T) {
	path := filepath.Join(t.TempDir(), "record")
	for range 2 { // the second takes the place of the first
		damaged := []byte("what a bad disk has left")
		require.NoError(t, os.WriteFile(path, damaged, 0o600))
		var log bytes.Buffer // read when the server has ended
		s := start(t, Config{Record: path, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		require.Empty(t, s.meet.Hints())
		met(t, s, "direct")
		require.NoError(t, s.Close())
		require.Regexp(t, `level=WARN msg="record set aside" path=\S+record.bad err="rendezvous: not a record`, log.String())
		aside, err := os.ReadFile(path + ".bad")
		require.NoError(t, err)
		require.Equal(t, damaged, aside)

		s = start(t, Config{Record: path})
		require.Len(t, s.meet.Hints(), 1)
		require.NoError(t, s.Close())
	}
}

func TestRecordThatCannotBeKept(t *testing.T) {
	for name, path := range map[string]string{
		"no such folder": filepath.Join(t.TempDir(), "none", "record"),
		"a folder":       t.TempDir(),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Start(Config{Listen: []string{"127.0.0.1:0"}, StateDir: t.TempDir(), Record: path})
			require.ErrorContains(t, err, "the record: ", "it is said at start, not when it is too late")
		})
	}
}

// A name is on disk seconds after it was taken: a crash loses no other.
func TestNamesSurviveACrash(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "names")
	s := start(t, Config{Names: path, NameHold: 24 * time.Hour})
	key, id := newKey(t)
	require.NoError(t, client(t, s, rendezvous.ClientConfig{Key: key}).Register(t.Context(), "alice"))
	require.Eventually(t, func() bool {
		text, err := os.ReadFile(path) // as it would be after a SIGKILL now
		return err == nil && strings.Contains(string(text), "alice "+id+" ")
	}, 6*namesEvery, 50*time.Millisecond)
}

// A pinned name is its owner's after a restart.
func TestNamesSurviveARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "names")
	cfg := Config{Names: path, NameHold: 24 * time.Hour}
	s := start(t, cfg)
	key, id := newKey(t)
	require.NoError(t, client(t, s, rendezvous.ClientConfig{Key: key}).Register(t.Context(), "alice"))
	require.NoError(t, s.Close())
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Contains(t, string(text), "alice "+id+" ")

	s = start(t, cfg)
	other := client(t, s, rendezvous.ClientConfig{})
	require.ErrorIs(t, other.Register(t.Context(), "alice"), rendezvous.CodeIDTaken)
	require.NoError(t, client(t, s, rendezvous.ClientConfig{Key: key}).Register(t.Context(), "alice"))
	require.NoError(t, s.Close())

	require.NoError(t, os.WriteFile(path, []byte("alice "+id+"\n"), 0o600))
	_, err = Start(Config{Listen: []string{"127.0.0.1:0"}, StateDir: t.TempDir(), Names: path})
	require.ErrorContains(t, err, path+": rendezvous: not a list of names: line 1: ", "it would give alice to the first who comes")
}
