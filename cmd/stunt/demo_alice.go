package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	pb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/gostunt/stunt"
)

// runAlice is a program at home: an HTTP server and a gRPC server, on two
// virtual ports of one node.
func runAlice(ctx context.Context, e *env, args []string) error {
	p, err := newPeer(e, "alice", args)
	if err != nil {
		return err
	}
	defer p.node.Close()
	if err := p.introduce(ctx); err != nil {
		return err
	}
	web, err := p.node.Listen(ctx, 80)
	if err != nil {
		return err
	}
	rpc, err := p.node.Listen(ctx, 50051)
	if err != nil {
		return err
	}
	p.tell("serves HTTP on %v and gRPC on %v", web.Addr(), rpc.Addr())
	p.tell("ready")

	hs := &http.Server{Handler: p.pages(), ConnContext: stunt.ConnContext, ReadHeaderTimeout: 10 * time.Second}
	gs := grpc.NewServer()
	pb.RegisterTestServiceServer(gs, &echo{})
	var g errgroup.Group
	g.Go(func() error { return hs.Serve(web) })
	g.Go(func() error { return gs.Serve(rpc) })
	<-ctx.Done()
	bye, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	hs.Shutdown(bye)
	gs.Stop()
	g.Wait() // both say that they were closed, which they were
	return nil
}

// pages is alice's web site.
func (p *peer) pages() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		who, _ := stunt.PeerFromContext(r.Context())
		fmt.Fprintf(w, "hello %.8s…, this is alice", who.Fingerprint())
	})
	mux.HandleFunc("GET /blob", func(w http.ResponseWriter, r *http.Request) {
		h := sha256.New()
		io.Copy(h, blob(p.mib))
		w.Header().Set("X-Sha256", fmt.Sprintf("%x", h.Sum(nil)))
		io.Copy(w, blob(p.mib))
	})
	return mux
}

// echo answers with what it is asked for.
type echo struct {
	pb.UnimplementedTestServiceServer
}

func (*echo) UnaryCall(_ context.Context, r *pb.SimpleRequest) (*pb.SimpleResponse, error) {
	return &pb.SimpleResponse{Payload: &pb.Payload{Body: []byte(strings.ToUpper(string(r.GetPayload().GetBody())))}}, nil
}

func (*echo) FullDuplexCall(s grpc.BidiStreamingServer[pb.StreamingOutputCallRequest, pb.StreamingOutputCallResponse]) error {
	for {
		r, err := s.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := s.Send(&pb.StreamingOutputCallResponse{Payload: r.GetPayload()}); err != nil {
			return err
		}
	}
}
