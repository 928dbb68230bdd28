// Package probe finds out what NAT this host is behind, and holds the bindings
// that punching starts from.
//
// UDP says nothing about TCP: one box may be a full cone for the first and
// symmetric for the second. So everything here is STUN over TCP (RFC 8489
// section 6.2.2), per address family.
//
//   - [Server] answers any standard client's Binding request, and our own
//     client's requests to be dialled back from elsewhere (RFC 5780, see below).
//
//   - [Bind] makes a [Binding]: a local port whose public endpoint is known and
//     whose mapping is kept alive.
//
//   - [Visit] has the server connect to a port, to see whether a stranger could.
//
//   - [Run] measures, and returns a [Report]: data with JSON, a wire form of at
//     most 1 KiB for peers, and a text for people.
//
//   - [RunCached] does it once for each network, and confirms it in two round
//     trips from then on.
//
// # Dialling back
//
// RFC 5780 tests a NAT's filtering by having the server answer from another
// address. Over TCP an answer cannot come on another flow, so there
// CHANGE-REQUEST means: connect to me from the address, the port or both that
// you would have answered from, and say on this connection how that went. The
// target is always the source endpoint of the connection that asks, or another
// port of that address: nobody can point the server at a third party. The other
// address may be that of another server ([Lender]), which then connects in its
// place, within bounds of its own ([Server.Lend]). The private attributes are in the comprehension-optional range (RFC 8489 section
// 18.3.2), so other servers and clients ignore them:
//
//	0xC0D0 STUNT-DIAL-PORT  request   port (16 bits), milliseconds (16 bits)
//	0xC0D1 STUNT-OUTCOME    response  outcome (8 bits), zero (24 bits),
//	                                  milliseconds (32 bits), token (64 bits)
//	0xC0D2 STUNT-CLOSE      request   empty
//	0xC0D3 STUNT-DIAL-FROM  request   port (16 bits), zero (16 bits)
//	0xC0D4 STUNT-SYN        request   empty
//	                        response  TTL (8 bits), zero (24 bits),
//	                                  sequence number (32 bits)
//	0xC0D5 STUNT-HOLD       request   milliseconds (32 bits)
//
// STUNT-DIAL-PORT (1024 or above) replaces the port to connect to, 0 leaves it,
// and its time, if not 0, shortens the attempt. STUNT-DIAL-FROM (32768 or
// above) replaces the port to connect from. Either without CHANGE-REQUEST
// means: from the address that this connection is to. The server opens the
// dialled connection by sending the token, which it drew at random, so that
// the asker can tell it from a stranger's and a NAT that accepts by itself
// from a host that does.
//
// STUNT-CLOSE asks the server to close first after its answer: TIME_WAIT then
// rests with the server, and the asker can connect the same two endpoints
// again to see if they map the same. STUNT-SYN asks what the SYN of this
// connection looked like when it came, which Linux tells once. STUNT-HOLD asks
// for the answer after so long, in which the connection is idle.
//
// # Holes
//
// What a peer meets is a half-open mapping: a SYN went out, and one comes in
// from where it went. To see that without a peer, a SYN is sent to a port of
// the server that nobody listens on, or with a TTL that dies on the way, and
// the server connects from exactly there. The SYN's own socket is kept, with
// its TTL raised for the SYN-ACK: NATs that follow sequence numbers drop that
// of a listener (Linux does). On Linux a router's error would end that socket;
// one that wants a TTL of 2 ignores an error that quotes 1.
package probe
