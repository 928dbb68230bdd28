package probe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"

	"github.com/pion/stun/v3"
)

const (
	headerLen   = 20
	magicCookie = 0x2112A442

	// A Binding with every attribute of a long-term credential stays below
	// this; RFC 8489 allows 64 KiB, which a stranger has no use for here.
	maxBody = 2048
)

var errNotSTUN = errors.New("not a STUN message")

// readMessage reads one message from a stream into m. STUN over TCP has no
// framing of its own: the header's length field is it (RFC 8489 section
// 6.2.2), so after an error the stream has no next message. It returns io.EOF
// if the stream ended before the first byte.
func readMessage(r io.Reader, m *stun.Message) error {
	raw := slices.Grow(m.Raw[:0], headerLen)[:headerLen]
	m.Raw = raw
	if _, err := io.ReadFull(r, raw); err != nil {
		return err
	}
	n := int(binary.BigEndian.Uint16(raw[2:]))
	switch {
	case raw[0]&0xC0 != 0, binary.BigEndian.Uint32(raw[4:]) != magicCookie, n%4 != 0:
		return errNotSTUN
	case n > maxBody:
		return fmt.Errorf("STUN message of %d bytes is longer than %d", n, maxBody)
	}
	raw = slices.Grow(raw, n)[:headerLen+n]
	m.Raw = raw
	if _, err := io.ReadFull(r, raw[headerLen:]); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	return m.Decode()
}

// mappedOf returns the address that a response says the request came from.
func mappedOf(m *stun.Message) (netip.AddrPort, error) {
	if v, err := m.Get(stun.AttrXORMappedAddress); err == nil && addressLen(v) {
		var a stun.XORMappedAddress
		if err := a.GetFrom(m); err != nil {
			return netip.AddrPort{}, err
		}
		return addrPort(a.IP, a.Port), nil
	}
	// A server of RFC 3489 days.
	return addressOf(m, stun.AttrMappedAddress)
}

// addressOf returns the plain address attribute of type t.
func addressOf(m *stun.Message, t stun.AttrType) (netip.AddrPort, error) {
	v, err := m.Get(t)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%v: %w", t, err)
	}
	var a stun.MappedAddress
	if !addressLen(v) {
		return netip.AddrPort{}, fmt.Errorf("%v: bad length", t)
	}
	if err := a.GetFromAs(m, t); err != nil {
		return netip.AddrPort{}, err
	}
	return addrPort(a.IP, a.Port), nil
}

// addressLen reports whether v has the length of the family that it names
// (RFC 8489 section 14.1); the codec copies what there is.
func addressLen(v []byte) bool {
	return len(v) == 8 && v[1] == 1 || len(v) == 20 && v[1] == 2
}

func addAddress(m *stun.Message, t stun.AttrType, a netip.AddrPort) error {
	return (&stun.MappedAddress{IP: a.Addr().AsSlice(), Port: int(a.Port())}).AddToAs(m, t)
}

func addrPort(ip net.IP, port int) netip.AddrPort {
	a, ok := netip.AddrFromSlice(ip)
	if !ok {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(a.Unmap(), uint16(port))
}
