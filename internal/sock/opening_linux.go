package sock

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// apply sets what the opening asks for. What a kernel does not know it does
// without: the attempt is then as if it had not been asked.
func (o Opening) apply(fd int, v4 bool) {
	level, minTTL, recvErr := unix.IPPROTO_IPV6, unix.IPV6_MINHOPCOUNT, unix.IPV6_RECVERR
	if v4 {
		level, minTTL, recvErr = unix.IPPROTO_IP, unix.IP_MINTTL, unix.IP_RECVERR
	}
	if o.Endures {
		// The kernel compares this with the TTL in the packet that an ICMP
		// error quotes, too, and that one is 0 or 1 when it was used up.
		unix.SetsockoptInt(fd, level, minTTL, 2)
	}
	if o.Explains {
		unix.SetsockoptInt(fd, level, recvErr, 1)
	}
}

// explain returns err, as an *ICMPError if the socket's error queue has one.
func explain(fd int, err error) error {
	data, control := make([]byte, 64), make([]byte, 256)
	n, c, _, _, rerr := unix.Recvmsg(fd, data, control, unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
	if rerr != nil {
		return err
	}
	messages, rerr := unix.ParseSocketControlMessage(control[:c])
	if rerr != nil {
		return err
	}
	for _, m := range messages {
		if e, ok := extendedError(m.Data); ok {
			e.Err = err
			if n >= 8 { // the queue's data is the quoted TCP header
				e.Seq = binary.BigEndian.Uint32(data[4:])
			}
			return e
		}
	}
	return err
}

// extendedError reads a struct sock_extended_err and the address after it.
func extendedError(b []byte) (*ICMPError, bool) {
	const size = 16
	if len(b) < size+8 {
		return nil, false
	}
	e := &ICMPError{Type: b[5], Code: b[6]}
	switch addr := b[size:]; {
	case b[4] == unix.SO_EE_ORIGIN_ICMP:
		e.From = netip.AddrFrom4([4]byte(addr[4:8]))
	case b[4] == unix.SO_EE_ORIGIN_ICMP6 && len(addr) >= 24:
		e.From = netip.AddrFrom16([16]byte(addr[8:24]))
	default:
		return nil, false
	}
	return e, true
}

// SaveSYN has the kernel keep the SYN of each connection that ln accepts, some
// hundred bytes, until SYNOf reads it. It needs no privilege.
func SaveSYN(ln *net.TCPListener) error {
	rc, err := ln.SyscallConn()
	if err != nil {
		return err
	}
	if cerr := rc.Control(func(fd uintptr) {
		err = os.NewSyscallError("setsockopt", unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_SAVE_SYN, 1))
	}); cerr != nil {
		return cerr
	}
	return err
}

// SYNOf returns the SYN that began an accepted connection, once; later, and
// where SaveSYN was not called for the listener, it reports false.
func SYNOf(c *net.TCPConn) (SYN, bool) {
	rc, err := c.SyscallConn()
	if err != nil {
		return SYN{}, false
	}
	var b [256]byte // an IPv6 header and a TCP one with all options are 100
	n := uint32(len(b))
	var errno unix.Errno
	if rc.Control(func(fd uintptr) {
		_, _, errno = unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.IPPROTO_TCP, unix.TCP_SAVED_SYN,
			uintptr(unsafe.Pointer(&b)), uintptr(unsafe.Pointer(&n)), 0)
	}) != nil || errno != 0 {
		return SYN{}, false
	}
	return parseSYN(b[:min(n, uint32(len(b)))])
}

// parseSYN reads an IP header and the TCP one behind it. An IPv6 SYN with
// extension headers is not looked through.
func parseSYN(b []byte) (SYN, bool) {
	if len(b) < 20 {
		return SYN{}, false
	}
	ttl, header := b[8], int(b[0]&15)*4
	if b[0]>>4 == 6 {
		ttl, header = b[7], 40
		if b[6] != unix.IPPROTO_TCP {
			return SYN{}, false
		}
	}
	if len(b) < header+20 {
		return SYN{}, false
	}
	return SYN{TTL: ttl, Seq: binary.BigEndian.Uint32(b[header+4:])}, true
}
