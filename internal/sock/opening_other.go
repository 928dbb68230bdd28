//go:build !linux

package sock

import "net"

// SaveSYN does nothing: no other system lets a process see a SYN without
// privileges.
func SaveSYN(*net.TCPListener) error { return nil }

// SYNOf reports false, see SaveSYN.
func SYNOf(*net.TCPConn) (SYN, bool) { return SYN{}, false }
