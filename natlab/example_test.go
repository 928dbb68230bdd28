package natlab_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"testing"
	"time"

	"github.com/gostunt/stunt/natlab"
	"github.com/gostunt/stunt/natlab/nat"
)

// A host behind a home router asks a server which address it comes from.
func Example() {
	// In a test: lab := natlab.Start(t, natlab.Config{Seed: 1}).
	lab, err := natlab.New(natlab.Config{Seed: 1})
	if err != nil {
		log.Fatal(err)
	}
	defer lab.Close()

	linux, _ := nat.Profile("linux")
	router := lab.NAT("router", lab.Internet(), linux, natlab.Link{Delay: 10 * time.Millisecond, Hops: 3})
	alice := lab.Host("alice", router, natlab.Link{})
	server := lab.Host("server", nil, natlab.Link{Delay: 5 * time.Millisecond})
	fmt.Println("round trip:", lab.RTT(alice, server))

	ctx := context.Background()
	ln, err := server.Listen(ctx, "tcp", server.AddrPort(80).String())
	if err != nil {
		log.Fatal(err)
	}
	defer ln.Close()
	go func() { // until it has served one connection
		c, err := ln.Accept()
		if err != nil {
			return
		}
		host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
		io.WriteString(c, host)
		c.Close()
	}()

	c, err := alice.Dial(ctx, "tcp", ln.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	seen, err := io.ReadAll(c)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("alice is %v and comes from %s, as the router's %v\n", alice.Addr(), seen, router.Public())
}

// An example with checked output would fail where there is no lab, so a test
// runs it.
func TestExample(t *testing.T) {
	natlab.Need(t)
	Example()
}
