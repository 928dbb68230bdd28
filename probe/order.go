package probe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// An order is what one server asks another to do for a client: to dial back to
// it. Its bytes are
//
//	milliseconds (16 bits)
//	from: address (32 or 128 bits), port (16 bits)
//	to:   address (as long), port (16 bits)
//
// and the answer is what STUNT-OUTCOME holds.
type order struct {
	patience time.Duration  // give up after so long, in whole milliseconds
	from     netip.AddrPort // as clients know it; port 0: any
	to       netip.AddrPort // where the client was seen, or another port there
}

func (o order) encode() []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(min(max(o.patience.Milliseconds(), 0), 0xffff)))
	for _, a := range []netip.AddrPort{o.from, o.to} {
		b = append(b, a.Addr().AsSlice()...)
		b = binary.BigEndian.AppendUint16(b, a.Port())
	}
	return b
}

// decode reads an order that can be meant: two endpoints of one family that
// hosts have, to a port that a client may name, for no longer than we dial.
func (o *order) decode(b []byte) error {
	ms, rest := 2, len(b)-2
	if rest != 2*(4+2) && rest != 2*(16+2) {
		return errors.New("an order of a bad length")
	}
	o.patience = time.Duration(binary.BigEndian.Uint16(b)) * time.Millisecond
	if o.patience == 0 || o.patience > dialBackTimeout {
		return fmt.Errorf("an order for %v", o.patience)
	}
	o.from, o.to = endpoint(b[ms:ms+rest/2]), endpoint(b[ms+rest/2:])
	if !host(o.from.Addr()) || !host(o.to.Addr()) || o.to.Port() < minDialPort {
		return fmt.Errorf("an order from %v to %v", o.from, o.to)
	}
	return nil
}

// endpoint reads an address and a port, of one of the two lengths.
func endpoint(b []byte) netip.AddrPort {
	n := len(b) - 2
	a, _ := netip.AddrFromSlice(b[:n])
	return netip.AddrPortFrom(a, binary.BigEndian.Uint16(b[n:]))
}
