package portmap

import (
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"time"

	"github.com/gostunt/stunt/internal/sock"
)

// NAT-PMP as RFC 6886 has it. Requests, and their responses:
//
//	address (section 3.2)           mapping (section 3.3)
//	0 1  version, 0                 0 1  version, 0
//	1 1  opcode, 0                  1 1  opcode, 2 for TCP
//	                                2 2  reserved
//	                                4 2  internal port
//	                                6 2  external port
//	                                8 4  lifetime
//
//	0 1  version, 0                 0 1  version, 0
//	1 1  128 + opcode               1 1  128 + opcode
//	2 2  result, 0 is success       2 2  result
//	4 4  epoch                      4 4  epoch
//	8 4  external address           8 2  internal port
//	                               10 2  external port
//	                               12 4  lifetime
const (
	pmpVersion  = 0
	pmpAddress  = 0
	pmpMapTCP   = 2
	pmpResponse = 0x80

	pmpHeader      = 8
	pmpAddressSize = 12
	pmpMapSize     = 16
)

// pmpResults are the codes of section 3.5.
var pmpResults = [...]string{"success", "unsupported version", "not authorized", "network failure", "no resources", "unsupported opcode"}

// pmpReply is a response.
type pmpReply struct {
	opcode byte
	result uint16
	epoch  uint32

	address            netip.Addr // of the address request
	internal, external uint16     // of the mapping request
	lifetime           time.Duration
}

// pmpMapRequest asks for a mapping, or for its end with a lifetime of 0.
func pmpMapRequest(w wish) []byte {
	b := []byte{pmpVersion, pmpMapTCP, 0, 0}
	b = binary.BigEndian.AppendUint16(b, w.internal)
	b = binary.BigEndian.AppendUint16(b, w.external.Port())
	return binary.BigEndian.AppendUint32(b, seconds(w.lifetime))
}

var errNotPMP = errors.New("not a NAT-PMP response")

// isPMP reports whether a response is one of NAT-PMP: so does a gateway answer
// that does not know PCP.
func isPMP(b []byte) bool { return len(b) >= 2 && b[0] == pmpVersion && b[1]&pmpResponse != 0 }

// parsePMP reads a response, which anybody in the network may have written. A
// refusal may be as short as a header.
func parsePMP(b []byte) (r pmpReply, err error) {
	if !isPMP(b) || len(b) < pmpHeader || len(b) > pcpMax {
		return pmpReply{}, errNotPMP
	}
	r = pmpReply{opcode: b[1] &^ pmpResponse, result: binary.BigEndian.Uint16(b[2:]), epoch: binary.BigEndian.Uint32(b[4:])}
	switch {
	case r.result != 0:
		return r, nil
	case r.opcode == pmpAddress && len(b) >= pmpAddressSize:
		r.address = netip.AddrFrom4([4]byte(b[8:12]))
		return r, nil
	case r.opcode == pmpMapTCP && len(b) >= pmpMapSize:
		r.internal, r.external = binary.BigEndian.Uint16(b[8:]), binary.BigEndian.Uint16(b[10:])
		r.lifetime = time.Duration(binary.BigEndian.Uint32(b[12:])) * time.Second
		return r, nil
	}
	return pmpReply{}, errNotPMP
}

// pmp asks one gateway.
type pmp struct {
	net     *sock.Net
	gateway netip.Addr
	clock   epoch
}

func (*pmp) protocol() Protocol { return NATPMP }

func (p *pmp) find(ctx context.Context) error {
	_, err := p.address(ctx)
	return err
}

func (p *pmp) address(ctx context.Context) (netip.Addr, error) {
	r, err := p.exchange(ctx, []byte{pmpVersion, pmpAddress}, func(r pmpReply) bool { return r.opcode == pmpAddress })
	return r.address, err
}

func (p *pmp) add(ctx context.Context, w wish) (lease, error) {
	address, err := p.address(ctx) // it may be another by now
	if err != nil {
		return lease{}, err
	}
	r, err := p.exchange(ctx, pmpMapRequest(w), mapped(w))
	if err != nil {
		return lease{}, err
	}
	return lease{
		external:  netip.AddrPortFrom(address, r.external),
		lifetime:  r.lifetime,
		restarted: p.clock.restarted(r.epoch, time.Now()),
	}, nil
}

func (p *pmp) remove(ctx context.Context, w wish) error {
	w.lifetime, w.external = 0, netip.AddrPort{} // section 3.4: both 0
	_, err := p.exchange(ctx, pmpMapRequest(w), mapped(w))
	return err
}

// mapped returns what tells whether a response is one to a mapping request. A
// refusal need not name the port.
func mapped(w wish) func(pmpReply) bool {
	return func(r pmpReply) bool { return r.opcode == pmpMapTCP && (r.result != 0 || r.internal == w.internal) }
}

// exchange sends a request until an answer comes that is one to it.
func (p *pmp) exchange(ctx context.Context, request []byte, mine func(pmpReply) bool) (r pmpReply, err error) {
	c, err := p.net.DialUDP(netip.Addr{}, netip.AddrPortFrom(p.gateway, serverPort))
	if err != nil {
		return pmpReply{}, err
	}
	defer c.Close()
	err = ask(ctx, c, request, func(b []byte) (done bool, err error) {
		if r, err = parsePMP(b); err != nil || !mine(r) {
			return false, nil
		}
		if r.result != 0 {
			return true, resultError("NAT-PMP", int(r.result), pmpResults[:])
		}
		return true, nil
	})
	return r, err
}
