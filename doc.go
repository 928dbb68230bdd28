// Package stunt gives a program direct TCP connections to hosts behind NATs.
//
// A program at home listens, behind its NAT, without a forwarded port:
//
//	ln, err := stunt.Listen(ctx, stunt.Config{Server: "stunt.example.com", ID: "alice"})
//	...
//	http.Serve(ln, mux)
//
// Another one, behind another NAT, dials it by its ID:
//
//	d := &stunt.Dialer{Config: stunt.Config{Server: "stunt.example.com"}}
//	client := http.Client{Transport: &http.Transport{DialContext: d.DialContext}}
//	resp, err := client.Get("http://alice/")
//
// or with gRPC:
//
//	cc, err := grpc.NewClient("passthrough:///alice", grpc.WithContextDialer(d.DialPeer), ...)
//
// What both get is a [net.Conn] over one kernel TCP connection between the two
// hosts. The server (stuntd) introduces them to each other and sees no byte of
// it; the connection lives on if the server dies. Only where nothing gets the two
// together, or not soon, does a server relay, what it can't read: see [RelayPolicy].
//
// # How it works
//
// Each node holds a session with the server, over TLS, from the very local
// port that it will punch from; so the server sees that port's public address
// for as long as the session lives. A dial asks the server, which tells both
// ends at the same moment where the other is. Both connect at once: each SYN
// opens the sender's NAT for the other's, and TCP's simultaneous open (RFC 9293,
// section 3.5, figure 7) makes one connection of the two. Meanwhile the
// messages of a Noise handshake have crossed the server; when TCP stands, both
// ends prove themselves with their first bytes, and the dialer chooses.
//
// # Addresses and identities
//
// An address is id or id:port. The port is virtual: a node may listen on many,
// none of which exists outside it. An identity is an Ed25519 key. A peer that
// is dialled by name is whom the server knows under the name; a peer that is
// dialled by [Fingerprint] is verified without trust in anybody.
//
// # Nodes
//
// A [Node] is a host's presence at the server. [Listen] and the zero [Dialer]
// make one of their own; a program that listens and dials shares one:
//
//	node := &stunt.Node{Config: stunt.Config{Server: "stunt.example.com", ID: "bob"}}
//	defer node.Close()
//	ln, err := node.Listen(ctx, 80)
//	...
//	conn, err := node.Dial(ctx, "tcp", "alice:22")
//
// The session is kept: a server that goes away and comes back, or another one
// of those configured, is found again without the program noticing. Listeners
// go on, Accept returns no error for it. The same holds when the host changes
// networks or wakes from sleep, which the node notices; connections from an
// address that is gone end with [ErrAddressGone], or with Config.Resume at both
// ends go on over another path.
package stunt
