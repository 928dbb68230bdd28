package turn_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/netip"
	"os"

	"github.com/gostunt/stunt/relay/turn"
)

// A host that nobody can reach serves HTTP at an address of a TURN server, to the
// one host that it permits. How the two tell each other their addresses is theirs.
func ExampleAllocate() {
	ctx := context.Background()
	a, err := turn.Allocate(ctx, turn.Config{
		Server: "turn.example.com", TLS: &tls.Config{}, // port 5349
		Username: "alice", Password: os.Getenv("TURN_PASSWORD"),
	})
	if err != nil {
		log.Fatal(err)
	}
	defer a.Close()
	fmt.Println("connect to", a.Addr())
	if err := a.Permit(ctx, netip.MustParseAddr("203.0.113.7")); err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.Serve(a, nil))
}

// Dialling a peer from an address of a TURN server, for a peer that lets in
// only that.
func ExampleAllocation_DialContext() {
	ctx := context.Background()
	a, err := turn.Allocate(ctx, turn.Config{Server: "turn.example.com:3478", Username: "alice", Password: os.Getenv("TURN_PASSWORD")})
	if err != nil {
		log.Fatal(err)
	}
	defer a.Close()
	c, err := a.DialContext(ctx, "tcp", "203.0.113.7:80")
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	// The end of a stream is not carried: Content-Length or chunks say where the
	// answer ends.
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: peer\r\nConnection: close\r\n\r\n")
	io.Copy(os.Stdout, c)
}
