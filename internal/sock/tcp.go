package sock

import "net"

// TCPOf returns the TCP connection in c, or nil. A wrapper says what it wraps by
// NetConn, as a [crypto/tls.Conn] does.
func TCPOf(c net.Conn) *net.TCPConn {
	for {
		switch x := c.(type) {
		case *net.TCPConn:
			return x
		case interface{ NetConn() net.Conn }:
			c = x.NetConn()
		default:
			return nil
		}
	}
}
