package check

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"time"

	"github.com/pion/stun/v3"

	"github.com/gostunt/stunt/internal/sock"
)

// headSize is that of a STUN header, with the length of the rest in bytes 2 and
// 3 (RFC 8489 section 5); ours ends long before mostBody.
const headSize, mostBody = 20, 2048

// stun asks for our address, and looks at the other addresses that the server
// has for the tests of NATs.
func (v *visit) stun(ctx context.Context, at netip.AddrPort) {
	mapped, other, err := binding(ctx, at)
	if err != nil {
		v.Bad("stun", "see that no proxy stands before it", "%v does not answer: %v", at, plain(err))
		return
	}
	v.Good("stun", "%v sees this host as %v", at, mapped)
	defer v.dialBack(ctx, at, mapped)
	if told := v.told(at); told.IsValid() && told != other && told != netip.AddrPortFrom(at.Addr(), other.Port()) {
		v.Doubt("address", "give nodes the address that it prints when it starts", "it says that %v answers STUN as well, the server itself says %s", told, orNone(other))
	}
	const more = "listen on two IPs and two ports, all four (-listen)"
	switch {
	case !other.IsValid():
		v.Doubt("addresses", more, "one address and one port: nodes learn their public address, and little of their NAT")
		return
	case other.Addr().IsPrivate() && !at.Addr().IsPrivate(), other.Addr().IsLoopback() && !at.Addr().IsLoopback():
		v.Bad("addresses", "say what it looks like from outside (-public inside=outside)", "it sends nodes to %v, which they can't reach", other)
		return
	case other.Addr() == at.Addr():
		v.Doubt("addresses", more, "one address: nodes don't learn whether their NAT depends on the peer's, nor all of whom it lets in")
	case other.Port() == at.Port():
		v.Doubt("addresses", "listen on a second port, at every address (-listen)", "one port: nodes don't learn whether their NAT depends on the peer's")
	}
	v.others(ctx, at, other)
}

// told returns what the server's address says of its other one, for who comes by at.
func (v *visit) told(at netip.AddrPort) netip.AddrPort {
	told := v.target.Server.Other
	if at.Addr().Is6() {
		told = v.target.Server.Other6
	}
	if told.IsValid() && told.Addr().IsUnspecified() {
		told = netip.AddrPortFrom(at.Addr(), told.Port())
	}
	return told
}

func orNone(a netip.AddrPort) string {
	if !a.IsValid() {
		return "that there is none"
	}
	return a.String()
}

// others connects to what nodes derive from the two that they are told.
func (v *visit) others(ctx context.Context, at, other netip.AddrPort) {
	seen := map[netip.AddrPort]bool{at: true}
	all := true
	for _, a := range []netip.AddrPort{other, netip.AddrPortFrom(at.Addr(), other.Port()), netip.AddrPortFrom(other.Addr(), at.Port())} {
		if seen[a] {
			continue
		}
		seen[a] = true
		if _, _, err := binding(ctx, a); err != nil {
			v.Bad("addresses", "listen there (-listen), and let the firewall let TCP in", "it sends nodes to %v, which does not answer: %v", a, plain(err))
			all = false
		}
	}
	if all && other.Addr() != at.Addr() && other.Port() != at.Port() {
		v.Good("addresses", "two addresses and two ports, and all four answer: nodes can learn all about their NAT")
	}
}

// binding asks a STUN server for our address, and for its other one.
func binding(ctx context.Context, at netip.AddrPort) (mapped, other netip.AddrPort, err error) {
	c, err := connect(ctx, at)
	if err != nil {
		return mapped, other, err
	}
	defer sock.Abort(c)
	until := time.Now().Add(answerTime)
	if end, ok := ctx.Deadline(); ok && end.Before(until) {
		until = end
	}
	c.SetDeadline(until)
	req, err := stun.Build(stun.TransactionID, stun.BindingRequest, stun.Fingerprint)
	if err != nil {
		return mapped, other, err
	}
	if _, err := c.Write(req.Raw); err != nil {
		return mapped, other, err
	}
	raw := make([]byte, headSize, headSize+mostBody)
	if _, err := io.ReadFull(c, raw); err != nil {
		return mapped, other, err
	}
	n := int(binary.BigEndian.Uint16(raw[2:]))
	if !stun.IsMessage(raw) || n > mostBody {
		return mapped, other, errors.New("it does not speak STUN")
	}
	raw = raw[:headSize+n]
	if _, err := io.ReadFull(c, raw[headSize:]); err != nil {
		return mapped, other, err
	}
	resp := &stun.Message{Raw: raw}
	if err := resp.Decode(); err != nil {
		return mapped, other, err
	}
	if resp.TransactionID != req.TransactionID || resp.Type != stun.BindingSuccess {
		return mapped, other, errors.New("it answers with something else")
	}
	var m stun.XORMappedAddress
	if err := m.GetFrom(resp); err != nil {
		return mapped, other, err
	}
	var o stun.OtherAddress
	if err := o.GetFrom(resp); err == nil {
		other = addrPort(o.IP, o.Port)
	}
	return addrPort(m.IP, m.Port), other, nil
}

func addrPort(ip []byte, port int) netip.AddrPort {
	a, _ := netip.AddrFromSlice(ip) // invalid if it is neither of the two lengths
	return netip.AddrPortFrom(a.Unmap(), uint16(port))
}

// AnswersSTUN reports whether a STUN server answers at an address of this machine.
func AnswersSTUN(ctx context.Context, at netip.AddrPort) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_, _, err := binding(ctx, at)
	return err == nil
}
