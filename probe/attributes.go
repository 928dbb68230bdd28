package probe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/pion/stun/v3"

	"github.com/gostunt/stunt/internal/sock"
)

// The private attributes; the package documentation has their layout.
const (
	attrDialPort stun.AttrType = 0xC0D0
	attrOutcome  stun.AttrType = 0xC0D1
	attrClose    stun.AttrType = 0xC0D2
	attrDialFrom stun.AttrType = 0xC0D3
	attrSYN      stun.AttrType = 0xC0D4
	attrHold     stun.AttrType = 0xC0D5
)

// Flags of CHANGE-REQUEST (RFC 5780 section 7.2).
const (
	changePort = 0x02
	changeIP   = 0x04
)

// The lowest port that STUNT-DIAL-PORT may name: a host behind a shared
// address shall not have us knock at its neighbours' system services.
const minDialPort = 1024

// The lowest port that STUNT-DIAL-FROM may name: those above are what a host's
// own connections leave from, so no service of the server's is impersonated.
const minDialFrom = 32768

const maxDialMS = 60_000 // no dial back takes longer, whatever a server says

// outcome is how a dial back ended.
type outcome uint8

const (
	untried     outcome = iota // there was no such test
	connected                  // something accepted
	refused                    // a RST answered the SYN, or, where sockets cannot tell, port unreachable
	reset                      // accepted and reset before the token was sent
	timeout                    // nothing came within the server's time
	unreachable                // an ICMP error
	declined                   // over the server's limits: says nothing about the NAT
	failed                     // the server could not try: likewise
	outcomes
)

var outcomeNames = [outcomes]string{"untried", "connected", "refused", "reset", "timeout", "unreachable", "declined", "failed"}

func (o outcome) String() string {
	if o < outcomes {
		return outcomeNames[o]
	}
	return outcomeNames[untried]
}

// outcomeOf says what the error of a dial back tells about the NAT.
func outcomeOf(err error) outcome {
	if err == nil {
		return connected
	}
	if _, ok := errors.AsType[*sock.ICMPError](err); ok {
		return unreachable // a port unreachable is ECONNREFUSED, as a RST is
	}
	switch sock.Classify(err) {
	case sock.Refused:
		return refused
	case sock.Reset:
		return reset
	case sock.Timeout:
		return timeout
	case sock.Unreachable:
		return unreachable
	}
	return failed
}

// token marks a dialled-back connection.
type token [8]byte

// dialled is STUNT-OUTCOME.
type dialled struct {
	outcome outcome
	after   time.Duration // from the server's SYN to the outcome, in whole milliseconds
	token   token
}

func (d dialled) AddTo(m *stun.Message) error {
	m.Add(attrOutcome, d.encode())
	return nil
}

func (d *dialled) GetFrom(m *stun.Message) error {
	v, err := m.Get(attrOutcome)
	if err != nil {
		return err
	}
	return d.decode(v)
}

// encode returns the value of the attribute.
func (d dialled) encode() []byte {
	var v [16]byte
	v[0] = byte(d.outcome)
	binary.BigEndian.PutUint32(v[4:], uint32(d.after.Milliseconds()))
	copy(v[8:], d.token[:])
	return v[:]
}

func (d *dialled) decode(v []byte) error {
	if len(v) != 16 {
		return errors.New("STUNT-OUTCOME: bad length")
	}
	ms := binary.BigEndian.Uint32(v[4:])
	if v[0] == 0 || v[0] >= byte(outcomes) || ms > maxDialMS {
		return fmt.Errorf("STUNT-OUTCOME: outcome %d after %d ms", v[0], ms)
	}
	d.outcome, d.after = outcome(v[0]), time.Duration(ms)*time.Millisecond
	copy(d.token[:], v[8:])
	return nil
}

// ask is what a Binding request asks for beyond the address: nothing, or a
// dial back, or one of the rest.
type ask struct {
	change   byte          // changeIP, changePort, both: dial back from there
	from     uint16        // or from this port of the address
	port     uint16        // dial back to this port instead of the connection's own
	patience time.Duration // give up after so long, in whole milliseconds; 0: the server's time
	syn      bool          // say what our SYN looked like
	hold     time.Duration // answer after so long, in whole milliseconds
	close    bool          // close first, after the answer
}

// dialsBack reports whether a dial back is asked for. STUNT-DIAL-PORT alone is
// one from the endpoint that the request came to.
func (a ask) dialsBack() bool { return a.change != 0 || a.from != 0 || a.port != 0 }

func (a ask) AddTo(m *stun.Message) error {
	if a.change != 0 {
		m.Add(stun.AttrChangeRequest, []byte{0, 0, 0, a.change})
	}
	if a.port != 0 || a.patience != 0 {
		m.Add(attrDialPort, halves(a.port, uint16(min(a.patience.Milliseconds(), 0xffff))))
	}
	if a.from != 0 {
		m.Add(attrDialFrom, halves(a.from, 0))
	}
	if a.syn {
		m.Add(attrSYN, nil)
	}
	if a.hold != 0 {
		m.Add(attrHold, binary.BigEndian.AppendUint32(nil, uint32(a.hold.Milliseconds())))
	}
	if a.close {
		m.Add(attrClose, nil)
	}
	return nil
}

func halves(a, b uint16) []byte { return []byte{byte(a >> 8), byte(a), byte(b >> 8), byte(b)} }

func (a *ask) GetFrom(m *stun.Message) error {
	for _, t := range []stun.AttrType{stun.AttrChangeRequest, attrDialPort, attrDialFrom, attrHold} {
		v, err := m.Get(t)
		if err != nil {
			continue
		}
		if len(v) != 4 {
			return fmt.Errorf("%v: bad length", t)
		}
		high, low := binary.BigEndian.Uint16(v), binary.BigEndian.Uint16(v[2:])
		switch t {
		case stun.AttrChangeRequest:
			a.change = v[3] & (changeIP | changePort)
		case attrDialPort:
			a.port, a.patience = high, time.Duration(low)*time.Millisecond
		case attrDialFrom:
			a.from = high
		case attrHold:
			a.hold = time.Duration(binary.BigEndian.Uint32(v)) * time.Millisecond
		}
	}
	if a.port != 0 && a.port < minDialPort {
		return fmt.Errorf("STUNT-DIAL-PORT: %d is below %d", a.port, minDialPort)
	}
	if m.Contains(attrDialFrom) && a.from < minDialFrom {
		return fmt.Errorf("STUNT-DIAL-FROM: %d is below %d", a.from, minDialFrom)
	}
	a.syn, a.close = m.Contains(attrSYN), m.Contains(attrClose)
	return nil
}

// arrival is STUNT-SYN: the SYN of the connection, as it came.
type arrival sock.SYN

func (s arrival) AddTo(m *stun.Message) error {
	m.Add(attrSYN, binary.BigEndian.AppendUint32([]byte{s.TTL, 0, 0, 0}, s.Seq))
	return nil
}

func (s *arrival) GetFrom(m *stun.Message) error {
	v, err := m.Get(attrSYN)
	if err != nil {
		return err
	}
	if len(v) != 8 {
		return errors.New("STUNT-SYN: bad length")
	}
	s.TTL, s.Seq = v[0], binary.BigEndian.Uint32(v[4:])
	return nil
}
