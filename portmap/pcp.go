package portmap

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/gostunt/stunt/internal/sock"
)

// PCP as RFC 6887 has it, of which two opcodes are used: ANNOUNCE (0), which
// says nothing and makes a server say that it is there, and MAP (1).
//
// Request header (section 7.1), response header (section 7.2):
//
//	0  1  version, 2                  version, 2
//	1  1  opcode                      0x80 | opcode
//	2  1  reserved                    reserved
//	3  1  reserved                    result, 0 is success
//	4  4  lifetime asked for          lifetime granted
//	8 16  the client's address        epoch (4), reserved (12)
//
// What follows for MAP, in both directions (section 11.1):
//
//	24 12  nonce
//	36  1  protocol
//	37  3  reserved
//	40  2  internal port
//	42  2  external port
//	44 16  external address
const (
	pcpVersion  = 2
	pcpAnnounce = 0
	pcpMap      = 1
	pcpResponse = 0x80

	pcpHeader  = 24
	pcpMapSize = 60
	pcpMax     = 1100 // section 7: no message is longer

	protoTCP = 6
)

// pcpResults are the codes of section 7.4.
var pcpResults = [...]string{"success", "unsupported version", "not authorized", "malformed request", "unsupported opcode",
	"unsupported option", "malformed option", "network failure", "no resources", "unsupported protocol",
	"user exceeded quota", "cannot provide external", "address mismatch", "excessive remote peers"}

// nonce makes a mapping the business of whoever made it: a gateway changes one
// only for those who know it, and an answer that lacks it is not the gateway's.
type nonce [12]byte

// pcpReply is a response.
type pcpReply struct {
	opcode   byte
	result   byte
	lifetime time.Duration
	epoch    uint32

	// Of MAP only.
	nonce    nonce
	protocol byte
	internal uint16
	external netip.AddrPort
}

// pcpRequest writes a header.
func pcpRequest(opcode byte, client netip.Addr, lifetime time.Duration) []byte {
	b := make([]byte, pcpHeader, pcpMapSize)
	b[0], b[1] = pcpVersion, opcode
	binary.BigEndian.PutUint32(b[4:], seconds(lifetime))
	addr := client.As16() // IPv4 is mapped into IPv6
	copy(b[8:], addr[:])
	return b
}

// pcpMapRequest asks for a mapping, or for its end with a lifetime of 0.
func pcpMapRequest(client netip.Addr, n nonce, w wish) []byte {
	b := pcpRequest(pcpMap, client, w.lifetime)
	b = append(b, n[:]...)
	b = append(b, protoTCP, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, w.internal)
	b = binary.BigEndian.AppendUint16(b, w.external.Port())
	external := w.external.Addr()
	if !external.IsValid() {
		external = sock.Unspecified(client, 0).Addr()
	}
	addr := external.As16()
	return append(b, addr[:]...)
}

var errNotPCP = errors.New("not a PCP response")

// parsePCP reads a response, which anybody in the network may have written.
// Options after it are read past: none was asked for.
func parsePCP(b []byte) (r pcpReply, err error) {
	if len(b) < pcpHeader || len(b) > pcpMax || len(b)%4 != 0 || b[0] != pcpVersion || b[1]&pcpResponse == 0 {
		return pcpReply{}, errNotPCP
	}
	r.opcode, r.result = b[1]&^pcpResponse, b[3]
	r.lifetime = time.Duration(binary.BigEndian.Uint32(b[4:])) * time.Second
	r.epoch = binary.BigEndian.Uint32(b[8:])
	if r.opcode != pcpMap {
		return r, nil
	}
	if len(b) < pcpMapSize {
		return pcpReply{}, errNotPCP
	}
	copy(r.nonce[:], b[24:])
	r.protocol, r.internal = b[36], binary.BigEndian.Uint16(b[40:])
	r.external = netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[44:60])).Unmap(), binary.BigEndian.Uint16(b[42:]))
	return r, nil
}

// pcp asks one gateway.
type pcp struct {
	net     *sock.Net
	gateway netip.Addr
	client  netip.Addr // our address; invalid: the one that faces the gateway
	nonce   nonce
	clock   epoch
}

func newPCP(n *sock.Net, gateway, client netip.Addr) *pcp {
	p := &pcp{net: n, gateway: gateway, client: client}
	rand.Read(p.nonce[:])
	return p
}

func (*pcp) protocol() Protocol { return PCP }

// find asks for a sign of life.
func (p *pcp) find(ctx context.Context) error {
	return p.exchange(ctx, func(client netip.Addr) []byte { return pcpRequest(pcpAnnounce, client, 0) }, func(r pcpReply) bool {
		return r.opcode == pcpAnnounce
	})
}

func (p *pcp) add(ctx context.Context, w wish) (l lease, err error) {
	var r pcpReply
	err = p.exchange(ctx, func(client netip.Addr) []byte { return pcpMapRequest(client, p.nonce, w) }, func(got pcpReply) bool {
		r = got
		return p.mine(got, w)
	})
	if err != nil {
		return lease{}, err
	}
	return lease{external: r.external, lifetime: r.lifetime, restarted: p.clock.restarted(r.epoch, time.Now())}, nil
}

func (p *pcp) remove(ctx context.Context, w wish) error {
	w.lifetime, w.external = 0, netip.AddrPort{}
	return p.exchange(ctx, func(client netip.Addr) []byte { return pcpMapRequest(client, p.nonce, w) }, func(got pcpReply) bool {
		return p.mine(got, w)
	})
}

// mine reports whether a response is one to a MAP request of ours.
func (p *pcp) mine(r pcpReply, w wish) bool {
	return r.opcode == pcpMap && r.nonce == p.nonce && r.protocol == protoTCP && r.internal == w.internal
}

// exchange sends a request until an answer comes that is one to it.
func (p *pcp) exchange(ctx context.Context, request func(client netip.Addr) []byte, mine func(pcpReply) bool) error {
	c, err := p.net.DialUDP(p.client, netip.AddrPortFrom(p.gateway, serverPort))
	if err != nil {
		return err
	}
	defer c.Close()
	client := c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap().WithZone("")
	return ask(ctx, c, request(client), func(b []byte) (bool, error) {
		r, err := parsePCP(b)
		switch {
		case err != nil && isPMP(b):
			return true, errors.New("the gateway speaks NAT-PMP, not PCP")
		case err != nil || !mine(r):
			return false, nil // a stranger's, or late
		case r.result != 0:
			return true, resultError("PCP", int(r.result), pcpResults[:])
		}
		return true, nil
	})
}

// resultError is a result code in words.
func resultError(protocol string, code int, names []string) error {
	if code < len(names) {
		return fmt.Errorf("%s: %s", protocol, names[code])
	}
	return fmt.Errorf("%s: result %d", protocol, code)
}
