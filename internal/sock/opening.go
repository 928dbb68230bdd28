package sock

import (
	"fmt"
	"net/netip"
)

// Opening is how a connection begins. The zero value is that of [Net.Start]
// without a TTL.
type Opening struct {
	// TTL is the time to live of every packet until SetTTL changes it. Zero is
	// the system's.
	TTL int

	// Endures keeps the attempt alive when a router says that its TTL did not
	// last, which ends it on Linux otherwise. Elsewhere it has no effect, and
	// on the BSDs needs none.
	Endures bool

	// Explains has an ICMP error that ends the attempt returned as an
	// *ICMPError, where the system tells (Linux 6.1 and later).
	Explains bool
}

// ICMPError is an ICMP error that ended a connection attempt. It is advice
// from whoever wrote its source address, as ICMP is.
type ICMPError struct {
	From       netip.Addr // who sent it: a router or a host
	Type, Code uint8      // of the family's ICMP
	Seq        uint32     // sequence number of the SYN that it quotes
	Err        error      // what the attempt failed with
}

func (e *ICMPError) Error() string {
	return fmt.Sprintf("%v (ICMP %d/%d from %v)", e.Err, e.Type, e.Code, e.From)
}

// Unwrap returns what the attempt failed with, for [Classify].
func (e *ICMPError) Unwrap() error { return e.Err }

// TimeExceeded reports whether the TTL did not last.
func (e *ICMPError) TimeExceeded() bool {
	if e.From.Is4() {
		return e.Type == 11 // RFC 792
	}
	return e.Type == 3 // RFC 4443 section 3.3
}

// SYN is what the other end's first packet looked like when it came.
type SYN struct {
	TTL uint8
	Seq uint32
}
