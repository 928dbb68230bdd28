package turn

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/pion/stun/v3"
)

// maxMessage bounds a message from the server, in bytes. Realm, nonce and reason
// have 763 each at most (RFC 8489); the rest is small.
const maxMessage = 4096

// headLen is the length of a message's header: type, length of the rest, magic
// cookie, transaction.
const headLen = 20

// readMessage reads exactly one message from r, so that what follows a
// ConnectionBind is the application's.
func readMessage(r io.Reader) (*stun.Message, error) {
	head := make([]byte, headLen, 256)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(head[2:]))
	if !stun.IsMessage(head) || head[0]&0xc0 != 0 || n%4 != 0 || n > maxMessage-headLen {
		return nil, errBadMessage
	}
	raw := append(head, make([]byte, n)...)
	if _, err := io.ReadFull(r, raw[headLen:]); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	m := &stun.Message{Raw: raw}
	if err := m.Decode(); err != nil {
		return nil, fmt.Errorf("%w: %w", errBadMessage, err)
	}
	return m, nil
}

// number is an attribute of four bytes.
type number struct {
	attr  stun.AttrType
	value uint32
}

func (n number) AddTo(m *stun.Message) error {
	m.Add(n.attr, binary.BigEndian.AppendUint32(nil, n.value))
	return nil
}

func numberIn(m *stun.Message, attr stun.AttrType) (uint32, error) {
	v, err := m.Get(attr)
	if err != nil || len(v) != 4 {
		return 0, fmt.Errorf("%w: no %v", errBadMessage, attr)
	}
	return binary.BigEndian.Uint32(v), nil
}

// transportTCP is REQUESTED-TRANSPORT for TCP (RFC 6062 section 5.1).
func transportTCP() stun.Setter { return number{stun.AttrRequestedTransport, 6 << 24} }

// peerAddr is XOR-PEER-ADDRESS.
type peerAddr netip.AddrPort

func (p peerAddr) AddTo(m *stun.Message) error {
	a := netip.AddrPort(p)
	return stun.XORMappedAddress{IP: a.Addr().AsSlice(), Port: int(a.Port())}.AddToAs(m, stun.AttrXORPeerAddress)
}

func addressIn(m *stun.Message, attr stun.AttrType) (netip.AddrPort, error) {
	var x stun.XORMappedAddress
	err := x.GetFromAs(m, attr)
	ip, ok := netip.AddrFromSlice(x.IP)
	if err != nil || !ok || x.Port == 0 {
		return netip.AddrPort{}, fmt.Errorf("%w: no %v", errBadMessage, attr)
	}
	return netip.AddrPortFrom(ip.Unmap(), uint16(x.Port)), nil
}

// lifetimeIn returns for how long a server keeps the allocation.
func lifetimeIn(m *stun.Message) (time.Duration, error) {
	s, err := numberIn(m, stun.AttrLifetime)
	return time.Duration(s) * time.Second, err
}

// credentials sign requests. A server names the realm and the nonce in the
// refusal of the first request.
type credentials struct {
	username, password string

	mu           sync.Mutex // guards following
	realm, nonce string
}

// forConn returns credentials for another connection, to begin with; its nonces
// are its own.
func (c *credentials) forConn() *credentials {
	c.mu.Lock()
	defer c.mu.Unlock()
	return &credentials{username: c.username, password: c.password, realm: c.realm, nonce: c.nonce}
}

// request makes a request, signed once the server has said with what. It
// returns the key that the answer has to be signed with, or nil.
func (c *credentials) request(method stun.Method, attrs []stun.Setter) (m *stun.Message, key stun.MessageIntegrity, err error) {
	c.mu.Lock()
	realm, nonce := c.realm, c.nonce
	c.mu.Unlock()
	all := append([]stun.Setter{stun.TransactionID, stun.NewType(method, stun.ClassRequest)}, attrs...)
	if nonce != "" {
		key = stun.NewLongTermIntegrity(c.username, realm, c.password)
		all = append(all, stun.NewUsername(c.username), stun.NewRealm(realm), stun.NewNonce(nonce), key)
	}
	m, err = stun.Build(all...)
	return m, key, err
}

// challenged takes realm and nonce from a refusal and reports whether they are
// worth another try: the same again are not.
func (c *credentials) challenged(m *stun.Message) bool {
	var realm stun.Realm
	var nonce stun.Nonce
	if c.username == "" || realm.GetFrom(m) != nil || nonce.GetFrom(m) != nil || len(nonce) == 0 {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	changed := c.realm != realm.String() || c.nonce != nonce.String()
	c.realm, c.nonce = realm.String(), nonce.String()
	return changed
}

// verified checks the signature of an answer, and leaves of it what is signed.
func verified(m *stun.Message, key stun.MessageIntegrity) error {
	if key == nil {
		return nil
	}
	if key.Check(m) != nil {
		return errUnsigned
	}
	for i, a := range m.Attributes {
		if a.Type == stun.AttrMessageIntegrity {
			m.Attributes = m.Attributes[:i]
			break
		}
	}
	return nil
}

func tcpAddr(a netip.AddrPort) *net.TCPAddr { return net.TCPAddrFromAddrPort(a) }
