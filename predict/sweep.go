package predict

import "time"

// Counter is where a sequential NAT is expected to be: its port of index i is i
// steps of Delta after Base, round the ports from Lo to Hi. Zero Lo and Hi mean
// 1024 to 65535.
type Counter struct {
	Base   uint16
	Delta  int
	Lo, Hi uint16
}

// Side is one end of a meeting of counters.
type Side struct {
	Model   Model         // Sequential, or Preserving where Base is known
	Elapsed time.Duration // between the last sample and the first dial
	// Shared says that one mapping serves all ports of an address: the NAT's
	// mapping is address-dependent, or endpoint-independent.
	Shared bool
}

// Sweep is the part of one end in a meeting: the ports of the other's counter
// to dial, in this order, each by a mapping of its own unless Shared.
type Sweep struct {
	Target Counter // of the other end
	Stride int     // indices between one dial and the next
	Count  int
	Chance float64 // that the two sweeps meet, at least
}

// Pace is how a meeting is carried out.
type Pace struct {
	Between time.Duration // one dial and the next; 0 means at once
	Most    int           // dials of one end; 0 means 1,024
}

// Ports returns the ports to dial, in order.
func (s Sweep) Ports() []uint16 {
	return nil
}

// Meet plans how two sequential NATs meet: see the package comment. Both ends
// compute the same two sweeps from the same two sides; first is the end that
// dialled. It reports false where the chance is less than [Worth].
func Meet(first, second Side, want float64, p Pace) (a, b Sweep, ok bool) {
	return Sweep{}, Sweep{}, false
}
