package resume

import "sync"

// chunkSize is two records of package secure: what goes to the kernel in one call.
const chunkSize = 64 << 10

var chunks = sync.Pool{New: func() any { return new([chunkSize]byte) }}

// queue holds the part of a stream between two offsets. It has memory for what is in it, rounded up to chunks.
type queue struct {
	begin, end uint64 // offsets in the stream; begin ≤ end
	first      uint64 // offset of the first chunk's first byte
	chunks     []*[chunkSize]byte
}

func (q *queue) len() int { return int(q.end - q.begin) }

// add appends p.
func (q *queue) add(p []byte) {
	for len(p) > 0 {
		at := int(q.end - q.first)
		if at == len(q.chunks)*chunkSize {
			q.chunks = append(q.chunks, chunks.Get().(*[chunkSize]byte))
		}
		n := copy(q.chunks[at/chunkSize][at%chunkSize:], p)
		q.end += uint64(n)
		p = p[n:]
	}
}

// pass moves an empty queue on, past bytes that went by it.
func (q *queue) pass(n int) {
	q.end += uint64(n)
	q.begin, q.first = q.end, q.end
}

// at returns what the queue has from an offset on, of one chunk at most and of no byte at or behind limit. It stays
// good until it is dropped.
func (q *queue) at(offset, limit uint64) []byte {
	limit = min(limit, q.end)
	if offset < q.begin || offset >= limit {
		return nil
	}
	at := int(offset - q.first)
	in := q.chunks[at/chunkSize][at%chunkSize:]
	return in[:min(uint64(len(in)), limit-offset)]
}

// drop gives up all before an offset, which is not behind the end.
func (q *queue) drop(to uint64) {
	if to <= q.begin {
		return
	}
	q.begin = to
	for len(q.chunks) > 0 && (q.begin >= q.first+chunkSize || q.begin == q.end) {
		chunks.Put(q.chunks[0])
		q.chunks[0] = nil
		q.chunks = q.chunks[1:]
		q.first += chunkSize
	}
	if len(q.chunks) == 0 {
		q.chunks, q.first = nil, q.end
	}
}
