package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	pb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/gostunt/stunt"
)

// runBob is a program on a train: an HTTP client and a gRPC client.
func runBob(ctx context.Context, e *env, args []string) error {
	p, err := newPeer(e, "bob", args)
	if err != nil {
		return err
	}
	defer p.node.Close()
	if err := p.introduce(ctx); err != nil {
		return err
	}
	for _, part := range []func(context.Context) error{p.page, p.calls} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	if p.relayed.Load() {
		p.tell("has had bytes carried by the server, encrypted from end to end, while there was no direct path")
	} else {
		p.tell("has had no byte carried by the server")
	}
	return nil
}

// dial is the DialContext of bob's clients, which tells about the path.
func (p *peer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	began := time.Now()
	c, err := p.node.Dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	path := c.Path()
	p.tell("has a net.Conn to %s after %s: %v", address, p.trips(time.Since(began)), path)
	if path.Method == stunt.Relayed {
		p.tell("goes through the server, which can read none of it, because %s", path.NoDirect)
	} else {
		p.tell("goes to alice and nobody else: the server sees no byte of this connection")
	}
	return c, nil
}

// page fetches a page, and then the blob, over one connection.
func (p *peer) page(ctx context.Context) error {
	p.tell("asks for http://alice/")
	tr := &http.Transport{DialContext: p.dial}
	defer tr.CloseIdleConnections()
	client := &http.Client{Transport: tr}
	began := time.Now()
	body, _, err := get(ctx, client, "http://alice/", io.ReadAll)
	if err != nil {
		return err
	}
	p.tell("reads %q, %s after asking", body, p.trips(time.Since(began)))

	began = time.Now()
	h := sha256.New()
	n, header, err := get(ctx, client, "http://alice/blob", func(r io.Reader) (int64, error) { return io.Copy(h, r) })
	if err != nil {
		return err
	}
	if got, want := fmt.Sprintf("%x", h.Sum(nil)), header.Get("X-Sha256"); got != want {
		return fmt.Errorf("the blob's SHA-256 is %s, alice says %s", got, want)
	}
	s := time.Since(began).Seconds()
	p.tell("moved %d MiB over the same connection in %.2f s, %.0f Mbit/s; SHA-256 %s equals alice's",
		n>>20, s, float64(n)*8/1e6/s, header.Get("X-Sha256")[:12]+"…")
	return nil
}

func get[T any](ctx context.Context, c *http.Client, url string, read func(io.Reader) (T, error)) (body T, h http.Header, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return body, nil, err
	}
	resp, err := c.Do(req)
	if err != nil {
		return body, nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return body, nil, errors.New(resp.Status)
	}
	body, err = read(resp.Body)
	return body, resp.Header, err
}

// calls makes a unary and a streaming gRPC call.
func (p *peer) calls(ctx context.Context) error {
	p.tell("")
	p.tell("calls alice over gRPC; this is a second connection between the two, from another port")
	cc, err := grpc.NewClient("passthrough:///alice:50051",
		grpc.WithTransportCredentials(insecure.NewCredentials()), // the link is encrypted already
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) { return p.dial(ctx, "tcp", address) }))
	if err != nil {
		return err
	}
	defer cc.Close()
	service := pb.NewTestServiceClient(cc)
	r, err := service.UnaryCall(ctx, &pb.SimpleRequest{Payload: &pb.Payload{Body: []byte("ping")}})
	if err != nil {
		return err
	}
	p.tell("unary call: ping → %s", r.GetPayload().GetBody())

	stream, err := service.FullDuplexCall(ctx)
	if err != nil {
		return err
	}
	const messages = 5
	began := time.Now()
	for i := range messages {
		if err := stream.Send(&pb.StreamingOutputCallRequest{Payload: &pb.Payload{Body: []byte{byte(i)}}}); err != nil {
			return err
		}
		r, err := stream.Recv()
		if err != nil {
			return err
		}
		if b := r.GetPayload().GetBody(); len(b) != 1 || b[0] != byte(i) {
			return fmt.Errorf("message %d came back as %v", i, b)
		}
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	if _, err := stream.Recv(); err != io.EOF {
		return fmt.Errorf("the stream did not end: %v", err)
	}
	p.tell("streaming call: %d messages there and back in %s", messages, p.trips(time.Since(began)))
	return nil
}
