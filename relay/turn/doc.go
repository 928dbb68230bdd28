// Package turn is a client for TURN servers that relay TCP (RFC 6062), as
// coturn does, for applications that have such servers already. A TURN server is
// no part of a stunt dial.
//
// An [Allocation] is a TCP address on the server. It is a [net.Listener] for the
// peers that it permits, and dials peers:
//
//	a, err := turn.Allocate(ctx, turn.Config{
//		Server: "turn.example.com", TLS: &tls.Config{}, // port 5349; without TLS 3478
//		Username: "alice", Password: secret,
//	})
//	defer a.Close()
//
//	tell(peer, a.Addr())                                       // by whatever means the two have
//	err = a.Permit(ctx, netip.MustParseAddr("203.0.113.7"))    // nobody else can connect
//	http.Serve(a, mux)                                         // and at the peer: http.Get("http://" + address)
//
//	c, err := a.DialContext(ctx, "tcp", "203.0.113.7:80")      // or the other way round
//
// The peer needs no TURN: it connects to that address as to any other, from an
// address that is permitted. Or it has an allocation of its own, and one of the
// two dials the other's. What the server relays it can read and change, so run
// TLS, or whatever proves who is there, on top.
//
// # Limits
//
// They are those of RFC 6062 and of its servers:
//
//   - There is no half-close. When one side ends its stream, the server closes
//     the other one, and what was on its way back is lost. So a [Conn] has no
//     CloseWrite: a protocol has to say in its data that a request is complete.
//   - coturn passes on the end of a stream as a reset, and throws away what it
//     has not passed on by then. So whoever writes last should not close before
//     the other end has said that it has everything; that one then reads
//     ECONNRESET instead of EOF.
//   - coturn 4.6 now and then stops reading for good from an end whose peer did
//     not read for a while, so that the connection stalls.
//   - Over TLS, a Write that has met its deadline has broken the connection, as
//     crypto/tls says.
//   - Each connection is a TCP connection of its own to the server, beside the one
//     of the allocation. Opening one takes three round trips to the server, four
//     the first time to a peer, and with TLS one more.
//   - A connection lives no longer than its allocation.
//   - Relayed addresses are IPv4.
//   - Requests are signed as in RFC 8489 section 9.2, with HMAC-SHA1 under an MD5
//     of the password, because that is what servers have. Without TLS whoever
//     sees one can try passwords on it.
//
// The messages are encoded by pion/stun. pion/turn has a client, too; with a
// server that is not to be trusted it ends the program (a length over 65515 in
// the answer to ConnectionBind), it stops reading after ten connections that
// nobody has accepted, and what waits for a connection does not end with it.
package turn
