package rendezvous

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"
	"unique"

	"github.com/fxamacker/cbor/v2"
)

// A record is what a server has learnt, to be kept while it does not run:
//
//	 0              16              48
//	+--------------+---------------+-------------------+
//	| recordMagic  | SHA-256 of    | one CBOR array,   |
//	|              | what follows  | a recordBody      |
//	+--------------+---------------+-------------------+
//
// The number in the magic is that of the layout. The hash is there against bad
// disks, not against people: whoever writes the file can as well run another
// server.
const (
	recordMagic = "stunt record 1\r\n"
	recordHead  = len(recordMagic) + sha256.Size

	// MaxRecord bounds a record, in bytes: every table full, with the longest
	// labels, is under 7 MiB.
	MaxRecord = 8 << 20
)

// recordBody and its parts are arrays, without keys: there are many of them.
// Times are seconds of Unix.
type recordBody struct {
	_     struct{} `cbor:",toarray"`
	Kinds []recordedKinds
	Pairs []recordedPair // the one that dialled last is the last
}

type recordedKinds struct {
	_              struct{} `cbor:",toarray"`
	A, B, Method   string
	Worked, Failed float64
	At             int64
}

type recordedPair struct {
	_      struct{} `cbor:",toarray"`
	Pair   []byte
	Way    string
	At     int64
	Misses uint8
}

var recordDecMode = must(cbor.DecOptions{
	IndefLength:      cbor.IndefLengthForbidden,
	TagsMd:           cbor.TagsForbidden,
	MaxNestedLevels:  4,
	MaxArrayElements: max(maxAcquainted, maxPairs*maxWays),
	MaxMapPairs:      16, // the least that can be set; there are none
}.DecMode())

// Record returns what the server has learnt from outcomes, for Recall. Without
// a change it is the same again. It holds no key, no name and no address, and
// at most MaxRecord bytes.
func (s *Server) Record() []byte {
	now := s.now()
	var body recordBody
	for _, h := range s.learnt.kinds.list(now) {
		body.Kinds = append(body.Kinds, recordedKinds{A: h.Kinds[0], B: h.Kinds[1], Method: h.Method,
			Worked: h.Worked, Failed: h.Failed, At: h.At.Unix()})
	}
	for _, m := range slices.Backward(s.learnt.pairs.list(now)) {
		body.Pairs = append(body.Pairs, recordedPair{Pair: m.pair[:], Way: m.way.Value(), At: m.at.Unix(), Misses: m.misses})
	}
	text := must(encMode.Marshal(body)) // plain data
	sum := sha256.Sum256(text)
	return append(append([]byte(recordMagic), sum[:]...), text...)
}

// Recall puts a Record in the place of what the server has learnt so far. With
// an error nothing has changed, and the record is damaged, or of another
// version.
func (s *Server) Recall(record []byte) error {
	kinds, pairs, err := decodeRecord(record, s.now())
	if err != nil {
		return fmt.Errorf("rendezvous: not a record of what was learnt: %w", err)
	}
	s.learnt.kinds.restore(kinds)
	s.learnt.pairs.restore(pairs)
	return nil
}

func decodeRecord(record []byte, now time.Time) ([]Hint, []acquaintance, error) {
	const named = len("stunt record ")
	switch {
	case len(record) > MaxRecord:
		return nil, nil, fmt.Errorf("%d bytes are too many", len(record))
	case len(record) < recordHead || string(record[:named]) != recordMagic[:named]:
		return nil, nil, errors.New("it does not begin like one")
	case string(record[:len(recordMagic)]) != recordMagic:
		return nil, nil, fmt.Errorf("its layout is %q, not %q", record[:len(recordMagic)], recordMagic)
	}
	text := record[recordHead:]
	if sum := sha256.Sum256(text); !bytes.Equal(sum[:], record[len(recordMagic):recordHead]) {
		return nil, nil, errors.New("its hash does not match")
	}
	var body recordBody
	if err := recordDecMode.Unmarshal(text, &body); err != nil {
		return nil, nil, err
	}
	// A clock that was ahead once would keep an entry for ever.
	at := func(unix int64) time.Time { return time.Unix(min(unix, now.Unix()), 0).UTC() }
	var kinds []Hint
	for _, k := range body.Kinds {
		if err := k.check(); err != nil {
			return nil, nil, err
		}
		kinds = append(kinds, Hint{Kinds: [2]string{k.A, k.B}, Method: k.Method, Worked: k.Worked, Failed: k.Failed, At: at(k.At)})
	}
	var pairs []acquaintance
	seen := make(map[pairID]bool, len(body.Pairs))
	for _, p := range slices.Backward(body.Pairs) {
		if err := p.check(); err != nil {
			return nil, nil, err
		}
		id := pairID(p.Pair)
		if seen[id] {
			return nil, nil, errors.New("a pair is there twice")
		}
		seen[id] = true
		pairs = append(pairs, acquaintance{pair: id, way: unique.Make(p.Way), at: at(p.At), misses: p.Misses})
	}
	return kinds, pairs, nil
}

// check holds what is read to what learn would have written.
func (k *recordedKinds) check() error {
	b := (&bounds{}).words(k.A).words(k.B).words(k.Method)
	const most = 2 * memoryLength // fading keeps a sum of ones under memoryLength
	if k.A == "" || k.A > k.B || k.Method == "" || !(k.Worked >= 0 && k.Worked < most) || !(k.Failed >= 0 && k.Failed < most) {
		b.fail("a way between %q and %q that was not learnt", k.A, k.B)
	}
	return b.err
}

func (p *recordedPair) check() error {
	b := (&bounds{}).words(p.Way)
	if len(p.Pair) != len(pairID{}) || p.Way == "" || p.Misses >= bySurprise {
		b.fail("a pair that was not learnt")
	}
	return b.err
}
