// Package rendezvous is how peers meet: a node keeps one session with a server
// both can reach, tells it under which names it can be dialled, and asks it to
// introduce it to others. The server carries no payload and decides no method;
// it tells two nodes about each other at the same moment, and what they do
// with that is not its business.
//
// A session is a TLS 1.3 connection (ALPN "stunt/1") over which both ends
// write frames, each a CBOR map; spec.md has the layout and wire.go the limits.
// A node is an Ed25519 key: it authenticates with a self-signed certificate
// over it, and its [Fingerprint] is a name that no one else can take. Other
// names are labels that the server binds to the first key that asks.
//
// A server is a value and a loop:
//
//	srv := &rendezvous.Server{}
//	ln, err := tls.Listen("tcp", ":3478", rendezvous.ServerTLS(cert))
//	for {
//		conn, err := ln.Accept()
//		// …
//		go srv.ServeConn(ctx, conn.(*tls.Conn)) // returns when the session has begun
//	}
//	srv.Shutdown(ctx)
//
// A client keeps its session for as long as Run runs, and registers again by
// itself wherever it comes back:
//
//	c := rendezvous.NewClient(rendezvous.ClientConfig{Servers: servers, Key: key, OnOffer: answer})
//	go c.Run(ctx)
//	err := c.Register(ctx, "alice")
//	call, err := c.Dial(ctx, rendezvous.DialRequest{DialID: id, Peer: "bob", Port: 80})
//	ringing := <-call.Ringing // bob's key and candidates, as bob reads ours
//
// Reports and candidates are opaque bytes here: they belong to packages probe
// and punch, and travel bounded by [MaxBlob].
package rendezvous
