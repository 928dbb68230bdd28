package rendezvous

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"
	"unique"

	"github.com/stretchr/testify/require"
)

// taught is a server that has learnt something.
func taught() *Server {
	s := &Server{Now: func() time.Time { return noon }}
	for i := range 3 {
		d := lesson("apdm/random", "eim/apdf", i, ending{"plain", true}, ending{"guessed", true})
		d.from.key, d.to.key = at(1, "192.0.2.1").key, at(2, "192.0.2.1").key
		s.learnt.learn(d, noon)
		d = lesson("apdm/random", "eim/apdf", i, failed...)
		d.hint = "guessed/plain"
		s.learnt.learn(d, noon)
		s.learnt.learn(concluded(at(1, addrOf(i)), at(3, addrOf(i)), failed...), noon)
	}
	return s
}

func TestRecordOutlivesTheServer(t *testing.T) {
	was := taught()
	record := was.Record()
	require.Equal(t, record, was.Record(), "without a change it is the same")
	for _, key := range []string{string(at(1, "::").key), fingerprintOf(newKey(t))[:8], "10.0.0.1"} {
		require.NotContains(t, string(record), key)
	}

	is := &Server{Now: was.Now}
	require.NoError(t, is.Recall(record))
	require.Equal(t, was.Hints(), is.Hints())
	require.Len(t, is.Hints(), 1)
	require.Positive(t, is.Hints()[0].Failed)
	require.Equal(t, record, is.Record())
	way, when := is.learnt.pairs.of(at(3, addrOf(2)), at(1, addrOf(2)), noon)
	require.Equal(t, LastNone, way)
	require.True(t, noon.Equal(when))

	is.learnt.learn(concluded(at(1, addrOf(0)), at(3, addrOf(0)), worked("direct")...), noon)
	require.NotEqual(t, record, is.Record())
	is = &Server{Now: func() time.Time { return noon.Add(memoryTime + time.Hour) }}
	require.NoError(t, is.Recall(record))
	require.Empty(t, is.Hints(), "it fades while no server runs, too")
	require.Empty(t, is.learnt.pairs.list(is.now()))
	is = &Server{Now: func() time.Time { return noon.Add(-time.Hour) }}
	require.NoError(t, is.Recall(record))
	require.True(t, is.Now().Equal(is.Hints()[0].At), "nothing was learnt in the future")
}

func TestLargestRecordFits(t *testing.T) {
	s := &Server{Now: func() time.Time { return noon }}
	long := strings.Repeat("k", MaxLabel-5)
	for i := range maxPairs {
		for j := range maxWays {
			s.learnt.kinds.restore1(fmt.Sprintf("%s%05d", long, i), fmt.Sprintf("%s%05d", long, j))
		}
	}
	s.learnt.pairs.mu.Lock()
	for i := range maxAcquainted {
		m := acquaintance{way: unique.Make(fmt.Sprintf("%s%05d", long, i)), at: noon, misses: 1}
		m.pair[0], m.pair[1] = byte(i), byte(i>>8)
		s.learnt.pairs.add(m)
	}
	s.learnt.pairs.mu.Unlock()
	record := s.Record()
	require.LessOrEqual(t, len(record), MaxRecord)
	is := &Server{Now: s.Now}
	require.NoError(t, is.Recall(record))
	require.Equal(t, record, is.Record(), "all of it, in the same order")
}

// restore1 fills the table without the limits on learning.
func (h *hints) restore1(kind, method string) {
	e := h.experience(natsOf(kind, kind), true)
	e.at = noon
	e.way(method, true).worked = 1
}

// seal makes a record of a body.
func seal(body string) []byte {
	sum := sha256.Sum256([]byte(body))
	return []byte(recordMagic + string(sum[:]) + body)
}

func sealed(body recordBody) []byte { return seal(string(must(encMode.Marshal(body)))) }

func TestDamagedRecordChangesNothing(t *testing.T) {
	good := taught().Record()
	way := func(k recordedKinds) []byte { return sealed(recordBody{Kinds: []recordedKinds{k}}) }
	pairs := func(p ...recordedPair) []byte { return sealed(recordBody{Pairs: p}) }
	id := make([]byte, 16)
	for name, record := range map[string][]byte{
		"empty":              {},
		"something else":     []byte(strings.Repeat("-----BEGIN PRIVATE KEY-----\n", 10)),
		"cut":                good[:len(good)-1],
		"longer":             append(bytes.Clone(good), 0),
		"one bit":            append(bytes.Clone(good[:len(good)-1]), good[len(good)-1]^1),
		"a later layout":     append([]byte("stunt record 2\r\n"), good[len(recordMagic):]...),
		"not CBOR":           seal("\xff"),
		"another value":      seal("\x01"),
		"huge":               make([]byte, MaxRecord+1),
		"not a number":       way(recordedKinds{A: "a", B: "b", Method: "m", Worked: math.NaN()}),
		"too much":           way(recordedKinds{A: "a", B: "b", Method: "m", Worked: 1e9}),
		"less than nothing":  way(recordedKinds{A: "a", B: "b", Method: "m", Failed: -1}),
		"no kind":            way(recordedKinds{B: "b", Method: "m", Worked: 1}),
		"wrong order":        way(recordedKinds{A: "b", B: "a", Method: "m", Worked: 1}),
		"no method":          way(recordedKinds{A: "a", B: "b", Worked: 1}),
		"a label of another": way(recordedKinds{A: "a", B: "b", Method: "m\n", Worked: 1}),
		"a short id":         pairs(recordedPair{Pair: id[:15], Way: "direct"}),
		"no way":             pairs(recordedPair{Pair: id}),
		"a way too long":     pairs(recordedPair{Pair: id, Way: strings.Repeat("x", MaxLabel+1)}),
		"too many misses":    pairs(recordedPair{Pair: id, Way: "direct", Misses: bySurprise}),
		"twice":              pairs(recordedPair{Pair: id, Way: "direct"}, recordedPair{Pair: id, Way: "relay"}),
	} {
		t.Run(name, func(t *testing.T) {
			s := taught()
			before := s.Record()
			require.Error(t, s.Recall(record))
			require.Equal(t, before, s.Record())
		})
	}
}

// Whatever is accepted is within all bounds, and is written as it was read.
func FuzzRecall(f *testing.F) {
	good := taught().Record()
	f.Add(good[recordHead:])
	f.Add([]byte("\x82\x80\x80"))
	f.Add(must(encMode.Marshal(recordBody{Pairs: []recordedPair{{Pair: make([]byte, 16), Way: "direct/relay", At: noon.Unix(), Misses: 1}}})))
	f.Fuzz(func(t *testing.T, body []byte) {
		s := &Server{Now: func() time.Time { return noon }}
		if s.Recall(seal(string(body))) != nil {
			return
		}
		require.LessOrEqual(t, len(s.learnt.kinds.pairs), maxPairs)
		require.LessOrEqual(t, len(s.learnt.pairs.known), maxAcquainted)
		record := s.Record()
		is := &Server{Now: s.Now}
		require.NoError(t, is.Recall(record), "its own record is always good")
		require.Equal(t, record, is.Record())
	})
}
