package stunt_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/gostunt/stunt"
	"github.com/gostunt/stunt/stuntd"
)

// startServer runs a rendezvous server on loopback, for the examples. A real
// one is the program stuntd, on a public host.
func startServer() (address string, stop func()) {
	state, err := os.MkdirTemp("", "stuntd-*")
	if err != nil {
		log.Fatal(err)
	}
	s, err := stuntd.Start(stuntd.Config{Listen: []string{"127.0.0.1:0"}, StateDir: state})
	if err != nil {
		log.Fatal(err)
	}
	return s.Address(), func() { s.Close(); os.RemoveAll(state) }
}

// An HTTP server behind a NAT, and a client behind another.
func Example() {
	server, stop := startServer() // or "stunt.example.com"
	defer stop()
	ctx := context.Background()

	// At home.
	ln, err := stunt.Listen(ctx, stunt.Config{Server: server, ID: "alice"})
	if err != nil {
		log.Fatal(err)
	}
	defer ln.Close()
	go http.Serve(ln, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "hello from %s", r.Host)
	}))

	// On a train.
	d := &stunt.Dialer{Config: stunt.Config{Server: server}}
	defer d.Close()
	tr := &http.Transport{DialContext: d.DialContext}
	defer tr.CloseIdleConnections()
	client := http.Client{Transport: tr}
	resp, err := client.Get("http://alice/")
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	fmt.Println(string(body), err)
	// Output: hello from alice <nil>
}

// A gRPC server and client. The link is encrypted and authenticated by stunt,
// so gRPC adds no TLS of its own.
func ExampleDialer_DialPeer() {
	server, stop := startServer()
	defer stop()
	ctx := context.Background()

	ln, err := stunt.Listen(ctx, stunt.Config{Server: server, ID: "alice"})
	if err != nil {
		log.Fatal(err)
	}
	gs := grpc.NewServer()
	healthpb.RegisterHealthServer(gs, health.NewServer())
	go gs.Serve(ln)
	defer gs.Stop()

	d := &stunt.Dialer{Config: stunt.Config{Server: server}}
	defer d.Close()
	cc, err := grpc.NewClient("passthrough:///alice",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(d.DialPeer))
	if err != nil {
		log.Fatal(err)
	}
	defer cc.Close()
	r, err := healthpb.NewHealthClient(cc).Check(ctx, &healthpb.HealthCheckRequest{})
	fmt.Println(r.GetStatus(), err)
	// Output: SERVING <nil>
}

// One node that listens and dials, on one session with the server.
func ExampleNode() {
	server, stop := startServer()
	defer stop()
	ctx := context.Background()

	alice := &stunt.Node{Config: stunt.Config{Server: server, ID: "alice"}}
	defer alice.Close()
	bob := &stunt.Node{Config: stunt.Config{Server: server, ID: "bob"}}
	defer bob.Close()
	var echoes sync.WaitGroup
	for _, n := range []*stunt.Node{alice, bob} {
		ln, err := n.Listen(ctx, 7) // the echo port; nothing listens on a real port 7
		if err != nil {
			log.Fatal(err)
		}
		defer ln.Close()
		echoes.Go(func() {
			if c, err := ln.Accept(); err == nil {
				io.Copy(c, c)
				c.Close()
			}
		})
	}
	for from, to := range map[*stunt.Node]string{alice: "bob:7", bob: "alice:7"} {
		c, err := from.Dial(ctx, "tcp", to)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Fprint(c, "hi")
		c.CloseWrite()
		back, _ := io.ReadAll(c)
		c.Close()
		fmt.Printf("%s says %q\n", c.Peer().ID, back)
	}
	echoes.Wait()
	// Unordered output:
	// bob says "hi"
	// alice says "hi"
}

// Dialling by the fingerprint of a key trusts nobody: not the server, and not
// whoever holds a name there.
func ExampleFingerprint() {
	server, stop := startServer()
	defer stop()
	ctx := context.Background()

	// Keep a key with LoadKey; this one ends with the program.
	ln, err := stunt.Listen(ctx, stunt.Config{Server: server, Key: stunt.NewKey()})
	if err != nil {
		log.Fatal(err)
	}
	defer ln.Close()
	fingerprint := stunt.Fingerprint(ln.Node().Key()) // tell it to whoever shall dial

	d := &stunt.Dialer{Config: stunt.Config{Server: server}}
	defer d.Close()
	c, err := d.DialPeer(ctx, fingerprint)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	p, _ := stunt.PeerOf(c)
	fmt.Println(p.Fingerprint() == fingerprint)
	// Output: true
}

// Only peers on a list may connect. The hook is asked before any address of
// the listener is given away.
func ExampleConfig_allow() {
	server, stop := startServer()
	defer stop()
	ctx := context.Background()

	friend, stranger := stunt.NewKey(), stunt.NewKey()
	list := map[string]bool{stunt.Fingerprint(friend.Public().(ed25519.PublicKey)): true}
	ln, err := stunt.Listen(ctx, stunt.Config{Server: server, ID: "alice",
		Allow: func(_ context.Context, p stunt.Peer) error {
			if !list[p.Fingerprint()] {
				return errors.New("not on the list")
			}
			return nil
		}})
	if err != nil {
		log.Fatal(err)
	}
	defer ln.Close()
	for _, key := range []ed25519.PrivateKey{friend, stranger} {
		d := &stunt.Dialer{Config: stunt.Config{Server: server, Key: key}}
		c, err := d.DialPeer(ctx, "alice")
		if err == nil {
			c.Close()
		}
		fmt.Println(err == nil, errors.Is(err, stunt.ErrNotAuthorized))
		d.Close()
	}
	// Output:
	// true false
	// false true
}

// A trace tells each step of a dial.
func ExampleTrace() {
	server, stop := startServer()
	defer stop()
	ctx := context.Background()
	ln, err := stunt.Listen(ctx, stunt.Config{Server: server, ID: "alice"})
	if err != nil {
		log.Fatal(err)
	}
	defer ln.Close()

	var mu sync.Mutex
	seen := make(map[stunt.Phase]bool)
	d := &stunt.Dialer{Config: stunt.Config{Server: server, Trace: &stunt.Trace{
		Step: func(s stunt.Step) {
			mu.Lock()
			defer mu.Unlock()
			seen[s.Phase] = true // s.At, s.Remote, s.Method and s.Err say more
		},
	}}}
	defer d.Close()
	c, err := d.DialContext(ctx, "tcp", "alice")
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	mu.Lock()
	defer mu.Unlock()
	for _, p := range []stunt.Phase{stunt.PhaseDialing, stunt.PhaseRinging, stunt.PhaseAnswered, stunt.PhaseVerified, stunt.PhaseSelected} {
		fmt.Println(p, seen[p])
	}
	path := c.(*stunt.Conn).Path()
	fmt.Println(path.Security) // path.Method, Remote and Timing depend on where this runs
	// Output:
	// dialing true
	// ringing true
	// answered true
	// verified true
	// selected true
	// encrypted
}
