package resume

import (
	"encoding/binary"
	"errors"
)

// The control records, all integers big endian:
//
//	0  1  1: state        what this end has and wants
//	1  1  flags: 1 answer this with a state, at once; 2 this end reads no more
//	2  8  received        bytes of the other's stream, and one more with its end
//	10 8  limit           how many bytes of its stream the other may send, in all
//
//	0  1  2: end          the sender's stream ends here
//	1  8  length          bytes of the stream
//
// The end of a path on which both directions are over is secure's own close record. One that comes before that says that
// the other end has broken the connection off.
const (
	kindState = 1
	kindEnd   = 2

	flagAnswer = 1
	flagStop   = 2

	stateSize = 18
	endSize   = 9
)

// state is what an end tells the other of how far it has got.
type state struct {
	answer, stop    bool
	received, limit uint64
}

func (s state) append(b []byte) []byte {
	var flags byte
	if s.answer {
		flags |= flagAnswer
	}
	if s.stop {
		flags |= flagStop
	}
	b = append(b, kindState, flags)
	b = binary.BigEndian.AppendUint64(b, s.received)
	return binary.BigEndian.AppendUint64(b, s.limit)
}

func appendEnd(b []byte, length uint64) []byte {
	return binary.BigEndian.AppendUint64(append(b, kindEnd), length)
}

// ErrProtocol is why a connection ended whose peer, in records that were its own, said what cannot be.
var ErrProtocol = errors.New("the peer breaks the protocol of resumable connections")

// parse reads a control record: a state, or the length of an end.
func parse(b []byte) (s state, end uint64, isEnd bool, err error) {
	switch {
	case len(b) == stateSize && b[0] == kindState && b[1] <= flagAnswer|flagStop:
		s.answer, s.stop = b[1]&flagAnswer != 0, b[1]&flagStop != 0
		s.received, s.limit = binary.BigEndian.Uint64(b[2:]), binary.BigEndian.Uint64(b[10:])
		return s, 0, false, nil
	case len(b) == endSize && b[0] == kindEnd:
		return state{}, binary.BigEndian.Uint64(b[1:]), true, nil
	}
	return state{}, 0, false, ErrProtocol
}
