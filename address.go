package stunt

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/gostunt/stunt/rendezvous"
)

// Addr is the address of a peer: its ID, or the fingerprint of its key, and a
// virtual port. It is a [net.Addr].
type Addr struct {
	ID   string
	Port uint16 // 0: none
}

// Network returns "stunt".
func (a Addr) Network() string { return "stunt" }

// String returns id:port, or the ID alone where there is no port.
func (a Addr) String() string {
	if a.Port == 0 {
		return a.ID
	}
	return net.JoinHostPort(a.ID, strconv.Itoa(int(a.Port)))
}

// ParseAddr reads id or id:port. Upper case is folded, as in a host name.
func ParseAddr(s string) (Addr, error) {
	id, port, found := strings.Cut(s, ":")
	a := Addr{ID: strings.ToLower(id)}
	if err := rendezvous.ValidID(a.ID); err != nil {
		return Addr{}, &net.AddrError{Err: err.Error(), Addr: s}
	}
	if !found {
		return a, nil
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return Addr{}, &net.AddrError{Err: fmt.Sprintf("port %q is not a number from 1 to 65535", port), Addr: s}
	}
	a.Port = uint16(n)
	return a, nil
}
