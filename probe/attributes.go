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
)

// Flags of CHANGE-REQUEST (RFC 5780 section 7.2).
const (
	changePort = 0x02
	changeIP   = 0x04
)

// The lowest port that STUNT-DIAL-PORT may name: a host behind a shared
// address shall not have us knock at its neighbours' system services.
const minDialPort = 1024

const maxDialMS = 60_000 // no dial back takes longer, whatever a server says

// outcome is how a dial back ended.
type outcome uint8

const (
	untried     outcome = iota // there was no such test
	connected                  // something accepted
	refused                    // a RST answered the SYN
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
	var v [16]byte
	v[0] = byte(d.outcome)
	binary.BigEndian.PutUint32(v[4:], uint32(d.after.Milliseconds()))
	copy(v[8:], d.token[:])
	m.Add(attrOutcome, v[:])
	return nil
}

func (d *dialled) GetFrom(m *stun.Message) error {
	v, err := m.Get(attrOutcome)
	if err != nil {
		return err
	}
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
// dial back, or that the server close first.
type ask struct {
	change byte   // changeIP, changePort, both: dial back from there
	port   uint16 // and to this port instead of the connection's own
	close  bool
}

func (a ask) AddTo(m *stun.Message) error {
	if a.change != 0 {
		m.Add(stun.AttrChangeRequest, []byte{0, 0, 0, a.change})
	}
	if a.port != 0 {
		m.Add(attrDialPort, []byte{byte(a.port >> 8), byte(a.port), 0, 0})
	}
	if a.close {
		m.Add(attrClose, nil)
	}
	return nil
}

func (a *ask) GetFrom(m *stun.Message) error {
	if v, err := m.Get(stun.AttrChangeRequest); err == nil {
		if len(v) != 4 {
			return errors.New("CHANGE-REQUEST: bad length")
		}
		a.change = v[3] & (changeIP | changePort)
	}
	if v, err := m.Get(attrDialPort); err == nil {
		if len(v) != 4 {
			return errors.New("STUNT-DIAL-PORT: bad length")
		}
		if a.port = binary.BigEndian.Uint16(v); a.port < minDialPort {
			return fmt.Errorf("STUNT-DIAL-PORT: %d is below %d", a.port, minDialPort)
		}
	}
	a.close = m.Contains(attrClose)
	return nil
}
