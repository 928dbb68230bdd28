package resume

const (
	// window is how many bytes an end keeps at first until the other has them, and how many it keeps for a program that does
	// not read. It is the credit that both ends begin with, so it can't be another without a word on it.
	window = 1 << 20

	// maxWindow is what both grow to where they are what holds a stream up: they bound the throughput to 4 MiB in a
	// round trip, 40 MiB/s over 100 ms, and the memory that a connection may take to twice of it. Linux has 4 MiB for
	// what is under way, and 6 for what is unread.
	maxWindow = 4 << 20
)

// sending is what we write.
type sending struct {
	queue           // what was written and the other end does not have, as far as we know
	room     int    // for that
	next     uint64 // offset that goes out next on this path
	acked    uint64 // what the other end has; one more than end with the end of the stream
	most     uint64 // what it can have, at most, in the same count
	limit    uint64 // what it wants
	finished bool   // the stream ends at end
	stopped  bool   // the other end reads no more
	busy     bool   // send is writing what begins at from
	from     uint64
}

// release gives up what will not be sent again. What is being sealed now stays: its memory would be another's.
func (out *sending) release(all bool) {
	to := min(out.acked, out.end)
	if all || out.stopped {
		to = out.end
	}
	if out.busy {
		to = min(to, out.from)
	}
	out.drop(to)
}

// grow makes more room where that alone keeps bytes from the other end: all that was written is on its way, and it wants more.
// Where the path takes no more, more room were only more to wait for.
func (out *sending) grow() {
	if out.len() == out.room && out.next == out.end && !out.busy && out.limit > out.end {
		out.room = min(2*out.room, maxWindow)
	}
}

// receiving is what we read.
type receiving struct {
	queue          // what the program has not read
	room    int    // for that
	grown   uint64 // the end of the stream when the room became what it is
	ended   bool   // the stream ends at end
	granted uint64 // the limit that the other end was told last
	told    uint64 // what it was told that we have
}

// reader is a Read that waits: what arrives is copied to where it is wanted, at once.
type reader struct {
	p []byte
	n int // bytes of it that have arrived; then it waits no more
}

// grow makes more room where the program has read what came, and as much came as there was room for.
func (in *receiving) grow() {
	if in.len() <= ackEvery && in.end-in.grown >= uint64(in.room) {
		in.room, in.grown = min(2*in.room, maxWindow), in.end
	}
}

// limit is what the other end may send, in all.
func (in *receiving) limit() uint64 { return in.begin + uint64(in.room) }

// have is what we have, in the count of the wire.
func (in *receiving) have() uint64 {
	if in.ended {
		return in.end + 1
	}
	return in.end
}
