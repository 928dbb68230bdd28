package sock

import "net"

// Connected reports whether c still has another end, as far as the system
// knows. After a RST it has none. After a FIN it has, until both directions
// have ended.
//
// It tells the two apart for a reader that finds the end of the stream: a RST
// is an error to whoever meets it first, and if that was a write, a read after
// it sees an end like any other.
func Connected(c *net.TCPConn) bool {
	rc, err := c.SyscallConn()
	if err != nil {
		return false
	}
	var named error
	if err := rc.Control(func(fd uintptr) { named = peername(fd) }); err != nil {
		return false // closed
	}
	return named == nil
}
